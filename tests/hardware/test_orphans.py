"""Nothing outlives the program that started it, whichever way that one goes."""

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from hardware.bench import kept
from tests.programs import ROOT

PATIENCE_S = 300.0
"""What should come has got stuck when it takes longer; no passing test waits for it."""


# --- one program and its guard ----------------------------------------------------------------------------------------

OBEDIENT = """
import os, signal
def end(number, _):
    os.write(1, b"in order\\n")  # also while "ready" is being written
    os._exit(0)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
while True:
    signal.pause()
"""
DEAF = OBEDIENT.replace("signal.signal(signal.SIGTERM, end)", "signal.signal(signal.SIGTERM, signal.SIG_IGN)")


@contextlib.contextmanager
def guarded(text, grace_s):
    command = [sys.executable, "-I", "-S", kept.__file__, str(grace_s), sys.executable, "-c", text]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def test_a_program_is_ended_in_order_when_its_starter_is_gone():
    with guarded(OBEDIENT, PATIENCE_S) as process:
        process.stdin.close()
        assert process.wait(PATIENCE_S) == 0
        assert process.stdout.read() == "in order\n"


def test_a_frozen_program_is_ended_in_order_too():
    with guarded(OBEDIENT, PATIENCE_S) as process:
        process.send_signal(signal.SIGSTOP)
        process.stdin.close()
        assert process.wait(PATIENCE_S) == 0
        assert process.stdout.read() == "in order\n"


def test_a_program_that_does_not_listen_is_killed():
    with guarded(DEAF, 0.1) as process:
        process.stdin.close()
        assert process.wait(PATIENCE_S) == -signal.SIGKILL


def test_a_guard_ends_with_its_program():
    with guarded(OBEDIENT, PATIENCE_S) as process:
        process.kill()
        assert select.select([process.stdout], [], [], PATIENCE_S)[0]
        assert process.stdout.read() == ""  # its end: the guard holds it, too


def test_a_starter_that_was_gone_before_is_seen():
    command = [sys.executable, "-I", "-S", kept.__file__, str(PATIENCE_S), sys.executable, "-c", OBEDIENT]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=PATIENCE_S, check=False)
    assert done.returncode in (0, -signal.SIGTERM)


# --- the bench's commands as real processes ---------------------------------------------------------------------------


@contextlib.contextmanager
def bench(folder, command, *, terminal=None, seen=lambda: None):
    """`etcbench COMMAND`, once every part of its site works; at the end no process of the folder is left.

    `seen` is called again and again until then: a terminal that nobody looks at stops who writes to it.
    """

    def take_terminal():
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    with (folder / "bench.out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "hardware.bench.cli", command, "--folder", str(folder)],
            cwd=ROOT,
            start_new_session=True,
            stdin=subprocess.DEVNULL if terminal is None else terminal,
            stdout=out if terminal is None else terminal,
            stderr=out,
            preexec_fn=None if terminal is None else take_terminal,  # noqa: PLW1509 - no threads here
        )
    try:
        wait_until(lambda: seen() or process.poll() is not None or state(folder).get("works"))
        assert process.poll() is None, (folder / "bench.out").read_text()
        yield process
    finally:
        for pidfd in of_folder(folder).values():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
        process.kill()
        process.wait()


def of_folder(folder):
    """A pidfd for each process whose command line names the folder: the bench, its programs and their guards."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                pidfd = os.pidfd_open(int(entry.name))
                if str(folder).encode() in (entry / "cmdline").read_bytes():
                    found[int(entry.name)] = pidfd
                else:
                    os.close(pidfd)
    return found


def all_end(pidfds):
    """Wait until every one of these processes has ended; the number of those that have not."""
    left, end = set(pidfds.values()), time.monotonic() + PATIENCE_S
    poll = select.poll()
    for pidfd in left:
        poll.register(pidfd, select.POLLIN)
    while left and (rest := end - time.monotonic()) > 0:
        for pidfd, _ in poll.poll(rest * 1000):
            poll.unregister(pidfd)
            left.remove(pidfd)
    for pidfd in pidfds.values():
        os.close(pidfd)
    return len(left)


def state(folder):
    try:
        return json.loads((folder / "state.json").read_text())
    except (OSError, ValueError):
        return {}


def wait_until(holds):
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def stopped_in_order(folder):
    """The gateway has said that it stops and, as the last thing it does, that it is not running."""
    return "stopping: charge points first" in (folder / "gateway.log").read_text() and state(folder)["running"] is False


PROGRAMS = 7
"""Board, bank, four antennas and the line of one of them; beside them the gateway, and the bench itself."""


@pytest.mark.bench
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
@pytest.mark.parametrize("command", ["serve", "demo"])
def test_nothing_outlives_a_bench_that_gets_a_signal(tmp_path, command, number):
    with bench(tmp_path, command) as process:
        there = of_folder(tmp_path)
        assert len(there) >= PROGRAMS + 2
        process.send_signal(number)
        assert all_end(there) == 0
        assert of_folder(tmp_path) == {}
        assert process.wait(PATIENCE_S) == (-number if number == signal.SIGKILL else 128 + number)
        assert stopped_in_order(tmp_path)


@pytest.mark.bench
def test_nothing_outlives_the_terminal_of_a_demo(tmp_path):
    ours, theirs = (os.fdopen(end, "rb", buffering=0) for end in pty.openpty())
    os.set_blocking(ours.fileno(), False)
    with ours, theirs, bench(tmp_path, "demo", terminal=theirs, seen=lambda: ours.read(65536) and None) as process:
        theirs.close()
        there = of_folder(tmp_path)
        ours.close()
        assert all_end(there) == 0
        assert process.wait(PATIENCE_S) != 0
        assert stopped_in_order(tmp_path)
