"""Help of every command, in both languages: its texts stand in the catalogue, all of them, and nothing else does."""

import re

import pytest
from typer.main import get_command

from gateway.cli.help import TITLES
from gateway.cli.main import app
from gateway.texts import catalogue
from gateway.texts.catalogue import Language, Words

LIBRARY = ("Usage:", "Options", "Arguments", "Commands", "[required]", "[default:", "[env var:", "Show this message")
"""Words of the library, which a Chinese help has none of."""

BESIDE = {"help.exit-codes", "help.any.help", "help.title.usage", *(words.code for words in TITLES.values())}
"""Codes that belong to no command and no option of one."""


def commands(command=None, path=()):
    """Every command of the program with the words that call it."""
    command = command or get_command(app)
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


ALL = list(commands())
LEAVES = [path for path, command in ALL if not getattr(command, "commands", {})]


def codes_of(path, command):
    """Codes of all texts in a command's help."""
    own = f"help.{'.'.join(path) or 'etcgw'}"
    yield own
    for parameter in command.params:
        name = parameter.name.replace("_", "-")
        yield f"{own}.{name}" if catalogue.has(f"{own}.{name}") else f"help.any.{name}"
        if isinstance(parameter.show_default, str):
            yield f"{own}.{name}.default"


def squeezed(text):
    """Text without what lays it out on a screen."""
    return re.sub(r"[\s│╭╮╰╯─]", "", text)


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) or "etcgw" for path, _ in ALL])
def test_every_text_of_a_help_is_shown(run, path, command, language):
    shown = run(*path, "--help", "--lang", language.value, COLUMNS="400").stdout
    for code in codes_of(path, command):
        assert squeezed(Words(code).told(language)) in squeezed(shown), code
    for parameter in command.params:
        assert all(name in shown for name in parameter.opts if name.startswith("--"))
    assert not [word for word in LIBRARY if language is Language.ZH and word in shown]
    assert not re.search(r"help\.[a-z]", shown), "a code was shown, not its text"


@pytest.mark.parametrize("path", [path for path, _ in ALL], ids=[" ".join(path) or "etcgw" for path, _ in ALL])
def test_the_first_sentence_fits_a_list_of_commands(path):
    for language in Language:
        summary = Words(f"help.{'.'.join(path) or 'etcgw'}").told(language).split("\n\n")[0]
        assert summary.endswith((".", "。"))
        assert len(summary) < 120


def test_the_catalogue_has_no_help_that_is_never_shown():
    needed = {code for path, command in ALL for code in codes_of(path, command)} | BESIDE
    assert {code for code in catalogue.codes() if code.startswith("help.")} == needed


def test_the_commands_are_these():
    assert sorted(" ".join(path) for path in LEAVES) == [
        "card apdu",
        "card batch",
        "card compare",
        "card purchase",
        "card read",
        "card recover",
        "card verdict",
        "card watch",
        "check-config",
        "clearing explain",
        "clearing items",
        "clearing report",
        "clearing run",
        "clearing show",
        "clearing write-off",
        "debits adjust",
        "debits history",
        "debits pay-refund",
        "debits refund",
        "debits resolve",
        "debits show",
        "debts pay",
        "debts retry",
        "debts write-off",
        "init",
        "ledger accounts",
        "ledger adopt",
        "ledger backup",
        "ledger create",
        "ledger key",
        "ledger restore",
        "ledger verify",
        "lists build",
        "lists lookup",
        "lists roll-back",
        "lists show",
        "mandates import",
        "mandates limit",
        "mandates list",
        "mandates show",
        "passages show",
        "privacy erase",
        "psam check",
        "psam info",
        "pump authorise",
        "pump decode",
        "pump show",
        "pump watch",
        "pumps",
        "readers",
        "rsu decode",
        "rsu dialects",
        "rules check",
        "rules diff",
        "rules show",
        "run",
        "sales receipt",
        "sales reconcile",
        "sales settle",
        "sales show",
        "status",
        "tac verify",
        "tag read",
        "tag verdict",
    ]


def test_every_command_but_run_speaks_json():
    for path, command in ALL:
        if path in (*LEAVES, ("passages",), ("debits",), ("debts",)) and path != ("run",):
            assert "--json" in [name for parameter in command.params for name in parameter.opts], path
