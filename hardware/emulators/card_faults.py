"""Faults of a chip in a slot: pulled, silent, slow, refusing, lying; each at a command that is named beforehand.

A plan is a list of faults, and nothing in it is left to chance: the same plan and the same commands give the same
bytes. A fault has an effect and a place, and is written as both (`fault_of` reads it, `str` writes it):

    pull-after debit        the card debits, and its answer is lost
    pull-before 5           the fifth command never reaches it
    status=6581 debit       refused with 6581, and nothing is done
    done-status=6F00 debit  done, and refused all the same
    mute 7 / done-mute 7    silent from the seventh command on, which it has not done / has done
    slow=1.5 every          each answer takes so many seconds
    flip=12 record          bit 12 of the answer's data is turned over
    wrong-mac1 sam-init     MAC1 of a PSAM altered; wrong-tac and wrong-mac2 alter what a card's debit answers
    stuck-serial sam-init   the PSAM gives the number that it gave last
    stale-proof prove       the proof is that of the purchase before; 9406 where there was none

A place is the number of a command, counted from the first one it was sent; a kind of command (`INSTRUCTIONS`, or ins=54
by its byte), the next of that kind; `every`, or `every` and a kind. A fault that has happened is gone; `every` stays.
Effects that know their place (the last five) need none. What a chip on T=0 has ready is its answer to the command
before GET RESPONSE.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType
from typing import Final

from hardware.emulators.card import Proof, Stored
from hardware.emulators.chip import GET_RESPONSE, Chip, Reaction
from hardware.emulators.psam import PsamStored
from protocols.card.apdu import SW_NO_PROOF, Response

INSTRUCTIONS: Final = MappingProxyType(
    {
        "select": 0xA4,
        "read": 0xB0,
        "record": 0xB2,
        "update": 0xD6,
        "challenge": 0x84,
        "authenticate": 0x82,
        "pin": 0x20,
        "balance": 0x5C,
        "init": 0x50,
        "cache": 0xDC,
        "debit": 0x54,
        "prove": 0x5A,
        "load": 0x52,
        "sam-init": 0x70,
        "sam-credit": 0x72,
        "derive": 0x1A,
        "crypt": 0xFA,
        "vehicle": 0xB4,
    }
)
"""Kinds of commands by the words of a plan."""

SLOW_S_MAX: Final = 60.0
"""Longest that a fault may delay an answer: nobody waits longer for a card."""


class Effect(Enum):
    """Effect of a fault."""

    PULL_BEFORE = "pull-before"
    PULL_AFTER = "pull-after"
    MUTE = "mute"
    DONE_MUTE = "done-mute"
    STATUS = "status"
    DONE_STATUS = "done-status"
    SLOW = "slow"
    FLIP = "flip"
    WRONG_MAC1 = "wrong-mac1"
    WRONG_MAC2 = "wrong-mac2"
    WRONG_TAC = "wrong-tac"
    STUCK_SERIAL = "stuck-serial"
    STALE_PROOF = "stale-proof"


_VALUES: Final = {
    Effect.STATUS: (re.compile(r"[0-9A-Fa-f]{4}"), "status=6581"),
    Effect.DONE_STATUS: (re.compile(r"[0-9A-Fa-f]{4}"), "done-status=6F00"),
    Effect.SLOW: (re.compile(r"[0-9]{1,2}(\.[0-9]{1,3})?"), "slow=1.5"),
    Effect.FLIP: (re.compile(r"[0-9]{1,4}"), "flip=12"),
}
"""Values that effects need, as they are written, each with an example."""

_NOT_DONE: Final = (Effect.PULL_BEFORE, Effect.MUTE, Effect.STATUS)
_DONE: Final = (Effect.PULL_AFTER, Effect.DONE_MUTE, Effect.DONE_STATUS)
"""Effects that stand where the answer should: before the chip has done anything, and after."""

_ALTERING: Final = (Effect.FLIP, Effect.WRONG_MAC1, Effect.WRONG_MAC2, Effect.WRONG_TAC, Effect.STALE_PROOF)

_OF: Final = {
    Effect.WRONG_MAC1: INSTRUCTIONS["sam-init"],
    Effect.WRONG_MAC2: INSTRUCTIONS["debit"],
    Effect.WRONG_TAC: INSTRUCTIONS["debit"],
    Effect.STUCK_SERIAL: INSTRUCTIONS["sam-init"],
    Effect.STALE_PROOF: INSTRUCTIONS["prove"],
}
"""Instruction of effects that belong to one."""

_ALTERED_BYTE: Final = {Effect.WRONG_MAC1: 4, Effect.WRONG_MAC2: 4, Effect.WRONG_TAC: 0}
"""First byte of what is altered, in the answer's data."""


@dataclass(frozen=True, slots=True)
class Place:
    """Commands at which a fault happens: the one of a number, those of a kind, or all where both are None."""

    number: int | None = None
    ins: int | None = None
    every: bool = False

    def __str__(self) -> str:
        if self.number is not None:
            return str(self.number)
        named = next((word for word, ins in INSTRUCTIONS.items() if ins == self.ins), None)
        kind = "" if self.ins is None else named or f"ins={self.ins:02X}"
        return f"every {kind}".strip() if self.every else kind

    def fits(self, number: int, ins: int) -> bool:
        """True for a command that this place names."""
        return self.number in (None, number) and self.ins in (None, ins)


@dataclass(frozen=True, slots=True)
class Fault:
    """One effect at one place."""

    effect: Effect
    place: Place
    value: str = ""
    """Status word, seconds or bit, as written."""

    def __str__(self) -> str:
        return f"{self.effect.value}{'=' if self.value else ''}{self.value} {self.place}"


