"""Service of card readers that is away: told once, however its absence shows at each try to reach it."""

import asyncio

from drivers import pcsc
from drivers.card_readers import ReaderEventKind


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
