"""`pcrsu-v3`: the network dialect of gantries, lanes since 2019, and new parking and fuel antennas.

The antenna listens on TCP, the lane computer connects. SEQ of the antenna counts 1 to 9 and starts again; the lane
computer numbers its own commands 10, 20 .. 90 and answers with the two nibbles of the antenna's SEQ swapped, which
antennas expect, although they also take the own counter [two].
"""

from __future__ import annotations

from types import MappingProxyType

from protocols.rsu import names, station_link
from protocols.rsu.dialect import Dialect, Pace, Request, Side, SideRules
from protocols.rsu.framing_v3 import V3Framing
from protocols.rsu.layout_v3 import LAYOUTS, OBU_FIRST, UNMODELLED
from protocols.rsu.messages import HeartbeatAck, Message, Stop, StopType


def swapped(seq: int) -> int:
    """SEQ of an answer: 07 is answered with 70."""
    return (seq & 0x0F) << 4 | seq >> 4


def _asks_again(message: Message) -> bool:
    return isinstance(message, Stop) and message.stop_type == StopType.RESEND


LANE_RULES = SideRules(
    sends=frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xCB, 0xCE, 0xCF, 0xFA, 0xFB, 0xFC}),
    numbers=tuple(range(0x10, 0xA0, 0x10)),
    answer_number=swapped,
    # C4 is answered by nothing or a heartbeat. C6 is never repeated by itself: a second one may debit a second time.
    requests=MappingProxyType({0xC0: Request(frozenset({0xB0}), Pace.COMMAND)}),
    # V3.x defines CF; older antennas take nothing, an empty frame or CF alike [two].
    automatic=MappingProxyType({0xB1: HeartbeatAck()}),
    asks_again=_asks_again,
    hears_heartbeats=True,
)

RSU_RULES = SideRules(
    sends=frozenset(
        {0xB0, 0xB1, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA, 0xBB, 0xBE, 0xD0, 0xEA, 0xEB, 0xEC}
    ),
    numbers=tuple(range(1, 10)),
    answer_number=None,
    requests=MappingProxyType(
        {
            0xB2: Request(frozenset({0xC1, 0xC2, 0xC8}), Pace.REPORT),
            0xB4: Request(frozenset({0xC1, 0xC2, 0xC3, 0xC6, 0xC8}), Pace.REPORT),
            0xB5: Request(frozenset({0xC1, 0xC2, 0xC8}), Pace.REPORT),
            0xB8: Request(frozenset({0xC1, 0xC2}), Pace.REPORT),
        }
    ),
    automatic=MappingProxyType({}),
)

PCRSU_V3 = Dialect(
    name=names.PCRSU_V3,
    title="network dialect, gantry interface V3.x",
    framing=V3Framing(),
    layouts=LAYOUTS,
    unmodelled=UNMODELLED,
    obu_first=OBU_FIRST,
    rules=MappingProxyType({Side.LANE: LANE_RULES, Side.RSU: RSU_RULES}),
    empty_frames=True,
    foreign=station_link.foreign,
)
