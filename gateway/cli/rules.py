"""`etcgw rules`: the debit rules in force, whether a file of rules is right, and what differs between two."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import labels
from gateway.cli.check import problem_facts, show_problems
from gateway.cli.exits import ExitCode
from gateway.cli.options import HELP_NAMES, ConfigOption, JsonOption, screen_of, site_of
from gateway.cli.screen import BAD, DOUBTFUL, GOOD, Cell, Column, Screen

if TYPE_CHECKING:
    from gateway.rules.loading import DebitRules

app = typer.Typer(
    name="rules",
    help="Debit rules: stand-in, retries, debts, listing, limits.",
    no_args_is_help=True,
    context_settings=HELP_NAMES,
)


@app.command()
def show(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    toml: Annotated[
        bool, typer.Option("--toml", help="The whole document as TOML, complete, to keep or compare.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the rules in force at a site, and which of them are not as shipped."""
    from gateway.rules.loading import load_rules, shipped_rules

    screen = screen_of(context)
    site = site_of(context, config)
    rules, shipped = load_rules(site.rules.file), shipped_rules()
    facts = _facts(rules, shipped)
    if as_json:
        file = None if site.rules.file is None else str(site.rules.file)
        screen.json({**_named(rules), "file": file, "shipped": _named(shipped), "rules": facts})
    elif toml:
        for line in rules.body.rstrip("\n").split("\n"):
            screen.line(line)
    else:
        _show(screen, rules, site.rules.file, facts)


def _facts(rules: DebitRules, shipped: DebitRules) -> list[dict[str, Any]]:
    """Every key but the version, with the value shipped beside its own."""
    from gateway.rules.loading import diff, flat

    before = {key: value for key, value, _ in diff(shipped, rules)}
    meanings = _meanings()
    return [
        {
            "key": key,
            "value": value,
            "as_shipped": key not in before,
            "shipped": before.get(key, value),
            "meaning": _meaning(meanings, key),
        }
        for key, value in flat(rules)
        if key != "version"
    ]


def _show(screen: Screen, rules: DebitRules, file: Path | None, facts: list[dict[str, Any]]) -> None:
    say = screen.say
    changed = sum(not fact["as_shipped"] for fact in facts)
    screen.pairs(
        [
            (say("Version", "版本"), rules.version),
            (say("Digest", "摘要"), rules.digest),
            (say(*labels.FILE), say("none: as shipped", "无,采用随附规则") if file is None else str(file)),
            (say("Changed", "改动"), say(f"{changed} of {len(facts)} keys", f"{len(facts)} 项中 {changed} 项")),
        ]
    )
    screen.line()
    columns = [
        Column(say(*labels.KEY)),
        Column(say(*labels.VALUE), wrap_at=12),
        Column(say("Shipped", "随附值"), rank=1, wrap_at=12),
        Column(say(*labels.MEANING), rank=2, wrap_at=24),
    ]
    screen.table(
        columns,
        [
            [
                fact["key"],
                Cell(_text(fact["value"]), "" if fact["as_shipped"] else DOUBTFUL),
                "" if fact["as_shipped"] else _text(fact["shipped"]),
                fact["meaning"],
            ]
            for fact in facts
        ],
    )


@app.command()
def check(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Document of rules (TOML).", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Check a file of rules without putting it in force. Exit 2 when it is wrong."""
    from gateway.rules.loading import RulesError, load_rules

    screen = screen_of(context)
    say = screen.say
    try:
        rules = load_rules(file)
    except RulesError as error:
        if as_json:
            screen.json({"ok": False, "file": str(file), "problems": problem_facts(error.problems)})
        else:
            count = len(error.problems)
            screen.pairs(
                [
                    (say(*labels.FILE), str(file)),
                    (say("Verdict", "结论"), Cell(say(f"{count} wrong", f"{count} 处有误"), BAD)),
                ]
            )
            show_problems(screen, error.problems)
        raise typer.Exit(ExitCode.USAGE) from error
    if as_json:
        screen.json({"ok": True, "file": str(file), "problems": [], **_named(rules)})
        return
    screen.pairs(
        [
            (say(*labels.FILE), str(file)),
            (say("Version", "版本"), rules.version),
            (say("Digest", "摘要"), rules.digest),
            (say("Verdict", "结论"), Cell(say("in order", "正常"), GOOD)),
        ]
    )


@app.command(name="diff")
def differences(
    context: typer.Context,
    first: Annotated[Path, typer.Argument(metavar="A", help="Document of rules (TOML).", show_default=False)],
    second: Annotated[
        Path | None, typer.Argument(metavar="B", help="Another one.", show_default="the rules in force")
    ] = None,
    *,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which keys differ between two files of rules, or between one and the rules in force."""
    from gateway.rules.loading import diff, load_rules

    screen = screen_of(context)
    say = screen.say
    a = load_rules(first)
    b = load_rules(second if second is not None else site_of(context, config).rules.file)
    found = diff(a, b)
    if as_json:
        rows = [{"key": key, "a": before, "b": after} for key, before, after in found]
        screen.json({"a": _named(a), "b": _named(b), "differences": rows})
        return
    if not found:
        screen.note(say("no difference", "无差异"))
        return
    columns = [
        Column(say(*labels.KEY)),
        Column("A", wrap_at=12),
        Column(say("B (in force)", "B (现行)") if second is None else "B", wrap_at=12),
    ]
    screen.table(columns, [[key, _text(before), _text(after)] for key, before, after in found])


def _named(rules: DebitRules) -> dict[str, str]:
    return {"version": rules.version, "digest": rules.digest}


def _text(value: Any) -> str:  # noqa: ANN401 - whatever the document holds
    """A value as the document writes it; nothing for a key that is not there."""
    import json

    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _meanings() -> dict[str, str]:
    from gateway.documents import parameters
    from gateway.rules.schema import Document

    return {key: text for key, _, text in parameters(Document)}


def _meaning(meanings: dict[str, str], key: str) -> str:
    """What a key means; one inside a table of free keys means what the table does."""
    return meanings.get(key) or meanings.get(key.rpartition(".")[0], "")