def fault_of(text: str) -> Fault:
    """Fault as it is written in a plan. Raises ValueError, which says what is written instead."""
    words = text.split()
    name, _, value = words[0].partition("=") if words else ("", "", "")
    try:
        effect = Effect(name)
    except ValueError:
        raise ValueError(f"no fault {name!r}: {', '.join(known.value for known in Effect)}") from None
    pattern, example = _VALUES.get(effect, (re.compile(""), name))
    if pattern.fullmatch(value) is None:
        raise ValueError(f"{words[0]!r}: write {example} PLACE")
    return Fault(effect, _place(words[1:], _OF.get(effect)), value.upper())


def _place(words: list[str], own: int | None) -> Place:
    if not words and own is not None:
        return Place(ins=own)
    every = words[:1] == ["every"]
    rest = words[1:] if every else words
    if every and not rest:
        return Place(ins=own, every=True)
    word = rest[0] if len(rest) == 1 else ""
    if word.isdecimal() and int(word) and not every:
        return Place(number=int(word))
    by_byte = re.fullmatch(r"ins=([0-9A-Fa-f]{2})", word)
    ins = int(by_byte[1], 16) if by_byte else INSTRUCTIONS.get(word)
    if ins is None:
        raise ValueError(
            f"no place {' '.join(words)!r}: the number of a command, ins=54, every, or {', '.join(INSTRUCTIONS)}"
        )
    return Place(ins=ins, every=every)


class FaultyChip:
    """Chip to which a plan of faults happens. It goes into a slot as the chip itself would."""

    def __init__(self, chip: Chip, plan: Iterable[Fault] = (), *, tell: Callable[[str], None] = lambda _: None) -> None:
        """`tell`: is told of each fault as it comes, in the words of `happened`."""
        self.chip = chip
        self._tell = tell
        self.plan = list(plan)
        """Faults still to come."""
        self.happened: list[str] = []
        """Faults that came, in words, each with the number of its command."""
        self._number = 0
        self._asked = bytes(4)
        """Newest command but GET RESPONSE."""
        self._silent = False
        self._serial_before: PsamStored | None = None
        self._proofs_before: Mapping[int, Proof] = {}

    def reset(self) -> None:
        """Power off and on; a silent chip wakes up."""
        self._silent = False
        self.chip.reset()

    def react(self, command: bytes) -> Reaction:
        """Take a command, and say what the reader sees."""
        if self._silent:
            return Reaction(b"")
        self._number += 1
        ins = command[1] if len(command) > 1 else 0  # what is no command, the chip refuses itself
        if ins != GET_RESPONSE[1]:
            self._asked = command.ljust(4, b"\0")
        delay_s = sum(float(fault.value) for fault in self._due((Effect.SLOW,), ins))
        for fault in self._due(_NOT_DONE, ins):
            return Reaction(self._instead(fault), delay_s)
        answer = self._process(command, ins)
        for fault in self._due(_DONE, ins):
            return Reaction(self._instead(fault), delay_s)
        response = Response.decode(answer)
        if response.data:
            for fault in self._due(_ALTERING, self._asked[1]):
                response = self._altered(fault, response)
        return Reaction(response.encode(), delay_s)

    def _due(self, effects: tuple[Effect, ...], ins: int) -> list[Fault]:
        """Faults of these effects that come now; they are noted, and gone unless they come every time."""
        due = [
            fault
            for fault in self.plan
            if fault.effect in effects and fault.place.fits(self._number, ins) and _OF.get(fault.effect, ins) == ins
        ]
        self.plan = [fault for fault in self.plan if fault not in due or fault.place.every]
        for fault in due:
            self.happened.append(f"command {self._number} ({ins:02X}): {fault}")
            self._tell(self.happened[-1])
        return due

    def _instead(self, fault: Fault) -> bytes | None:
        """Stand-in for the answer."""
        if fault.effect in (Effect.PULL_BEFORE, Effect.PULL_AFTER):
            return None
        if fault.effect in (Effect.MUTE, Effect.DONE_MUTE):
            self._silent = True
            return b""
        return bytes.fromhex(fault.value)

    def _process(self, command: bytes, ins: int) -> bytes:
        """Let the chip work, and remember what lies are made of."""
        before = self.chip.stored
        if self._serial_before is not None and self._due((Effect.STUCK_SERIAL,), ins):
            before = replace(before, terminal_serial=self._serial_before.terminal_serial)
            self.chip.restore(before)
        answer = self.chip.process(command)
        if self.chip.stored is not before:
            if isinstance(before, PsamStored) and ins == INSTRUCTIONS["sam-init"]:
                self._serial_before = before
            if isinstance(before, Stored) and ins == INSTRUCTIONS["debit"]:
                self._proofs_before = before.proofs
        return answer

    def _altered(self, fault: Fault, response: Response) -> Response:
        if fault.effect is Effect.STALE_PROOF:
            kept = self._proofs_before.get(self._asked[3])
            return (
                Response(b"", SW_NO_PROOF) if kept is None else Response(kept.proof.mac2 + kept.proof.tac, response.sw)
            )
        data = bytearray(response.data)
        if fault.effect is Effect.FLIP:
            byte, bit = divmod(int(fault.value) % (8 * len(data)), 8)
            data[byte] ^= 0x80 >> bit
        elif _ALTERED_BYTE[fault.effect] < len(data):
            data[_ALTERED_BYTE[fault.effect]] ^= 0xFF
        return Response(bytes(data), response.sw)
