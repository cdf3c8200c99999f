"""Another program at a card, in a process of its own. It says what it has reached, and then waits to be killed."""

import asyncio
import subprocess
import sys
from contextlib import contextmanager

PROGRAM = """
import sys
from smartcard.scard import *
reader, want = sys.argv[1:]

def done(code, *values):
    assert code == SCARD_S_SUCCESS, SCardGetErrorMessage(code)
    return values

def say(text):
    print(text, flush=True)

context, = done(*SCardEstablishContext(SCARD_SCOPE_USER))
say("asks")
how = SCARD_SHARE_EXCLUSIVE if want == "exclusive" else SCARD_SHARE_SHARED
card, protocol = done(*SCardConnect(context, reader, how, SCARD_PROTOCOL_T0))
if want == "turn":
    done(SCardBeginTransaction(card))
elif want == "challenge":
    done(*SCardTransmit(card, protocol, [0x00, 0x84, 0x00, 0x00, 0x04]))
say("got it")
sys.stdin.read()
"""


class Client:
    """That program as a test sees it."""

    def __init__(self, process):
        self._process = process

    async def says(self, text):
        assert (await asyncio.to_thread(self._process.stdout.readline)).strip() == text


@contextmanager
def client(reader, want):
    """Program that has a card `exclusive`, has a `turn` at it, or asks it for a `challenge`; killed at the end."""
    command = [sys.executable, "-c", PROGRAM, reader, want]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Client(process)
        finally:
            process.kill()
