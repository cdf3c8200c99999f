"""Cards through the card service: one exchange against the same one over a bare socket, and a card read whole."""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import time
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from drivers.errors import DeviceUnavailable
from drivers.pcsc import Readers, library
from gateway.cards.contents import read_card
from hardware.bench.pcsc_daemon import PcscDaemon, ServiceMissing
from hardware.bench.waiting import STUCK_S
from hardware.emulators.card import make_card
from hardware.emulators.chip import Chip
from hardware.emulators.virtual_reader import VirtualCard

EXCHANGES: Final = 500
READS: Final = 20

CHALLENGE: Final = bytes.fromhex("0084000008")
"""Command that every card answers at once."""

T = TypeVar("T")


class Running(Generic[T]):
    """Work of the event loop that is timed while it runs, and not while it waits."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self.seconds = 0.0
        self._work = work

    def __await__(self) -> Generator[Any, None, T]:
        steps = self._work.__await__()
        while True:
            begun = time.perf_counter()
            try:
                waits_for = next(steps)
            except StopIteration as ended:
                result: T = ended.value
                return result
            finally:
                self.seconds += time.perf_counter() - begun
            yield waits_for


def measure(folder: Path) -> list[dict[str, Any]]:
    """Exchange with an emulated card and read it, in a virtual reader of a card service of our own."""
    try:
        library()
        return _measured(PcscDaemon(folder, ["Bench"]))
    except (DeviceUnavailable, ServiceMissing) as lack:
        return [{"figure": "left out", "value": str(lack)}]


def _measured(service: PcscDaemon) -> list[dict[str, Any]]:
    chip = make_card(plate="测A12345", balance_raw=50_000)
    bare_s = bare_median_s(chip, CHALLENGE)
    service.start()
    try:
        os.environ |= service.environment  # before the first call: the library reads it once
        slot = service.slots[0]
        card = VirtualCard(slot.port, chip)
        try:
            return asyncio.run(_measure(slot.reader, bare_s))
        finally:
            card.remove()
    finally:
        service.stop()


async def _measure(reader: str, bare_s: float) -> list[dict[str, Any]]:
    async with Readers() as readers, readers.open(reader, wait_s=STUCK_S) as slot:
        exchanges = []
        for _ in range(EXCHANGES):
            begun = time.perf_counter()
            await slot.raw(CHALLENGE)
            exchanges.append(time.perf_counter() - begun)
        through_s = statistics.median(exchanges)
        reads, shares = [], []
        for _ in range(READS):
            reading = Running(read_card(slot, holder=True))
            begun = time.perf_counter()
            await reading
            reads.append(time.perf_counter() - begun)
            shares.append(reading.seconds / reads[-1])
    return [
        {"figure": "exchange over a bare socket, us", "value": bare_s * 1e6},
        {"figure": "exchange through the card service, us", "value": through_s * 1e6},
        {"figure": "the service, times the socket", "value": through_s / bare_s},
        {"figure": "card read whole, ms", "value": statistics.median(reads) * 1e3},
        {"figure": "card read whole, times one exchange", "value": statistics.median(reads) / through_s},
        {"figure": "share of the reading in which we run, not wait", "value": statistics.median(shares)},
    ]


def median_s(exchange: Callable[[], object], times: int = EXCHANGES) -> float:
    """Seconds of one exchange: half of them were faster."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        exchange()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def bare_median_s(chip: Chip, command: bytes, times: int = EXCHANGES) -> float:
    """Seconds of one exchange with a card in a virtual reader, where nobody stands between."""
    message = len(command).to_bytes(2, "big") + command
    with socket.create_server(("127.0.0.1", 0)) as listening:
        card = VirtualCard(listening.getsockname()[1], chip)
        reader, _ = listening.accept()
    with reader, reader.makefile("rb") as answers:
        reader.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def exchange() -> None:
            reader.sendall(message)
            answers.read(int.from_bytes(answers.read(2), "big"))

        try:
            return median_s(exchange, times)
        finally:
            card.remove()
