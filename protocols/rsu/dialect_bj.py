"""`legacy-serial-bj`: the serial dialect of lanes before the network generation, Beijing style.

RSCTL of the antenna is X8, X counting 0 to 7; makers also give each type a fixed one, which changes nothing here. The
lane computer answers with the two nibbles swapped and numbers its own messages 89, 80 .. 88. A report is
answered by a command or by an empty frame, a heartbeat by nothing. An antenna just powered up marks its first frame
with 98 and wants C0 again [two].
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from protocols.rsu import names
from protocols.rsu.dialect import Dialect, Pace, Request, Side, SideRules, Timing
from protocols.rsu.framing_legacy import LegacyFraming
from protocols.rsu.layout_bj import LAYOUTS, OBU_FIRST, UNMODELLED_LANE, UNMODELLED_RSU
from protocols.rsu.messages import Acknowledge, Heartbeat, Message, Stop, StopType

TIMING = Timing(retry_ms=1_000, retries_max=0, silence_ms=90_000)
"""An antenna that hears nothing for 1 s searches anew without repeating [one]. Heartbeats may be 60 s apart; a lane
that waited 90 s for one is known."""
TIMING_REPEATING = Timing(silence_ms=90_000)
"""Timing for antennas that repeat a report, 120 ms three times [one document]."""
POWER_UP = 0x98


def swapped(seq: int) -> int:
    """RSCTL of an answer: 18 is answered with 81."""
    return (seq & 0x0F) << 4 | seq >> 4


def _asks_again(message: Message) -> bool:
    return isinstance(message, Stop) and message.stop_type == StopType.RESEND


def _is_heartbeat(message: Message) -> bool:
    return isinstance(message, Heartbeat)


LANE_RULES = SideRules(
    sends=frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC6, 0xC7, 0x4C}) | UNMODELLED_LANE,
    numbers=(0x89, *range(0x80, 0x89)),
    answer_number=swapped,
    # C6 is never repeated by itself: a second one may debit a second time.
    requests=MappingProxyType({0xC0: Request(frozenset({0xB0}), Pace.COMMAND)}),
    # Every report wants an answer. These have none of their own; B2 to B5 are the owner's to answer.
    automatic=MappingProxyType({code: Acknowledge() for code in (0xB0, *sorted(UNMODELLED_RSU))}),
    asks_again=_asks_again,
    hears_heartbeats=True,
)


def _report(*answers: int, unless_heartbeat: bool = False) -> Request:
    """A report that these commands answer, and an empty frame too."""
    if unless_heartbeat:
        return Request(frozenset({*answers, None}), Pace.REPORT, unless=_is_heartbeat)
    return Request(frozenset({*answers, None}), Pace.REPORT)


RSU_RULES = SideRules(
    sends=frozenset({0xB0, 0xB2, 0xB3, 0xB4, 0xB5}) | UNMODELLED_RSU,
    numbers=tuple(range(0x08, 0x88, 0x10)),
    answer_number=None,
    requests=MappingProxyType(
        {
            0xB2: _report(0xC1, 0xC2, unless_heartbeat=True),
            0xB3: _report(0xC1, 0xC2),
            0xB4: _report(0xC1, 0xC2, 0xC3, 0xC6, 0xC7),
            0xB5: _report(0xC1, 0xC2),
        }
    ),
    automatic=MappingProxyType({}),
    power_up_number=POWER_UP,
)

LEGACY_SERIAL_BJ = Dialect(
    name=names.LEGACY_SERIAL_BJ,
    title="serial dialect, Beijing style",
    framing=LegacyFraming(),
    layouts=LAYOUTS,
    unmodelled=UNMODELLED_LANE | UNMODELLED_RSU,
    obu_first=OBU_FIRST,
    rules=MappingProxyType({Side.LANE: LANE_RULES, Side.RSU: RSU_RULES}),
    empty_frames=True,
    timing=TIMING,
)

LEGACY_SINGLE_FF = replace(
    LEGACY_SERIAL_BJ,
    name=names.LEGACY_SINGLE_FF,
    title="serial dialect, Beijing style, start mark of one FF",
    framing=LegacyFraming(stx_bytes=1),
)
"""Dialect of makers that start a frame with one FF. Noise between two frames is then a frame with one chance in 256
that its check is right; its length stops most of those [one]."""
