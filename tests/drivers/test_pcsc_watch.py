"""The wait for what happens at card readers: a service that is away, readers that come and go, cards that are swapped.

A true service shows these at moments that no test can choose: here it is one that says what it is told to.
"""

import asyncio

import pytest

from drivers import pcsc
from drivers.card_readers import ReaderEvent, ReaderEventKind


class Service:
    """PC/SC whose context can be had at some tries only, and which has gone by the time that readers are listed."""

    SCARD_SCOPE_USER = 2

    def __init__(self, codes, tried):
        self._codes, self._tried = iter(codes), tried

    def SCardEstablishContext(self, scope):
        code = next(self._codes, None)
        if code is None:
            self._tried()
        return pcsc.NO_SERVICE if code is None else code, 1

    def SCardListReaders(self, context, groups):
        return pcsc.COMM_ERROR, []

    def SCardReleaseContext(self, context):
        return 0

    SCardCancel = SCardReleaseContext


def test_a_service_that_stays_away_is_told_once(monkeypatch):
    monkeypatch.setattr(pcsc, "AGAIN_S", 0.001)

    async def kinds():
        loop, all_tried, told = asyncio.get_running_loop(), asyncio.Event(), []
        codes = (pcsc.COMM_ERROR, pcsc.NO_SERVICE, 0, pcsc.SECURITY_VIOLATION, pcsc.NO_SERVICE)
        service = Service(codes, lambda: loop.call_soon_threadsafe(all_tried.set))
        watch = pcsc._Watch(service, loop, lambda event: told.append(event.kind))
        await all_tried.wait()
        watch.stop()
        await watch.ended.wait()
        return told

    lost, up = ReaderEventKind.SERVICE_LOST, ReaderEventKind.SERVICE_UP
    assert asyncio.run(kinds()) == [lost, up, lost]


class Looks:
    """PC/SC that shows these readers, one look after the other, and then is gone: name -> (state, ATR)."""

    SCARD_SCOPE_USER, SCARD_STATE_UNAWARE, SCARD_STATE_CHANGED = 2, 0, 2
    SCARD_STATE_UNKNOWN, SCARD_STATE_PRESENT = 4, 32

    def __init__(self, *looks):
        self._looks = list(looks)

    def SCardEstablishContext(self, scope):
        return 0 if self._looks else pcsc.NO_SERVICE, 1

    def SCardListReaders(self, context, groups):
        return (0, list(self._looks[0])) if self._looks else (pcsc.NO_SERVICE, [])

    def SCardGetStatusChange(self, context, timeout_ms, asked):
        look = self._looks.pop(0)
        return 0, [(name, *look.get(name, (self.SCARD_STATE_UNKNOWN, b""))) for name, _ in asked]

    def SCardReleaseContext(self, context):
        return 0

    SCardCancel = SCardReleaseContext


def told_of(*looks):
    """Events of these looks, after the service was found and before it was lost."""

    async def events():
        told, lost = [], asyncio.Event()

        def tell(event):
            told.append(event)
            if event.kind is ReaderEventKind.SERVICE_LOST:
                lost.set()

        watch = pcsc._Watch(Looks(*looks), asyncio.get_running_loop(), tell)
        await lost.wait()
        watch.stop()
        await watch.ended.wait()
        return told[1:-1]

    return asyncio.run(events())


ADDED, REMOVED = ReaderEventKind.READER_ADDED, ReaderEventKind.READER_REMOVED
IN, OUT = ReaderEventKind.CARD_IN, ReaderEventKind.CARD_OUT
ONE, OTHER = b"\x3b\x00", b"\x3b\x01\x00"
EMPTY, CARD = 16, 32


def moved(count, state):
    """State of a reader after so many cards that came or went."""
    return count << 16 | state


def test_readers_that_come_and_go_are_told():
    a, b = {"A": (EMPTY, b"")}, {"B": (moved(1, CARD), ONE)}
    leaving = {"B": (Looks.SCARD_STATE_UNKNOWN, b"")}  # it was listed, and had gone when its state was asked for
    assert told_of(a, a | b, a | leaving, a, {}) == [
        ReaderEvent(ADDED, "A"),
        ReaderEvent(ADDED, "B"),
        ReaderEvent(IN, "B", ONE),
        ReaderEvent(REMOVED, "B"),
        ReaderEvent(REMOVED, "A"),
    ]


@pytest.mark.parametrize(
    ("then", "told"),
    [
        ((moved(1, CARD), ONE), []),
        ((moved(2, EMPTY), b""), [(OUT, None)]),
        ((moved(3, CARD), ONE), [(OUT, None), (IN, ONE)]),  # another card of the same kind
        ((moved(1, CARD), OTHER), [(OUT, None), (IN, OTHER)]),  # a service that counts nothing
    ],
)
def test_a_card_is_told_when_it_leaves_or_another_lies_there(then, told):
    events = told_of({"A": (moved(1, CARD), ONE)}, {"A": then})
    assert [(event.kind, event.atr) for event in events[2:]] == told


def test_a_card_that_came_and_went_between_two_looks_is_told():
    events = told_of({"A": (moved(0, EMPTY), b"")}, {"A": (moved(2, EMPTY), b"")})
    assert events[1:] == [ReaderEvent(IN, "A", b""), ReaderEvent(OUT, "A")]
