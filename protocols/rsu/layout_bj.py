"""Layouts of the serial protocol of the Beijing style, the common form of the dialects before the network generation.

Lengths and offsets count from the type byte; field tables that count RSCTL too say one more. All numbers are
big-endian, money is fen, dates are BCD. The frame does not say how long DATA is, and its check cannot see a wrong
un-escaping: a length that no layout has is the only sign of one.

Two things stand otherwise on the link than in our messages, and are put right here. File 0019 travels without its
header AA 29 00, which the antenna adds; our messages have the whole file. Clocks count local wall time as if it were
UTC; ours are UTC [seen: the clock of a recorded B5 is the wall time of its purchase, in the antenna's zone].

Confidence of a layout stands in its `source`, as in `layout_v3`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from protocols.codings import bcd, headed, read_text, shifted
from protocols.fields import Field, Privacy, Repeated, raw, uint
from protocols.rsu import meanings_bj as meanings
from protocols.rsu import meanings_v3
from protocols.rsu.layout import FrameLayout, layout
from protocols.rsu.messages import (
    Continue,
    Debit,
    DebitResult,
    DeviceStatus,
    Heartbeat,
    Initialise,
    ObuReport,
    PsamStatus,
    RecoverTac,
    Stop,
    SwitchAntenna,
    UserReport,
    VehicleReport,
    WriteEntry,
    WriteResult,
)

CLOCK_SHIFT_S = 8 * 3600
"""Lead of clocks on the link over UTC, seconds: the country has one zone."""
WAIT_TIME_S = 2
"""Time before the same OBU is read again when a message of ours does not say: lanes set 1 or 2 s [two]."""
STATION_HEADER = bytes.fromhex("aa2900")
"""First bytes of file 0019, which do not travel [seen]."""
HEARTBEAT_ERROR = 0x80
NO_OBU = bytes(4)
NO_OBU_SOULIN = b"\xff" * 4
"""OBU id in a heartbeat of one maker [one]."""
TABLE = "serial protocol of the Beijing style"

_ERROR_AT = 5
_OBU_ID = Field("obu_id", raw(4), "OBU id on the air", privacy=Privacy.NUMBER)
_DIV_FACTOR = Field(
    "div_factor", raw(8), "diversification factor: first 4 issuer bytes, twice", words=meanings_v3.issuer_name
)
_TRANS_SERIAL = Field("trans_serial", raw(4), "transaction serial of the lane, may be 0", default=bytes(4))
_PURCHASE_TIME = Field("purchase_time_bcd", bcd(7), "purchase time, part of MAC1 and TAC", words=meanings_v3.wall_clock)
_ERROR = Field("error", uint(1), "result on the air", words=meanings.ERRORS)
_WRITTEN = Field(
    "unix_seconds",
    shifted(4, CLOCK_SHIFT_S),
    "clock of the antenna at the writing (local on the link)",
    words=meanings_v3.moment,
)
_TERMINAL = Field("terminal", raw(6), "PSAM terminal number")

# --- lane computer -> antenna -------------------------------------------------------------------------------------

C0_17 = layout(
    0xC0,
    17,
    Initialise,
    Field("unix_seconds", shifted(4, CLOCK_SHIFT_S), "clock (local on the link)", words=meanings_v3.moment),
    Field("datetime_bcd", bcd(7), "wall clock", words=meanings_v3.wall_clock),
    Field("lane_mode", uint(1), "kind of charge point", words=meanings.LANE_MODES),
    Field(
        "wait_time_s", uint(1), "time before the same OBU is read again, s", default=WAIT_TIME_S, words=meanings.seconds
    ),
    Field("tx_power", uint(1), "transmit power, 00 to 1F"),
    Field("pll_channel", uint(1), "radio channel", words=meanings.RADIO_CHANNELS),
    Field("trans_mode", uint(1), "purchase mode", words=meanings.TRANS_MODES),
    drops=frozenset({"bst_interval_ms", "flag_id", "reserved"}),
    source=f"{TABLE}, C0; two",
)
C1_13 = layout(0xC1, 13, Continue, _OBU_ID, _DIV_FACTOR, source=f"{TABLE}, C1; seen, without its check")
C2_6 = layout(
    0xC2,
    6,
    Stop,
    _OBU_ID,
    Field("stop_type", uint(1), "what to do with this OBU", words=meanings.STOP_TYPES),
    drops=frozenset({"unix_seconds"}),
    source=f"{TABLE}, C2; two",
)
_ENTRY = (
    _OBU_ID,
    _DIV_FACTOR,
    _TRANS_SERIAL,
    _PURCHASE_TIME,
    Field("station", raw(36), "36 bytes of the station file", privacy=Privacy.HIDDEN),
)
C3_60 = layout(0xC3, 60, WriteEntry, *_ENTRY, source=f"{TABLE}, C3; two")
C7_60 = layout(0xC7, 60, RecoverTac, *_ENTRY, source=f"{TABLE}, C7; two")

_DEBIT = (
    _OBU_ID,
    _DIV_FACTOR,
    _TRANS_SERIAL,
    Field("amount_fen", uint(4), "purchase, fen", words=meanings_v3.yuan),
    _PURCHASE_TIME,
)
C6_68 = layout(
    0xC6,
    68,
    Debit,
    *_DEBIT,
    Field(
        "station",
        headed(40, STATION_HEADER),
        "file 0019 to be written with the purchase; its header does not travel",
        privacy=Privacy.HIDDEN,
    ),
    source=f"{TABLE}, C6; two",
)
C6_64 = layout(
    0xC6,
    64,
    Debit,
    *_DEBIT,
    Field("station", raw(36), "36 bytes of file 0012 or 0019, as they travel", privacy=Privacy.HIDDEN),
    source=f"{TABLE}, C6 with a short station; two",
)
X4C_2 = layout(
    0x4C,
    2,
    SwitchAntenna,
    Field("on", uint(1), "radio: 00 off, 01 on", words=meanings_v3.SWITCH),
    source=f"{TABLE}, 4C; two",
)

# --- antenna -> lane computer -------------------------------------------------------------------------------------


def _psams_present(values: Mapping[str, Any]) -> int:
    return sum(any(psam["terminal"]) for psam in values["psams"])


B0_27 = layout(
    0xB0,
    27,
    DeviceStatus,
    Field("rsu_status", uint(1), "state of the antenna", words=meanings_v3.RSU_STATES),
    Field("psam_count_declared", uint(1), "number of PSAMs; which of the two is not said", default=_psams_present),
    Repeated(
        "psams",
        (Field("terminal", raw(6), "PSAM terminal number"),),
        "PSAM records",
        PsamStatus,
        count=2,
        blank={"terminal": bytes(6)},
    ),
    Field("algorithm_id", uint(1), "algorithm"),
    Field("manufacturer_id", uint(1), "manufacturer", words=meanings_v3.MANUFACTURERS),
    Field("rsu_id", raw(3), "antenna id"),
    Field("rsu_version", raw(2), "software version"),
    Field("reserved", raw(5), "reserved", default=bytes(5)),
    drops=frozenset({"work_status", "flag_id", "psams.channel", "psams.auth", "psams.version"}),
    source=f"{TABLE}, B0; seen",
)


def _is_heartbeat(data: bytes) -> bool:
    return data[_ERROR_AT] == HEARTBEAT_ERROR or data[1:_ERROR_AT] == NO_OBU_SOULIN


def _is_report(data: bytes) -> bool:
    return not _is_heartbeat(data)


_HEARTBEAT = (
    Field("obu_id", raw(4), "no OBU: 00000000, or FFFFFFFF from one maker", default=NO_OBU, privacy=Privacy.NUMBER),
    Field("error", uint(1), "80: heartbeat", default=HEARTBEAT_ERROR, words=meanings.ERRORS),
)
B2_BEAT = layout(
    0xB2,
    6,
    Heartbeat,
    *_HEARTBEAT,
    rule="6 as heartbeat",
    where=_is_heartbeat,
    # What only the heartbeat of the network dialect tells.
    drops=frozenset(
        {
            "control_status",
            "psam1_count_declared",
            "psams1",
            "psam2_count_declared",
            "psams2",
            "antennas",
            "antenna_count_declared",
            "antenna_ok_declared",
        }
    ),
    source=f"{TABLE}, B2 as heartbeat; two",
)


def _long_heartbeat(length: int) -> FrameLayout:
    """A heartbeat as long as a report of this length."""
    return layout(
        0xB2,
        length,
        Heartbeat,
        *_HEARTBEAT,
        Field("rest", raw(length - 6), "means nothing in a heartbeat", privacy=Privacy.HIDDEN),
        rule=f"{length} as heartbeat",
        where=_is_heartbeat,
        source=f"{TABLE}, B2 as heartbeat, long form; one",
    )


_ISSUER = Field("issuer", raw(8), "issuer identifier", words=meanings_v3.issuer_name)
_CONTRACT = (Field("contract_type", uint(1), "contract type"), Field("contract_version", uint(1), "contract version"))
_VALIDITY = (
    Field("serial", raw(8), "contract serial, BCD", privacy=Privacy.NUMBER),
    Field("issued", raw(4), "valid from, BCD YYYYMMDD", words=meanings_v3.day),
    Field("expires", raw(4), "valid to, BCD YYYYMMDD", words=meanings_v3.day),
)
_TAG = (
    Field("equipment", uint(1), "device class and version"),
    Field("status", raw(2), "OBU status", words=meanings_v3.obu_status),
)
_V3_ONLY = frozenset({"antenna_id", "device_type"})
B2_33 = layout(
    0xB2,
    33,
    ObuReport,
    _OBU_ID,
    _ERROR,
    _ISSUER,
    *_VALIDITY,
    *_TAG,
    rule="33",
    where=_is_report,
    drops=_V3_ONLY,
    source=f"{TABLE}, B2; seen",
)
B2_35 = layout(
    0xB2,
    35,
    ObuReport,
    _OBU_ID,
    _ERROR,
    _ISSUER,
    *_CONTRACT,
    *_VALIDITY,
    *_TAG,
    rule="35",
    where=_is_report,
    drops=_V3_ONLY,
    source=f"{TABLE}, B2 of the standard document; two",
)
B2_45 = layout(
    0xB2,
    45,
    ObuReport,
    _OBU_ID,
    _ERROR,
    _ISSUER,
    *_CONTRACT,
    *_VALIDITY,
    Field("bound_card", raw(10), "card bound to the OBU, BCD", privacy=Privacy.NUMBER),
    *_TAG,
    rule="45",
    where=_is_report,
    drops=_V3_ONLY,
    source=f"{TABLE}, B2 with the bound card; two",
)

_VEHICLE = (
    _OBU_ID,
    _ERROR,
    Field("plate", raw(12, read_text), "plate, GBK", privacy=Privacy.PLATE),
    Field("plate_color", raw(2), "plate colour"),
    Field("vehicle_class", uint(1), "vehicle class", words=meanings.vehicle_class),
    Field("user_type", uint(1), "vehicle user type"),
)
B3_22 = layout(0xB3, 22, VehicleReport, *_VEHICLE, source=f"{TABLE}, B3; seen")
B3_69 = layout(
    0xB3,
    69,
    VehicleReport,
    *_VEHICLE,
    # The description lists fields of 43 bytes for these 47, so they are not taken apart.
    Field("extension", raw(47), "dimensions, load and engine number, not taken apart", privacy=Privacy.HIDDEN),
    source=f"{TABLE}, B3 long form; one, fields inside contradict its length",
)

_USER = (
    _OBU_ID,
    _ERROR,
    Field("card_type", uint(1), "national or local card", default=0, words=meanings.CARD_TYPES),
    Field("physical_card_type", uint(1), "kind of chip", default=0, words=meanings.CHIPS),
    Field("trans_type", uint(1), "kind of purchase", words=meanings.TRANS_TYPES),
    Field("balance_raw", uint(4), "balance, fen", words=meanings.balance),
    Field("card_uid", raw(4), "number of the chip, 0 for CPU cards", default=bytes(4), privacy=Privacy.NUMBER),
    Field("card_file", raw(43), "file 0015", privacy=Privacy.HIDDEN),
)
B4_103 = layout(
    0xB4,
    103,
    UserReport,
    *_USER,
    Field("station", raw(43), "last station: file 0019", privacy=Privacy.HIDDEN),
    source=f"{TABLE}, B4; seen",
)
B4_99 = layout(
    0xB4,
    99,
    UserReport,
    *_USER,
    Field("station", raw(39), "39 bytes of the last station, file 0019 or 0012", privacy=Privacy.HIDDEN),
    source=f"{TABLE}, B4 with a short station; two",
)

B5_38 = layout(
    0xB5,
    38,
    DebitResult,
    _OBU_ID,
    _ERROR,
    _WRITTEN,
    _TERMINAL,
    Field("trans_time_bcd", bcd(7), "purchase time", words=meanings_v3.wall_clock),
    Field("trans_type", uint(1), "kind of purchase", words=meanings.TRANS_TYPES),
    Field("tac", raw(4), "TAC"),
    Field("card_serial", uint(2), "card counter of the purchase, 0 without one"),
    Field("psam_serial", uint(4), "PSAM counter of the purchase"),
    Field("balance_raw", uint(4), "balance after the purchase, fen", words=meanings.balance),
    drops=frozenset({"algorithm", "key_version"}),
    source=f"{TABLE}, B5; seen",
)
B5_16 = layout(
    0xB5,
    16,
    WriteResult,
    _OBU_ID,
    _ERROR,
    _WRITTEN,
    _TERMINAL,
    source=f"{TABLE}, B5 after C3; one, length inferred",
)

LAYOUTS: tuple[FrameLayout, ...] = (
    C0_17,
    C1_13,
    C2_6,
    C3_60,
    C6_68,
    C6_64,
    C7_60,
    X4C_2,
    B0_27,
    B2_BEAT,
    B2_33,
    B2_35,
    B2_45,
    _long_heartbeat(33),
    _long_heartbeat(35),
    _long_heartbeat(45),
    B3_22,
    B3_69,
    B4_103,
    B4_99,
    B5_38,
    B5_16,
)
"""Every layout of the dialect. Where several fit a message of ours, the first of them is taken."""

UNMODELLED_LANE: frozenset[int] = frozenset({0xAB, 0xC4, 0xC5, 0xC8, 0xC9, 0xCD, 0xCF, 0xD1, 0xD2, 0xD8, 0xD9})
"""Commands that differ from maker to maker, PSAM authorisation, maintenance."""
UNMODELLED_RSU: frozenset[int] = frozenset({0xB1, 0xB6, 0xB7, 0xB8, 0xB9, 0xBD, 0xBF, 0xD0})
"""Ground loops, extra files, PSAM authorisation, position."""
OBU_FIRST: frozenset[int] = frozenset({0xD0})
"""Unmodelled types whose body starts with the OBU id in every description."""
