"""The played newcomer's own judgement, without a root: screens it takes and refuses, and machines it cannot play on."""

import asyncio
import io
import os
import signal

import pytest
from rich.console import Console
from rich.live import Live
from typer.testing import CliRunner

from gateway import private_files
from gateway.texts.catalogue import Language
from hardware.bench import cli, newcomer, show
from hardware.bench.newcomer import (
    Ended,
    cure_in,
    ended,
    faults_of_cards,
    faults_of_refusal,
    faults_of_run,
    pip_options,
)
from tests.hardware.test_show import good_run

CHINESE = "zh_CN.UTF-8"


@pytest.fixture(params=["C", CHINESE])
def lang(request, monkeypatch):
    monkeypatch.setenv("LC_ALL", request.param)
    return request.param


def written(columns, *, run=None, terminal=True):
    """All that a run writes: the set-up, on a terminal a live table that is taken back, the summary."""
    run = run or good_run()
    console = Console(file=io.StringIO(), width=columns, height=newcomer.SCREEN_LINES, force_terminal=terminal)
    console.print("setup: making .venv")
    if terminal:
        with Live(show.live(run, columns), console=console, auto_refresh=False, transient=True) as table:
            run.on_the_road["lane-1"] = run.results[0].vehicle
            table.update(show.live(run, columns), refresh=True)
            run.on_the_road.clear()
            table.update(show.live(run, columns), refresh=True)
    console.print(show.summary(run, columns))
    return console.file.getvalue()


def faults(output, *, columns=80, lang="C", code=0):
    return faults_of_run(Ended(code, output), columns=columns, lang=lang)


def filled(output, lines):
    """What was written, with as many more lines as make a screen of so many."""
    return output + "more\n" * (lines - len(newcomer.first_screen(newcomer.on_terminal(output), Language.EN)))


def test_a_screen_of_forty_lines_is_taken(monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")
    assert faults(filled(written(80), 40)) == []


@pytest.mark.parametrize("columns", [80, 132])
def test_a_good_run_on_a_terminal_is_taken(lang, columns):
    assert faults(written(columns), columns=columns, lang=lang) == []


def test_a_good_run_through_a_pipe_is_taken(lang):
    assert faults(written(132, terminal=False), columns=None, lang=lang) == []


def test_a_terminal_shows_nothing_of_what_was_taken_back():
    shown = newcomer.on_terminal(written(80))
    assert "on the road" in written(80)
    assert shown[0] == "setup: making .venv"
    assert shown[1:] == newcomer.on_terminal(written(80).split("setup: making .venv\n")[1])
    assert not [line for line in shown if "on the road" in line]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda text: filled(text, 41), "41 lines, not 40"),
        (lambda text: text + "x" * 81 + "\n", "wider than 80 columns: xx"),
        (lambda text: text + "测" * 41 + "\n", "wider than 80 columns: 测"),
        (lambda text: text.replace("stored value is below the fare", ""), "nothing of purse_too_low"),
        (lambda text: text.replace(" 14.25", " 14.35"), "nothing of its 14.25"),
        (lambda text: text.partition("Barrier")[0], "nothing of its"),
        (lambda text: text + "\x1b[2J\n", "left for a terminal to obey"),
    ],
)
def test_a_spoilt_screen_is_refused(monkeypatch, spoil, said):
    monkeypatch.setenv("LC_ALL", "C")
    spoilt = spoil(written(80))
    assert spoilt != written(80)
    assert any(said in fault for fault in faults(spoilt)), faults(spoilt)


def test_a_pipe_that_gets_colours_and_a_run_that_failed_are_refused():
    coloured = written(132)
    assert any("left for a terminal to obey" in fault for fault in faults(coloured, columns=None))
    assert faults("one\nlast words\n", code=2) == ["exit code 2: last words"]


def test_the_cure_is_that_of_the_makefile():
    refusal = (newcomer.PROJECT / "Makefile").read_text()
    assert cure_in(Ended(2, refusal)) == "apt-get update && apt-get install python3-venv"
    assert faults_of_refusal(Ended(2, refusal)) == []
    assert faults_of_refusal(Ended(2, "make: Error 1\n")) == ["no cure in: make: Error 1"]
    assert faults_of_refusal(Ended(0, refusal)) == ["done without Python's venv module"]


CURE = "setup-cards: run / 请执行 'sudo apt-get update && sudo apt-get install pcscd', then 'make setup-cards'\n"
SKIPPED = "SKIPPED [9] tests/hardware/test_x.py:104: pyscard is missing\n"


