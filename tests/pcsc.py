"""Real card service with virtual readers, one for each tester; its cards are the emulated ones.

Every test may ask for the fixture `pcsc`: `pcsc.slots[0].insert(chip)`, `.remove()`, `pcsc.kill()`. Import nothing.
"""

import os
import tempfile
import time
from pathlib import Path

import pytest

from hardware.bench import pcsc_daemon
from hardware.bench.pcsc_daemon import SOCKET_VARIABLE, PcscDaemon
from hardware.emulators.virtual_reader import ATR, VirtualCard

STUCK_MS = 120_000
"""A card that is not seen after this long is never seen."""

NOTICED_MS = 3_000
LOOKS_S = 1.0
"""The service looks at a slot every 400 ms."""


def problem():
    """What this machine lacks; None where cards can be tested."""
    try:
        import smartcard.scard  # noqa: F401
    except ImportError as error:
        return f"pyscard is missing ({error}): make setup-cards"
    return pcsc_daemon.missing()


class VirtualSlot:
    """A slot that a test puts cards in."""

    def __init__(self, slot):
        self.reader, self.port = slot.reader, slot.port
        self.card = None

    def insert(self, chip, *, atr=ATR, answer=None):
        """Lay a card there, and return when the service sees it.

        A client that finds its card gone has the service say so before its own look at the slot. A card laid there in
        between is taken for the one before and is not told of: then the slot has to be empty for a look.
        """
        if self.card is not None:
            self.remove()
        for _ in range(STUCK_MS // NOTICED_MS):
            self.card = VirtualCard(self.port, chip, atr=atr, answer=answer)
            if self.await_state(present=True, within_ms=NOTICED_MS):
                return
            self.card.remove()
            time.sleep(LOOKS_S)
        raise AssertionError(f"{self.reader}: the card service sees no card")

    def remove(self):
        """Pull the card, and return when the service sees it."""
        if self.card is not None:
            self.card.remove()
            self.card = None
        assert self.await_state(present=False, within_ms=STUCK_MS), f"{self.reader}: the card service sees a card still"

    def await_state(self, *, present, within_ms):
        """True once the service has the slot so."""
        from smartcard import scard

        hresult, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
        assert hresult == scard.SCARD_S_SUCCESS, scard.SCardGetErrorMessage(hresult)
        try:
            wanted = scard.SCARD_STATE_PRESENT if present else scard.SCARD_STATE_EMPTY
            state = scard.SCARD_STATE_UNAWARE
            while True:
                hresult, states = scard.SCardGetStatusChange(context, within_ms, [(self.reader, state)])
                if hresult == scard.SCARD_E_TIMEOUT:
                    return False
                assert hresult == scard.SCARD_S_SUCCESS, (self.reader, scard.SCardGetErrorMessage(hresult))
                state = states[0][1]
                if state & wanted:
                    return True
        finally:
            scard.SCardReleaseContext(context)


class Pcsc:
    """The service of this tester."""

    def __init__(self, folder):
        self.daemon = PcscDaemon(Path(folder), ["Bench A", "Bench B", "Bench C"])
        self.daemon.start()
        self.slots = tuple(VirtualSlot(slot) for slot in self.daemon.slots)

    def empty(self):
        for slot in self.slots:
            if slot.card is not None:
                slot.remove()

    def kill(self):
        """Kill the service; its cards fall out."""
        self.daemon.kill()
        self._drop_cards()

    def stop(self):
        """End the service in order."""
        self.daemon.stop()
        self._drop_cards()

    def _drop_cards(self):
        for slot in self.slots:
            if slot.card is not None:
                slot.card.remove()
                slot.card = None

    def restart(self):
        """Start it again on the same socket."""
        self.daemon.start()


def refusal():
    """Sentence on a service that takes no clients of this user, None where it does."""
    from smartcard import scard

    hresult, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
    if hresult != scard.SCARD_S_SUCCESS:
        return f"no smartcards for this user ({scard.SCardGetErrorMessage(hresult)}): org.debian.pcsc-lite in polkit"
    scard.SCardReleaseContext(context)
    return None


def ensure_possible(lack):
    """Skip for what this machine lacks, and fail where all has to be tested."""
    if lack is not None:
        if os.environ.get("CI"):
            pytest.fail(f"cards cannot be tested here: {lack}")
        pytest.skip(lack)


RUNNING = []
"""The service of this process, which finds one in its life: a module that imports the fixture gets the same."""


@pytest.fixture(scope="session")
def pcsc_service():
    ensure_possible(problem())
    if RUNNING:
        yield RUNNING[0]
        return
    with tempfile.TemporaryDirectory(prefix="pcsc") as folder:
        service = Pcsc(folder)
        before = os.environ.get(SOCKET_VARIABLE)
        os.environ |= service.daemon.environment  # before the first call: the library reads it once
        RUNNING.append(service)
        try:
            ensure_possible(refusal())
            yield service
        finally:
            RUNNING.clear()
            service.stop()
            if before is None:
                os.environ.pop(SOCKET_VARIABLE)
            else:
                os.environ[SOCKET_VARIABLE] = before


@pytest.fixture
def pcsc(pcsc_service):
    """The service with empty slots; what a test left in them is pulled."""
    yield pcsc_service
    pcsc_service.empty()
