"""The simulated site's bank: the bench's host with a book in memory, and chance that decides what it does wrong."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from hardware.bench.simulation.wires import Network
from hardware.emulators.bank_host import BankHost, BankHostConfig, Behaviour, Keys, Mode, Posting
from protocols.bank.codec import Message

LATENCY_MS = 15
LATE_MS = (1_500, 15_000)
"""With all other delays this stays below the longest age of a message that the bank promises."""
SLOW_MS = (1_000, 4_000)
"""About as long as anybody waits for an answer."""

CHANCES: Mapping[str, Mapping[str, float]] = {
    "020": {
        "silent_but_posted": 0.012,
        "silent_not_posted": 0.008,
        "late": 0.04,
        "slow": 0.05,
        "cut_not_posted": 0.001,
        "cut_before_answer": 0.002,
        "duplicate_answer": 0.02,
        "no_f41": 0.01,
        "no_f41_slow": 0.03,
        "declined_51": 0.03,
        "declined_05": 0.01,
        "cut_over_90": 0.004,
        "code_91": 0.004,
        "code_96": 0.004,
        "code_68": 0.004,
        "code_94": 0.004,
        "code_A0": 0.004,
        "posted_96": 0.004,
        "posted_68": 0.004,
        "posted_A0": 0.004,
    },
    "040": {
        "silent_but_posted": 0.04,
        "silent_not_posted": 0.04,
        "late": 0.04,
        "slow": 0.03,
        "duplicate_answer": 0.04,
        "code_96": 0.03,
        "cut_before_answer": 0.01,
    },
    "022": {
        "silent_but_posted": 0.04,
        "silent_not_posted": 0.04,
        "late": 0.05,
        "slow": 0.03,
        "duplicate_answer": 0.04,
        "declined_51": 0.12,
        "code_96": 0.03,
        "code_91": 0.02,
        "cut_before_answer": 0.01,
    },
}
"""By the first three digits of the message type."""


def _behaviour(fault: str, chance: random.Random) -> Behaviour:
    name, _, code = fault.rpartition("_")
    if name in ("declined", "cut_over", "code"):
        return Behaviour(Mode.DECLINE, None, code=code)
    if name == "posted":
        return Behaviour(Mode.POSTED_BUT_CODE, None, code=code)
    if fault == "cut_not_posted":
        return Behaviour(Mode.CUT, None)
    delays = {"late": LATE_MS, "slow": SLOW_MS, "no_f41_slow": SLOW_MS}.get(fault)
    delay_ms = None if delays is None else chance.randint(*delays)
    return Behaviour(Mode(fault.removesuffix("_slow")), None, delay_ms=delay_ms)


class Bank:
    """The host and the chance that drives it."""

    def __init__(
        self,
        network: Network,
        chance: random.Random,
        utcnow: Callable[[], datetime],
        on_request: Callable[[Message], None],
        on_posting: Callable[[Keys, Posting], None],
    ) -> None:
        self._network = network
        self._chance = chance
        self.host = BankHost(
            BankHostConfig(book=Path(":memory:"), latency_ms=LATENCY_MS),
            utcnow=utcnow,
            choose=self._choose,
            on_request=on_request,
            on_posting=on_posting,
            say=lambda text: network.trace.add("bank", f"hangs up: {text}"),
        )

    def _choose(self, request: Message) -> Behaviour | None:
        if self._network.calm:
            return None
        roll = self._chance.random()
        for fault, share in CHANCES.get(request.mti[:3], {}).items():
            if roll < share:
                self._network.note("bank", fault if request.mti[:3] == "020" else f"{fault}_{request.mti[:2]}")
                return _behaviour(fault, self._chance)
            roll -= share
        return None
