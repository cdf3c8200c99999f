"""Runs a program that does not outlive whoever started it: `kept.py SECONDS PROGRAM ARGUMENT...`, stdin a pipe.

The starter holds the other end of that pipe and never writes to it. When the starter is gone, however it went, the
pipe ends: the program gets SIGTERM, and SIGKILL when it has not ended SECONDS later. The program knows nothing of it.
It has the process id that the starter was given, and /dev/null as its input; the guard beside it is a second process
of a few pages, which ends with it.

The kernel's own signal for the death of a parent (`PR_SET_PDEATHSIG`) is not used: it comes when the *thread* that
started the program ends, not at all when the parent was gone already, and can only be one signal, asked for once.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Sequence


def guard(program: int, starter: int, grace_s: float) -> None:
    """Wait until either end is gone. `program` is a pidfd, `starter` the end of the pipe."""
    ends = select.poll()
    ends.register(program, select.POLLIN)
    ends.register(starter, select.POLLIN)
    if program in dict(ends.poll()):
        return
    ends.unregister(starter)
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(program, signal.SIGTERM)
        signal.pidfd_send_signal(program, signal.SIGCONT)  # a frozen one hears nothing before
        if not ends.poll(grace_s * 1000):
            signal.pidfd_send_signal(program, signal.SIGKILL)


def main(argv: Sequence[str]) -> None:
    """Become the program, with a guard beside it. Raises OSError when there is no such program."""
    grace_s, command = float(argv[0]), list(argv[1:])
    program = os.pidfd_open(os.getpid())
    if os.fork() == 0:
        # It keeps the program's output open: who reads that to its end knows that nothing of either is left.
        guard(program, sys.stdin.fileno(), grace_s)
        os._exit(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, sys.stdin.fileno())
    os.execv(command[0], command)  # noqa: S606 - the bench's own programs; no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
