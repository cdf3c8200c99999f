"""Text from outside reaches no terminal raw: every command, with text a terminal would obey wherever text may stand."""

import json
import logging
import re
import sqlite3
from contextlib import closing

import pytest
import typer
from sqlalchemy import String
from typer.testing import CliRunner

from gateway.cli.main import app
from gateway.cli.run import OneLine
from gateway.ledger import tables

pytestmark = pytest.mark.slow

HOSTILE = "\x1b[2J\x1b]0;x\x07\r\nPAID\x9b31m\x7f\u202elive\u2066\u2028\u200b"
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f]|^PAID", re.MULTILINE)

PARSED = frozenset(
    {"state", "kind", "funding", "event", "status", "day", "service", "release", "outcome", "plate_colour", "key"}
)
"""Columns whose words the ledger itself chooses among; most of them cannot hold another."""


def commands(command, path=()):
    """Every command with its parameters, groups that do something by themselves included."""
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))
    if path and (not hasattr(command, "commands") or command.invoke_without_command):
        yield path, command.params


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.fixture
def hostile(site, ledger):
    """A site whose ledger holds hostile text in every column that has text of others."""
    with closing(sqlite3.connect(site.parent / "ledger.db")) as connection, connection:
        connection.execute("pragma foreign_keys = off")
        connection.execute(
            "insert into mandate (id, status, funding, channel, contract_ref, limit_fen, stand_in_limit_fen,"
            " imported_at) values (?, 'active', 'bank_online', 'b', '1', 1, 0, 1)",
            [HOSTILE],
        )
        for table in tables.metadata.tables.values():
            ids = {column.name for column in table.columns if column.primary_key or column.foreign_keys}
            for column in table.columns:
                if isinstance(column.type, String) and column.name not in PARSED | ids and "id" not in column.name:
                    connection.execute(f"update or ignore {table.name} set {column.name} = ?", [HOSTILE])
    return site


def given(path, params, site, text):
    """The command line with this text in every place that takes any."""
    words = []
    for parameter in params:
        option = parameter.opts[0]
        if getattr(parameter, "is_flag", False):
            continue
        value = str(site) if option == "--config" else text
        if parameter.param_type_name == "argument":
            words.append(value)
        elif option == "--config" or parameter.required:
            words += [option, value]
    return [*path, *words]


def check(arguments):
    result = CliRunner().invoke(app, arguments)
    for said in (result.stdout, result.stderr):
        found = OBEYED.search(said)
        assert found is None, (arguments, said[max(0, found.start() - 60) : found.end() + 20])
    if "--json" in arguments and result.stdout:
        json.loads(result.stdout)
    return result


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_what_is_typed_comes_back_visible(hostile, path, monkeypatch):
    """Also in what the library that reads the command line says of it."""
    monkeypatch.setattr("os.nice", lambda _: None)
    monkeypatch.chdir(hostile.parent)  # some commands make a file of this name
    if path in ENDLESS:
        return
    place = hostile.parent / f"{HOSTILE.replace('/', '')}.csv"
    place.write_text(f"mandate_id,{HOSTILE}\n{HOSTILE}\n", encoding="utf-8")
    for text in (HOSTILE, str(place)):
        check(given(path, COMMANDS[path], hostile, text))
    check([*path, f"--{HOSTILE}", "--config", str(hostile)])
    check([*path, HOSTILE, HOSTILE, HOSTILE, HOSTILE, "--config", str(hostile)])


ENDLESS = {("run",), ("card", "watch")}
"""Commands that take no text and go on until they are stopped: what a gateway prints is its log, events are codes."""

READS = [
    ("status",),
    ("check-config",),
    ("passages",),
    *(("passages", "show", str(n)) for n in range(1, 9)),
    ("debits",),
    *(("debits", "show", str(n)) for n in range(1, 7)),
    ("debits", "history", "2"),
    ("debts",),
    ("clearing", "items"),
    ("clearing", "show", "20261123"),
    ("mandates", "list"),
    ("mandates", "show", HOSTILE),
    ("lists", "show"),
    ("ledger", "accounts"),
    ("ledger", "accounts", "--obligors"),
    ("ledger", "verify"),
    ("rules", "show"),
    ("privacy", "erase", "--older-than", "1", "--dry-run"),
]


@pytest.mark.parametrize("more", [(), ("--json",), ("--unmask",)], ids=["text", "json", "unmasked"])
@pytest.mark.parametrize("command", READS, ids=lambda command: " ".join(command).encode("unicode_escape").decode())
def test_what_the_ledger_holds_is_shown_visible(hostile, command, more):
    shown = check([*command, "--config", str(hostile), *more])
    assert shown.stdout or shown.stderr


def test_hostile_text_is_shown_and_not_left_out(hostile):
    told = check(["mandates", "show", HOSTILE, "--config", str(hostile)]).stdout
    assert r"\x1b[2J" in told
    facts = json.loads(check(["mandates", "show", HOSTILE, "--config", str(hostile), "--json"]).stdout)
    assert facts["mandate_id"] == HOSTILE


@pytest.mark.parametrize("name", ["site.toml", "rules.toml"])
def test_names_and_keys_of_a_file_are_shown_visible(site, name):
    key = json.dumps(HOSTILE)
    text = f"version = {key}\n{key} = 1\n[{key}]\n{key} = {key}\n"
    (site.parent / name).write_text(text, encoding="utf-8")
    for arguments in (["check-config", "--config"], ["rules", "check"], ["rules", "diff"]):
        result = check([*arguments, str(site.parent / name)])
        assert result.exit_code in (1, 2)


def test_a_log_line_is_one_line_of_what_can_be_seen():
    record = logging.LogRecord("a", logging.WARNING, "f", 1, "bank said %s", (HOSTILE,), None)
    assert OBEYED.search(OneLine().format(record)) is None
