"""Exchange with a card through the card service, against the same exchange over a bare socket."""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Callable
from typing import Final

from hardware.emulators.chip import Chip
from hardware.emulators.virtual_reader import VirtualCard

EXCHANGES: Final = 200


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
