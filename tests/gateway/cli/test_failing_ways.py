"""Ways to fail: each with its exit code, its error for programs and for people, no traceback, and no process left."""

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.cli import rights
from tests.gateway.cli.conftest import SITE, TARIFF
from tests.protocols.rsu.samples import vector

B4 = vector("v3-b4-183").raw
UNKNOWN_DEBIT = "f" * 32


@dataclass(frozen=True)
class Way:
    """A command that fails. `{folder}` in an argument is the site's; `spoil` makes it fail."""

    command: str
    code: int
    error: str
    spoil: Callable[[Path], object] | None = None
    stdin: bytes | None = None
    at_site: bool = True

    def arguments(self, folder: Path) -> list[str]:
        given = [word.replace("{folder}", str(folder)) for word in self.command.split()]
        return [*given, *(("--config", str(folder / "site.toml")) if self.at_site else ())]


def put(name: str, content: str | bytes) -> Callable[[Path], object]:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(data)


def gone(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def folder_at(name: str) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return spoil


def site(old: str, new: str) -> Callable[[Path], object]:
    assert old in SITE
    return put("site.toml", SITE.replace(old, new))


def rules(text: str) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        put("site.toml", SITE + '[rules]\nfile = "rules.toml"\n')(folder)
        put("rules.toml", text)(folder)

    return spoil


def clearing_rules(content: str | bytes) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        put("site.toml", SITE + '[clearing]\nrules = "clearing.toml"\n')(folder)
        put("clearing.toml", content)(folder)

    return spoil


HEAD = "mandate_id,status,funding,channel,contract_ref,limit_fen,stand_in_limit_fen,card_number,contract,plate"
GBK = "# 站点\n".encode("gbk")
USAGE = [
    Way("nonsense", 2, "wrong_usage", at_site=False),
    Way("passages nonsense", 2, "wrong_usage", at_site=False),
    Way("status", 2, "bad_value", at_site=False),
    Way("status --frobnicate", 2, "no_such_option"),
    Way("status surplus", 2, "wrong_usage"),
    Way("status --lang fr", 2, "bad_value"),
    Way("status --lang", 2, "bad_value", at_site=False),
    Way("debits show", 2, "missing_value"),
    Way("passages --last 0", 2, "bad_value"),
    Way("passages --last many", 2, "bad_value"),
    Way("passages --last 100001", 2, "bad_value"),
    Way("passages --outcome lost", 2, "bad_value"),
    Way("passages --since tomorrow", 2, "bad_value"),
    Way("passages --since 2026-13-01", 2, "bad_value"),
    Way("passages --since 999999d", 2, "bad_value"),
    Way("passages --lane lane-9", 2, "no_such_lane"),
    Way("debits --state lost", 2, "bad_value"),
    Way("debits --open --state held", 2, "bad_value"),
    Way("debits refund 1 --amount 0 --reason x", 2, "bad_value"),
    Way("debits refund 1 --amount 5", 2, "missing_value"),
    Way("debits resolve 1 --reason x", 2, "bad_value"),
    Way("clearing run someday", 2, "bad_value"),
    Way("clearing run 20261131", 2, "bad_value"),
    Way("clearing run 20261101 --bank-file nobody=x", 2, "bad_value"),
    Way("clearing run 20261101 --bank-file bank-1=/nowhere", 2, "bad_value"),
    Way("clearing explain zero --reason x", 2, "bad_value"),
    Way("ledger verify --head 12", 2, "bad_value"),
    Way("ledger restore {folder}/nowhere", 2, "bad_value"),
    Way("lists lookup card 12", 2, "bad_value"),
    Way("lists build {folder}/nowhere.csv --version L2", 2, "bad_value"),
    Way("lists build {folder}/delivery.csv --version L2 --created someday", 2, "bad_value"),
    Way("mandates import {folder}", 2, "bad_value"),
    Way("mandates limit m1", 2, "bad_value"),
    Way("mandates limit m1 --per-day lots", 2, "bad_value"),
    Way("privacy erase --dry-run", 2, "bad_value"),
]
SITE_FILES = [
    Way("status", 2, "site_file_wrong", gone("site.toml")),
    Way("passages", 2, "site_file_wrong", folder_at("site.toml")),
    Way("run", 2, "site_file_wrong", put("site.toml", b"\xff\xfe\x00")),
    Way("passages", 2, "site_file_wrong", put("site.toml", GBK)),
    Way("status", 2, "site_file_wrong", put("site.toml", "mode = ")),
    Way("status", 2, "site_file_wrong", put("site.toml", "#" * (1 << 20) + "#")),
    Way("status", 2, "site_file_wrong", site("[site]", "[site]\nnam = 1")),
    Way("status", 2, "site_file_wrong", site("lane_no = 1", 'lane_no = "one"')),
    Way("status", 2, "site_file_wrong", site('kind = "toll-open"', 'kind = "exit"')),
    Way("check-config", 2, "site_file_wrong", site('mode = "bench"', 'mode = "test"')),
    Way("check-config", 2, "site_file_wrong", put("tariffs/a.toml", "# 费率\n".encode("gbk"))),
    Way("check-config", 2, "site_file_wrong", site('"99010101"', '"99010102"')),
]
OTHER_FILES = [
    Way("rules show", 2, "rules_wrong", rules("version = ")),
    Way("rules check {folder}/rules.toml", 2, "rules_wrong", put("rules.toml", "# 规则".encode("gbk")), at_site=False),
    Way("rules check {folder}/nowhere.toml", 2, "rules_wrong", at_site=False),
    Way("rules diff {folder}/rules.toml", 2, "rules_wrong", put("rules.toml", 'version = "x"\nx = 1')),
    Way("clearing run 20261101", 2, "clearing_rules_wrong", clearing_rules("x = 1")),
    Way("clearing run 20261101", 2, "clearing_rules_wrong", clearing_rules(GBK)),
    Way("mandates import {folder}/mandates.csv", 1, "mandates_refused", put("mandates.csv", f"{HEAD}\nx")),
    Way("mandates import {folder}/mandates.csv", 1, "mandates_refused", put("mandates.csv", "签约\n".encode("gbk"))),
    Way("mandates import {folder}/ledger.db", 1, "mandates_refused"),
    Way("lists build {folder}/d.csv --version L2", 1, "list_delivery_refused", put("d.csv", "x,y\n")),
    Way("lists build {folder}/d.csv --version L2", 1, "list_delivery_refused", put("d.csv", "名单\n".encode("gbk"))),
    Way("mandates import /dev/zero", 1, "mandates_refused"),
    Way("lists build /dev/zero --version L2", 1, "list_delivery_refused"),
    Way("lists build {folder}/ledger.db --version L2", 1, "list_delivery_refused"),
    Way(
        "clearing run 20261101 --bank-file bank-1={folder}/day.csv",
        1,
        "bank_file_malformed",
        put("day.csv", "类型,日期\n".encode("gbk")),
    ),
    Way("clearing run 20261101 --bank-file bank-1={folder}/ledger.db", 1, "bank_file_malformed"),
    Way("lists show", 1, "list_unusable", gone("lists/CURRENT")),
    Way("run", 1, "list_unusable", gone("lists/CURRENT")),
    Way("run", 1, "tariff_wrong", put("tariffs/a.toml", TARIFF.replace("1500", '"a"'))),
]
LEDGERS = [
    Way("passages", 3, "no_ledger", gone("ledger.db")),
    Way("ledger accounts", 3, "ledger_unreadable", put("ledger.db", b"no database at all" * 100)),
    Way("debits", 3, "ledger_foreign", put("ledger.db", b"")),
    Way("run", 3, "ledger_lost", gone("ledger.db")),
    Way("run", 3, "ledger_unmarked", gone("ledger.db.mark")),
    Way("ledger create", 3, "ledger_exists"),
    Way("ledger verify", 2, "chain_key_wrong", gone("chain.key")),
    Way("ledger verify", 2, "chain_key_wrong", put("chain.key", "not hex")),
    Way("ledger backup {folder}/site.toml", 3, "file_unavailable"),
    Way("ledger backup {folder}/no/copy.db", 3, "file_unavailable"),
    Way("ledger key {folder}/chain.key", 2, "chain_key_wrong", at_site=False),
    Way("ledger restore {folder}/site.toml", 1, "backup_unusable"),
    Way("status", 3, "gateway_not_running"),
    Way("status", 3, "state_file_foreign", put("state.json", "{}")),
    Way("status", 3, "state_file_foreign", put("state.json", b"\xff\xfe")),
    Way("status", 3, "file_unavailable", folder_at("state.json")),
]
REFUSALS = [
    Way("passages show 999", 1, "no_such_passage"),
    Way(f"debits show {UNKNOWN_DEBIT}", 1, "debit_unknown"),
    Way("debits history 999", 1, "debit_unknown"),
    Way("mandates show m9", 1, "no_such_mandate"),
    Way("clearing show 20261101", 1, "day_not_cleared"),
    Way("privacy erase --passage 999 --dry-run", 1, "no_such_passage"),
]
FRAMES = [
    Way("rsu decode FF0", 2, "hex_wrong", at_site=False),
    Way("rsu decode hello", 2, "hex_wrong", at_site=False),
    Way(f"rsu decode {B4[:40].hex()}", 5, "frame_damaged", at_site=False),
    Way(f"rsu decode {B4.hex()} nonsense", 2, "hex_wrong", at_site=False),
    Way("rsu decode --dialect morse FF", 2, "bad_value", at_site=False),
    Way("rsu decode", 2, "bad_value", stdin=b"", at_site=False),
    Way("rsu decode", 5, "frame_damaged", stdin=bytes(range(256)), at_site=False),
    Way("rsu decode", 2, "encoding_wrong", stdin="# 天线\nFFFF\n".encode("gbk"), at_site=False),
    Way("rsu decode --file /nowhere.bin", 3, "file_unavailable", at_site=False),
    Way("rsu decode --file {folder}", 3, "file_unavailable", at_site=False),
]
WAYS = [*USAGE, *SITE_FILES, *OTHER_FILES, *LEDGERS, *REFUSALS, *FRAMES]
RUN = [way for way in WAYS if way.command == "run"]


def test_there_are_many_ways_to_fail():
    assert len(WAYS) >= 60


def names(way):
    return f"{way.command.replace(B4.hex(), 'B4')[:40]} {way.error}"


@pytest.fixture
def told(site, ledger, run):
    def call(way, *more, **environment):
        if way.spoil is not None:
            way.spoil(site.parent)
        return run(*way.arguments(site.parent), *more, code=way.code, stdin=way.stdin, **environment)

    return call


@pytest.mark.parametrize("way", [way for way in WAYS if way not in RUN], ids=names)
def test_programs_get_one_object_with_a_stable_code(told, way):
    result = told(way, "--json")
    error = json.loads(result.stdout)["error"]
    assert error["code"] == way.error, error
    assert set(error) == {"code", "text", "next"}
    assert error["text"].strip()
    assert "Traceback" not in result.output


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("way", WAYS, ids=names)
def test_people_get_a_few_lines_and_no_traceback(told, way, language):
    more = () if "--lang" in way.command else ("--lang", language)
    result = told(way, *more)
    assert result.stderr.strip()
    assert "Traceback" not in result.output
    assert 'File "' not in result.stderr


@pytest.mark.parametrize("way", [way for way in WAYS if way not in RUN and "--lang" not in way.command], ids=names)
def test_every_line_of_an_error_is_chinese_where_chinese_is_asked_for(told, way):
    error = json.loads(told(way, "--json", "--lang", "zh").stdout)["error"]
    for line in (*error["text"].splitlines(), error["next"] or "下"):
        assert re.search("[\u4e00-\u9fff]", line), line


@pytest.mark.parametrize("way", RUN, ids=names)
def test_the_gateway_that_cannot_start_says_why_in_chinese(told, way):
    (why,) = (line for line in told(way, "--lang", "zh").stderr.splitlines() if line.startswith("etcgw: "))
    assert re.search("[\u4e00-\u9fff]", why)


@pytest.mark.parametrize("way", RUN, ids=names)
def test_the_gateway_that_cannot_start_speaks_json_too(told, way):
    """It has nothing to say in JSON but why it ended."""
    result = told(Way(way.command, 2, "no_such_option", way.spoil), "--json")
    assert json.loads(result.stdout)["error"]["code"] == "no_such_option"


@pytest.mark.parametrize("command", ["status", "passages", "ledger verify"])
def test_rights(run, site, ledger, monkeypatch, command):
    nobody = SimpleNamespace(access=lambda *_, **__: False, R_OK=os.R_OK, W_OK=os.W_OK, X_OK=os.X_OK)
    monkeypatch.setattr(rights, "os", nobody)
    put("state.json", "{}")(site.parent)
    found = json.loads(run(*command.split(), "--config", site, "--json", code=3).stdout)
    assert found["error"]["code"] == "not_permitted"
    assert "sudo -u" in found["error"]["next"]


def test_an_interrupt_and_a_mistake_of_ours(run, site, ledger, monkeypatch):
    for raised, code, name in ((KeyboardInterrupt, 130, "interrupted"), (ZeroDivisionError, 70, "bug")):

        def fail(*_, raised=raised):
            raise raised

        monkeypatch.setattr("gateway.cli.status.health_at", fail)
        assert json.loads(run("status", "--config", site, "--json", code=code).stdout)["error"]["code"] == name


# --- processes ------------------------------------------------------------------------------------------------------


def program(*arguments, **more):
    return subprocess.Popen([sys.executable, "-m", "gateway.cli.main", *map(str, arguments)], **more)


@pytest.mark.parametrize(
    "command", ["passages", "debits --json", "ledger verify", "rsu dialects --json", "check-config --parameters"]
)
def test_a_pipe_that_is_closed_early(site, ledger, command):
    """Both ways to print; what a command prints makes no difference to either."""
    config = () if command.startswith("rsu") else ("--config", site)
    with program(*command.split(), *config, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        told = process.stderr.read()
        assert process.wait() == 1
    assert b"Traceback" not in told
    assert b"Exception ignored" not in told


@pytest.mark.parametrize(
    ("command", "streams", "code"),
    [
        ("passages", ">&-", 0),
        ("passages --json", "2>&-", 0),
        ("status --json", "<&- >&- 2>&-", 3),
        ("rsu decode", "<&-", 2),
        ("passages", ">/dev/full", 3),
        ("passages --json", ">/dev/full", 3),
        ("status --json", ">/dev/full 2>/dev/full", 3),
        ("--help", ">/dev/full", 3),
    ],
)
def test_streams_that_are_closed_or_full(site, ledger, command, streams, code):
    shell = ["sh", "-c", f'exec "$@" {streams}', "sh", sys.executable, "-m", "gateway.cli.main", *command.split()]
    done = subprocess.run(shell, env=os.environ | {"ETCGW_CONFIG": str(site)}, capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    assert (b"No space left" in done.stderr) == (code == 3 and "2>" not in streams)


@pytest.fixture
def terminal():
    """Both ends of a terminal: ours, and the one for a program."""
    ends = list(pty.openpty())
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


def wait_for_reading(process):
    """Returns once the program waits for somebody to type."""
    for line in process.stderr:
        if b"Ctrl-D" in line:
            return
    pytest.fail(f"it has ended with {process.wait()}")


@pytest.mark.parametrize("more", [(), ("--json",)], ids=["text", "json"])
def test_ctrl_c_while_it_waits_for_input(terminal, more):
    with program("rsu", "decode", *more, stdin=terminal[1], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_for_reading(process)
        process.send_signal(signal.SIGINT)
        out, told = process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in told
    assert (json.loads(out)["error"]["code"] if more else out) == ("interrupted" if more else b"")


def test_a_terminal_that_is_closed_takes_the_command_along(terminal):
    def own_it():
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    ours, theirs = terminal
    streams = {"stdin": theirs, "stdout": theirs, "stderr": subprocess.PIPE}
    with program("rsu", "decode", **streams, start_new_session=True, preexec_fn=own_it) as process:
        wait_for_reading(process)
        os.close(theirs)
        os.close(ours)
        assert process.wait() == -signal.SIGHUP
        assert b"Traceback" not in process.stderr.read()


def test_a_second_gateway_is_told_of_the_first(site, ledger):
    shutil.copy(site, site.parent / "other.toml")
    with program("run", "--config", site, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as first:
        try:
            assert first.stdout.readline() == "ready\n"
            other = program("run", "--config", site.parent / "other.toml", stderr=subprocess.PIPE, text=True)
            with other:
                told = other.communicate()[1]
            assert other.returncode == 3
            assert "another gateway" in told
            assert "Traceback" not in told
        finally:
            first.send_signal(signal.SIGINT)
            assert first.wait() in (0, 130)
