"""`etcgw rules`: the debit rules in force, whether a file of rules is right, and what differs between two."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gateway.cli import labels
from gateway.cli.check import problem_facts, show_problems, wrong_file
from gateway.cli.columns import Column, Columns, each, english, only, said, show_table
from gateway.cli.help import Commands
from gateway.cli.options import ConfigOption, JsonOption, screen_of, site_of
from gateway.cli.screen import BAD, DOUBTFUL, GOOD, Cell, Screen
from gateway.texts.catalogue import Words

if TYPE_CHECKING:
    from gateway.rules.loading import DebitRules
    from gateway.views.rules import Difference, Rule

app = Commands(
    "rules",
    no_args_is_help=True,
)


@app.command()
def show(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    toml: Annotated[bool, typer.Option("--toml")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the rules in force at a site, and which of them are not as shipped."""
    from gateway.rules.loading import load_rules, shipped_rules
    from gateway.views.rules import rules_beside

    screen = screen_of(context)
    site = site_of(context, config)
    rules, shipped = load_rules(site.rules.file), shipped_rules()
    found = rules_beside(rules, shipped)
    if as_json:
        file = None if site.rules.file is None else str(site.rules.file)
        screen.json({**_named(rules), "file": file, "shipped": _named(shipped), "rules": each(RULE)(screen, found)})
    elif toml:
        for line in rules.body.rstrip("\n").split("\n"):
            screen.line(line)
    else:
        _show(screen, rules, site.rules.file, found)


def _text(_: Screen, value: object) -> str:
    """A value as the document writes it; nothing for a key that is not there."""
    import json

    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _value(screen: Screen, rule: Rule) -> Cell:
    return Cell(_text(screen, rule.value), "" if rule.as_shipped else DOUBTFUL)


RULE: Final[Columns[Rule]] = (
    Column("key", labels.KEY),
    Column("value"),
    said(labels.VALUE, _value, wrap_at=12),
    *only("as_shipped", "shipped"),
    said(
        Words("label.shipped"),
        lambda screen, rule: "" if rule.as_shipped else _text(screen, rule.shipped),
        rank=1,
        wrap_at=12,
    ),
    Column("meaning", labels.MEANING, text=Screen.word, data=english, rank=2, wrap_at=24),
)


def _show(screen: Screen, rules: DebitRules, file: Path | None, found: Sequence[Rule]) -> None:
    say = screen.say
    changed = sum(not rule.as_shipped for rule in found)
    screen.pairs(
        [
            (screen.word(labels.VERSION), rules.version),
            (screen.word(labels.DIGEST), rules.digest),
            (screen.word(labels.FILE), say("rules.none-as-shipped") if file is None else str(file)),
            (say("rules.changed"), say("rules.keys", changed=changed, found=len(found))),
        ]
    )
    screen.line()
    show_table(screen, RULE, found)


@app.command()
def check(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Check a file of rules without putting it in force. Exit 2 when it is wrong."""
    from gateway.rules.loading import RulesError, load_rules

    screen = screen_of(context)
    say = screen.say
    try:
        rules = load_rules(file)
    except RulesError as error:
        if not as_json:
            count = len(error.problems)
            screen.pairs(
                [
                    (screen.word(labels.FILE), str(file)),
                    (say("check.verdict"), Cell(say("check.count-wrong", count=count), BAD)),
                ]
            )
            show_problems(screen, error.problems)
        wrong = {"ok": False, "file": str(file), "problems": problem_facts(error.problems)}
        raise wrong_file("rules_wrong", file, error.problems, wrong) from error
    if as_json:
        screen.json({"ok": True, "file": str(file), "problems": [], **_named(rules)})
        return
    screen.pairs(
        [
            (screen.word(labels.FILE), str(file)),
            (screen.word(labels.VERSION), rules.version),
            (screen.word(labels.DIGEST), rules.digest),
            (say("check.verdict"), Cell(say("check.order"), GOOD)),
        ]
    )


@app.command(name="diff")
def differences(
    context: typer.Context,
    first: Annotated[Path, typer.Argument(metavar="A", show_default=False)],
    second: Annotated[Path | None, typer.Argument(metavar="B", show_default="the rules in force")] = None,
    *,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which keys differ between two files of rules, or between one and the rules in force."""
    from gateway.rules.loading import load_rules
    from gateway.views.rules import differences as between

    screen = screen_of(context)
    a = load_rules(first)
    b = load_rules(second if second is not None else site_of(context, config).rules.file)
    found = between(a, b)
    columns: Columns[Difference] = (
        Column("key", labels.KEY),
        Column("a", Words("label.a"), text=_text, wrap_at=12),
        Column("b", Words("rules.b-force") if second is None else Words("rules.b"), text=_text, wrap_at=12),
    )
    if as_json:
        screen.json({"a": _named(a), "b": _named(b), "differences": each(columns)(screen, found)})
    elif found:
        show_table(screen, columns, found)
    else:
        screen.note(screen.say("rules.no-difference"))


def _named(rules: DebitRules) -> dict[str, str]:
    return {"version": rules.version, "digest": rules.digest}
