"""The program itself: help of every command, light start, languages, and every error with its exit code."""

import importlib
import json
import subprocess
import sys

import pytest
from sqlalchemy.exc import OperationalError

from drivers.errors import DeviceRefused, DeviceTimeout, DeviceUnavailable
from gateway.cli import status
from gateway.cli.errors import HANDLERS, CliFault, ExitCode, explain
from gateway.cli.program import CommandLine
from gateway.ledger.backup import CopyDamaged
from gateway.ledger.engines import StorageTrouble
from gateway.ledger.file import AlreadyRunning, LedgerLost
from gateway.ledger.schema import SchemaTooNew, SchemaTooOld
from gateway.ledger.workers import WorkerLost
from gateway.ledger.writer import StorageUnavailable
from gateway.payers.mandates import MandateImportError
from gateway.texts.catalogue import Language
from protocols.errors import LocalProtocolError, RemoteProtocolError

HEAVY = {
    "alembic",
    "asyncio",
    "construct",
    "cryptography",
    "gateway.config",
    "pymodbus",
    "serial",
    "smartcard",
    "sqlalchemy",
}
"""Libraries that take longer to import than a light command takes to run."""


def heavy_imports(arguments, code):
    """What a command imports of them."""
    program = f"""
import sys
from gateway.cli.main import app
try:
    app({[str(a) for a in arguments]!r})
except SystemExit as end:
    assert end.code == {code}, end.code
print("HEAVY", *sorted({HEAVY!r} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["rsu", "decode", "--help"], ["passages", "show", "--help"], ["card", "apdu", "--help"]]
)
def test_help_needs_no_heavy_library(arguments):
    assert heavy_imports(arguments, 0) == []


def test_status_reads_a_file_and_needs_no_database(site):
    """A person who asks whether the gateway runs does not wait for the libraries that it runs on."""
    assert heavy_imports(["status", "--config", site], 3) == ["gateway.config"]


def test_reading_the_ledger_needs_the_database_alone(site, ledger):
    # SQLAlchemy itself imports asyncio.
    assert heavy_imports(["passages", "--config", site], 0) == ["asyncio", "gateway.config", "sqlalchemy"]


def test_version(run):
    assert run("--version").stdout.startswith("etcgw ")


def test_without_a_command_comes_help(run):
    assert "check-config" in run(code=2).output


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, Language.EN),
        ({"LANG": "zh_CN.UTF-8"}, Language.ZH),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, Language.EN),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_TW"}, Language.ZH),
        ({"LC_ALL": "", "LANG": "zh_CN"}, Language.ZH),
        ({"LANG": "de_DE.UTF-8"}, Language.EN),
    ],
)
def test_language_of_the_locale(environment, language):
    assert Language.of_environment(environment) is language


def test_language_by_option_goes_before_the_locale(run, site, ledger):
    assert "已付" in run("passages", "--config", site, LANG="zh_CN.UTF-8").stdout
    assert "已付" in run("--lang", "zh", "passages", "--config", site).stdout
    assert "已付" not in run("--lang", "en", "passages", "--config", site, LC_ALL="zh_CN.UTF-8").stdout
    run("--lang", "fr", "passages", "--config", site, code=2)


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("status --lang zh", "--lang zh status"),
        ("--lang en status --lang=zh", "--lang=zh status"),
        ("--json passages --last 3", "passages --last 3 --json"),
        ("debits --json show 3", "debits show 3 --json"),
        ("status --json --lang zh --json", "--lang zh status --json"),
        ("status --lang --json", "--lang  status --json"),
        ("rsu decode --json -- --lang --json", "rsu decode --json -- --lang --json"),
    ],
)
def test_language_and_json_may_stand_anywhere(typed, read):
    line = CommandLine.of(typed.split())
    assert " ".join(line.arguments) == read
    assert line.as_json == ("--json" in read)


def test_language_and_json_behind_and_before_the_command(run, site, ledger):
    assert "已付" in run("passages", "--config", site, "--lang", "zh").stdout
    assert json.loads(run("--json", "passages", "--config", site).stdout)["passages"]
    assert json.loads(run("debits", "--json", "show", "1", "--config", site).stdout)["debit_id"]
    assert "Traceback" in run("status", "--config", site, "--lang", "zh", "--traceback", code=3).stderr


def test_json_is_the_same_in_both_languages(ask, site, ledger):
    english = ask("--lang", "en", "passages", "--config", site)
    assert english == ask("--lang", "zh", "passages", "--config", site)
    reason = english["passages"][0]["reason"]
    assert reason["zh"]
    assert reason["en"]


# --- errors ---------------------------------------------------------------------------------------------------------


class Locked(Exception):
    """What sqlite3 raises, with the code this test wants."""

    sqlite_errorcode = 5


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DeviceUnavailable("gone", device="lane-1"), 3),
        (DeviceRefused("said no", device="lane-1"), 1),
        (DeviceTimeout("mute", device="lane-1", hint="look at it"), 4),
        (RemoteProtocolError("bad", field="CRC"), 5),
        (LocalProtocolError("bad", field="CRC"), 5),
        (MandateImportError(["line 2"]), 1),
        (AlreadyRunning("held"), 3),
        (LedgerLost("gone"), 3),
        (CopyDamaged("row 1 missing from index"), 1),
        (WorkerLost(-9), 3),
        (SchemaTooNew("9999"), 3),
        (SchemaTooOld("0010"), 3),
        (StorageUnavailable(StorageTrouble.FULL), 3),
        (OperationalError("select", {}, Locked("locked")), 3),
        (OperationalError("select", {}, Exception("no such table: debit")), 3),
        (PermissionError(13, "denied", "/x"), 3),
        (CliFault(ExitCode.UNKNOWN, "no_answer", "who knows"), 4),
        (ZeroDivisionError("division by zero"), 70),
        (RuntimeError("two\nlines"), 70),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_errors_have_their_exit_codes_and_a_next_step(error, code, run, site, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(status, "health_at", fail)
    result = run("status", "--config", site, code=code)
    assert result.stdout == ""
    assert result.stderr.startswith("etcgw: ")
    assert "Traceback" not in result.stderr
    if not isinstance(error, CliFault | DeviceUnavailable | DeviceRefused):
        assert "  next: " in result.stderr
    assert len(result.stderr.splitlines()) <= 3


def test_a_busy_ledger_is_told_from_a_foreign_one():
    busy = explain(OperationalError("select", {}, Locked("locked")))
    foreign = explain(OperationalError("select", {}, Exception("no such table: debit")))
    assert "another process" in str(busy.what)
    assert "another version" in str(foreign.likely)


def test_every_error_known_by_name_exists():
    for name in HANDLERS:
        module, _, attribute = name.rpartition(".")
        assert issubclass(getattr(importlib.import_module(module), attribute), Exception)


def test_errors_are_told_in_the_language_chosen(run, site):
    assert "可能原因" in run("--lang", "zh", "status", "--config", site, code=3).stderr


def test_traceback_only_when_asked_for(run, site, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(status, "health_at", fail)
    plain = run("status", "--config", site, code=70).stderr
    assert "--traceback" in plain
    assert "Traceback" not in plain
    assert "Traceback" in run("--traceback", "status", "--config", site, code=70).stderr


def test_wrong_usage_is_2(run, site):
    run("passages", "--nonsense", code=2)
    run("nonsense", code=2)
    run("passages", code=2)
    run("passages", "--config", site, "--last", "0", code=2)


def test_a_missing_site_file_names_it(run, tmp_path):
    assert "nowhere.toml" in run("debits", "--config", tmp_path / "nowhere.toml", code=2).stderr


def test_the_site_file_may_come_from_the_environment(ask, site, ledger):
    assert ask("passages", ETCGW_CONFIG=str(site))["passages"]


def test_ledger_commands_without_a_ledger(run, site):
    for arguments in (["passages"], ["debits"], ["ledger", "verify"], ["ledger", "accounts"], ["mandates", "list"]):
        assert "etcgw ledger create" in run(*arguments, "--config", site, code=3).stderr


def test_a_foreign_file_as_ledger(run, site):
    (site.parent / "ledger.db").write_bytes(b"no database at all" * 100)
    assert "not a database" in run("passages", "--config", site, code=3).stderr


def test_main_survives_a_terminal_without_chinese(site, ledger):
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli.main", "passages", "--config", str(site)],
        capture_output=True,
        check=False,
        env={"PYTHONIOENCODING": "ascii", "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    assert b"\\u6d4bA***01" in done.stdout


def test_input_that_is_no_text_is_bytes_and_no_bug():
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli.main", "rsu", "decode"],
        input=b"\xff\xff\x00\n",
        capture_output=True,
        check=False,
    )
    assert done.returncode == 5, done.stderr
    assert b"DAMAGED" in done.stdout


def test_a_reader_that_leaves_is_no_bug(site, ledger):
    """`etcgw ... | head -1` must not end with a traceback."""
    program = subprocess.Popen(
        [sys.executable, "-m", "gateway.cli.main", "rsu", "dialects"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    program.stdout.close()
    stderr = program.stderr.read()
    program.stderr.close()
    assert program.wait() in (0, 1)
    assert b"Traceback" not in stderr


# --- nobody is given away -------------------------------------------------------------------------------------------

SECRETS = ("99010000000000000001", "0000000000000017", "测A00001", "测A00002", "测A00017", "6217990100000001", "c" * 32)
READS = [
    ["passages"],
    ["passages", "show", "2"],
    ["passages", "show", "4"],
    ["debits"],
    ["mandates", "list"],
    ["mandates", "show", "m1"],
    ["lists", "show"],
    ["lists", "lookup", "card", "99010000000000000017"],
    ["lists", "lookup", "plate", "测A00017|0"],
    ["ledger", "verify"],
    ["ledger", "accounts"],
    ["check-config"],
    ["rules", "show"],
    ["clearing", "items"],
]


@pytest.fixture
def full_site(site, ledger, run):
    run("mandates", "import", site.parent / "mandates.csv", "--config", site)
    return site


@pytest.mark.parametrize("arguments", READS, ids=" ".join)
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_plates_and_numbers_are_masked(run, full_site, arguments, as_json):
    result = run(*arguments, "--config", full_site, *(["--json"] if as_json else []))
    for secret in SECRETS:
        assert secret not in result.output
        assert secret.encode().hex() not in result.output
    if as_json:
        assert isinstance(json.loads(result.stdout), dict)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["passages"], "测A00001"),
        (["passages", "show", "2"], "99010000000000000002"),
        (["mandates", "list"], "99010000000000000001"),
        (["mandates", "show", "m1"], "6217990100000001"),
        (["lists", "lookup", "plate", "测A00017|0"], "测A00017"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_unmask_shows_them(run, full_site, arguments, shown):
    assert shown in run(*arguments, "--config", full_site, "--unmask").stdout


def test_data_goes_to_stdout_and_talk_to_stderr(run, full_site):
    result = run("passages", "--config", full_site, COLUMNS="80")
    assert "left out" in result.stderr
    assert "left out" not in result.stdout
