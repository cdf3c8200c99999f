"""Turns of antenna and lane computer, one table for each of the two ways in which dialects make a pass.

Network dialects report vehicle and card together, serial ones in two steps; the latter also write an entry without a
purchase, and fetch a lost result by another command:

    B2 --C1--> B4 --C6--> B5 --C1--> guarded                    C8 ----------> B8 (from B2, B4, B5)
    B2 --C1--> B3 --C1--> B4 --C6--> B5 --C1--> guarded         C3, C7 ------> B5 (from B4)

Which of them a dialect has follows from what it can say, see `manner_of`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hardware.emulators.road import Event, Phase
from protocols.rsu.dialect import Dialect
from protocols.rsu.messages import Continue, Debit, FetchTac, Message, RecoverTac, Stop, VehicleReport, WriteEntry

Answers = Mapping[tuple[Phase, type[Message]], Phase]
Transitions = Mapping[Phase, tuple[Phase, Event]]

ANSWERS: Answers = MappingProxyType(
    {
        (Phase.REPORTED, Continue): Phase.READING,
        (Phase.REPORTED, FetchTac): Phase.PROVING,
        (Phase.REPORTED, Stop): Phase.SEARCHING,
        (Phase.READ, Debit): Phase.BUYING,
        (Phase.READ, FetchTac): Phase.PROVING,
        (Phase.READ, Continue): Phase.GUARDED,
        (Phase.READ, Stop): Phase.SEARCHING,
        (Phase.RESULT, Continue): Phase.GUARDED,
        (Phase.RESULT, FetchTac): Phase.PROVING,
        (Phase.RESULT, Stop): Phase.SEARCHING,
        (Phase.PROVED, Continue): Phase.GUARDED,
        (Phase.PROVED, Stop): Phase.SEARCHING,
    }
)
"""Orders the lane may give in each phase, and the phase they lead to. Others are out of turn: counted, not followed."""

SAID: Transitions = MappingProxyType(
    {
        Phase.READING: (Phase.READ, Event.READ),
        Phase.BUYING: (Phase.RESULT, Event.RESULT_SENT),
        Phase.PROVING: (Phase.PROVED, Event.TAC_SENT),
    }
)
"""Phase and event of the report in which some work on the air ends."""

ANSWERS_STEPWISE: Answers = MappingProxyType(
    {
        (Phase.REPORTED, Continue): Phase.DESCRIBING,
        (Phase.REPORTED, Stop): Phase.SEARCHING,
        (Phase.DESCRIBED, Continue): Phase.READING,
        (Phase.DESCRIBED, Stop): Phase.SEARCHING,
        (Phase.READ, Debit): Phase.BUYING,
        (Phase.READ, WriteEntry): Phase.WRITING,
        (Phase.READ, RecoverTac): Phase.RECOVERING,
        (Phase.READ, Continue): Phase.GUARDED,
        (Phase.READ, Stop): Phase.SEARCHING,
        (Phase.RESULT, Continue): Phase.GUARDED,
        (Phase.RESULT, Stop): Phase.SEARCHING,
    }
)
"""Orders in dialects that report the vehicle by itself."""

SAID_STEPWISE: Transitions = MappingProxyType(
    {
        Phase.DESCRIBING: (Phase.DESCRIBED, Event.DESCRIBED),
        Phase.READING: (Phase.READ, Event.READ),
        Phase.BUYING: (Phase.RESULT, Event.RESULT_SENT),
        Phase.WRITING: (Phase.RESULT, Event.RESULT_SENT),
        Phase.RECOVERING: (Phase.RESULT, Event.TAC_SENT),
    }
)


@dataclass(frozen=True, slots=True)
class Manner:
    """Manner in which an antenna of a dialect makes a pass."""

    answers: Answers
    said: Transitions
    stepwise: bool
    """Vehicle and card are reported apart, and an OBU report does not tell the kind of device: tags with a card are
    all there is."""
    switch_before_start: bool
    """The radio may be switched on before C0 as well as after it; C0 leaves it as it is."""


NETWORK = Manner(ANSWERS, SAID, stepwise=False, switch_before_start=False)
STEPWISE = Manner(ANSWERS_STEPWISE, SAID_STEPWISE, stepwise=True, switch_before_start=True)


def manner_of(dialect: Dialect) -> Manner:
    """The manner of a dialect: stepwise when it has a report about the vehicle alone."""
    return STEPWISE if dialect.speaks(VehicleReport) else NETWORK