@pytest.mark.parametrize(
    ("told", "tested", "untested"),
    [
        (CURE + SKIPPED, [SKIPPED.strip()], []),
        (SKIPPED, [SKIPPED.strip()], ["no cure for cards"]),
        ("SKIPPED [1] tests/accounts.py:29: only root\n", [], ["cards were tested, or nothing", "no cure for cards"]),
        (CURE, [], ["cards were tested, or nothing"]),
    ],
)
def test_cards_are_left_out_with_a_cure_and_tested_by_root(told, tested, untested):
    for is_tested, faults in ((True, tested), (False, untested)):
        found = faults_of_cards(Ended(0, told), tested=is_tested)
        assert [one.startswith(fault) for one, fault in zip(found, faults, strict=True)] == [True] * len(faults)
        assert faults_of_cards(Ended(2, told), tested=is_tested)[0].startswith("exit code 2")


def test_the_cure_for_cards_is_that_of_the_makefile():
    (line,) = [
        line for line in (newcomer.PROJECT / "Makefile").read_text().splitlines() if 'sudo apt-get install"' in line
    ]
    assert cure_in(Ended(0, line)).startswith("apt-get update && apt-get install")


def test_options_of_pip_that_lead_to_a_registry_are_handed_on_and_folders_of_this_machine_are_not():
    told = """:env:.default-timeout='180'
:env:.find-links='/wheels'
global.cert='/etc/ca.crt'
global.extra-index-url='file:///simple registry:/one'
install.index-url='file:///simple'
"""
    assert pip_options(told) == {"default-timeout": "180", "cert": "/etc/ca.crt", "extra-index-url": "registry:/one"}


SOURCE = "Debian bookworm bookworm main mirror:/debian\n"


@pytest.mark.parametrize(
    ("euid", "missing", "told", "reason"),
    [
        (1000, "", {}, "only root"),
        (0, "debootstrap", {}, "not installed / 未安装: debootstrap"),
        (0, "", {"true": Ended(1, "unshare failed: Operation not permitted\n")}, "Operation not permitted"),
        (0, "", {"apt-get": Ended(0, "Debian trixie trixie main mirror:/debian\n")}, "no source of Debian 12"),
        (0, "", {"pip": Ended(1, "ERROR: no matching distribution\n")}, "no registry"),
        (0, "", {"debootstrap": Ended(1, "E: Failed getting release file\n")}, "Failed getting release file"),
    ],
)
def test_a_machine_that_cannot_play_is_skipped_with_a_reason(monkeypatch, tmp_path, *, euid, missing, told, reason):
    async def answered(command, **_):
        answers = {"apt-get": Ended(0, SOURCE)} | told
        return next((answers[name] for name in answers if name in command), Ended(0, ""))

    monkeypatch.setattr(newcomer.os, "geteuid", lambda: euid)
    monkeypatch.setattr(newcomer.shutil, "which", lambda name: None if name == missing else f"/usr/bin/{name}")
    monkeypatch.setattr(newcomer, "ended", answered)
    result = CliRunner().invoke(cli.app, ["newcomer", "--folder", str(tmp_path)])
    assert result.exit_code == 3
    assert result.stderr.startswith("etcbench: skipped / 跳过: ")
    assert reason in result.stderr
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "later").touch()
    assert (tmp_path / "later").stat().st_mode & private_files.OTHERS == 0


@pytest.fixture
def possible():
    """A machine with namespaces, for root."""
    if os.geteuid() != 0:
        pytest.skip("only root can make namespaces")
    if (alone := asyncio.run(ended(["true"]))).code != 0:
        pytest.skip(f"no namespaces here: {alone.last}")


def test_a_command_is_answered_on_a_terminal_can_be_interrupted_and_leaves_nobody_when_killed(possible, tmp_path):
    typed = asyncio.run(ended(["sh", "-c", "read answer; stty size; exit 7"], columns=80))
    assert (typed.code, typed.output.split()) == (7, ["40", "80"])

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        interrupted = asyncio.run(ended(["sh", "-c", "sh -c 'kill -INT $$; true'; echo $?"]))
    finally:
        signal.signal(signal.SIGINT, before)
    assert interrupted.output.split() == ["130"]

    left = tmp_path / "left"

    async def call_off():
        os.mkfifo(left)
        # Detached, as a daemon is: it holds the pipe open for writing as long as it lives.
        script = f"setsid sh -c 'exec >{left}; echo here; sleep 4242' & sleep 4242"
        running = asyncio.create_task(ended(["sh", "-c", script]))
        with await asyncio.to_thread(left.open) as pipe:
            assert await asyncio.to_thread(pipe.readline) == "here\n"
            running.cancel()
            assert await asyncio.to_thread(pipe.read) == ""
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(call_off())
