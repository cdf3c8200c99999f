"""The simulated site's bank: the bench's host with a book in memory, and chance that decides what it does wrong."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from hardware.bench.simulation.invariants import Watch
from hardware.bench.simulation.wires import Network
from hardware.emulators.bank_host import BankHost, BankHostConfig, Behaviour, Mode
from protocols.bank.codec import Message

LATENCY_MS = 15
LATE_MS = (1_500, 15_000)
"""Delay of a late answer: with all others it stays below the longest age of a message that the bank promises."""
SLOW_MS = (1_000, 4_000)
"""Delay of a slow answer: about as long as anybody waits for one."""
JUST_LATE_MS = (1_600, 2_400)
"""Delay to about when whoever asked gives up, and the reversal leaves."""

ALTERED_ECHOES = {f"altered_{name}": 0.003 for name in ("amount", "currency", "merchant", "terminal", "batch")}
OPPOSITES = {f"{words}_{truth}": 0.004 for words in ("yes_no", "no_yes") for truth in ("posted", "not_posted")}
"""Two final answers to one message, and whether the bank has booked it."""

CHANCES: Mapping[str, Mapping[str, float]] = {
    "020": {
        "silent_but_posted": 0.012,
        "silent_not_posted": 0.008,
        "late": 0.04,
        "slow": 0.05,
        "cut_not_posted": 0.002,
        "cut_before_answer": 0.002,
        "duplicate_answer": 0.02,
        "no_f41": 0.01,
        "no_f41_slow": 0.1,
        "declined_51": 0.03,
        "declined_05": 0.01,
        "cut_over_90": 0.004,
        "code_91": 0.004,
        "code_96": 0.004,
        "code_68": 0.004,
        "code_94": 0.004,
        "posted_94": 0.004,
        "code_94_late": 0.012,
        "code_08": 0.003,
        "posted_08": 0.003,
        "posted_Z9": 0.003,
        "code_blank": 0.003,
        "posted_none": 0.003,
        **ALTERED_ECHOES,
        **OPPOSITES,
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
        "posted_12": 0.02,
        "code_12": 0.02,
        "altered_amount": 0.02,
        "altered_merchant": 0.02,
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
        "code_94": 0.02,
        "posted_94": 0.02,
        "posted_Z9": 0.02,
        "altered_amount": 0.02,
        "yes_no_posted": 0.02,
        "yes_no_not_posted": 0.02,
        "no_yes_posted": 0.02,
        "no_yes_not_posted": 0.02,
        "cut_before_answer": 0.01,
    },
}
"""Chances of the bank's faults, by the first three digits of the message type."""


_ALTERED = {
    "amount": (4, ("000000000001", "000099999999")),
    "currency": (49, ("840",)),
    "merchant": (42, ("990100047849999",)),
    "terminal": (41, ("X9999999",)),
    "batch": (60, ("22999999",)),
}
_CODES = {"blank": "  ", "none": ""}


def _behaviour(fault: str, chance: random.Random) -> Behaviour:
    name, _, code = fault.removesuffix("_late").rpartition("_")
    code = _CODES.get(code, code)
    if name == "altered":
        number, values = _ALTERED[code]
        return Behaviour(Mode.ALTERED, None, field=number, value=chance.choice(values))
    if fault in OPPOSITES:
        mode = Mode.APPROVE_THEN_DECLINE if fault.startswith("yes_no") else Mode.DECLINE_THEN_APPROVE
        return Behaviour(mode, None, posted=not fault.endswith("not_posted"))
    if fault == "code_94_late":
        return Behaviour(Mode.DECLINE, None, code=code, delay_ms=chance.randint(*JUST_LATE_MS))
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
        watch: Watch,
    ) -> None:
        self._network = network
        self._on_fault = watch.answered_otherwise
        self._chance = chance
        self.host = BankHost(
            BankHostConfig(book=Path(":memory:"), latency_ms=LATENCY_MS),
            utcnow=utcnow,
            choose=self._choose,
            on_request=watch.request,
            on_posting=watch.posting,
            say=lambda text: network.trace.add("bank", f"hangs up: {text}"),
        )

    def _choose(self, request: Message) -> Behaviour | None:
        if self._network.calm:
            return None
        roll = self._chance.random()
        for fault, share in CHANCES.get(request.mti[:3], {}).items():
            if roll < share:
                self._network.note("bank", fault if request.mti[:3] == "020" else f"{fault}_{request.mti[:2]}")
                self._on_fault(request, fault)
                return _behaviour(fault, self._chance)
            roll -= share
        return None
