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

from protocols.rsu.layout import (
    U8,
    U16,
    U32,
    Layout,
    bcd,
    count_of_filled,
    default,
    filled,
    headed,
    layout,
    raw,
    reserved,
    shifted,
)
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
"""What clocks on the link are ahead of UTC: the country has one zone."""
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
_OBU_ID = "obu_id" / raw(4) * "OBU id on the air"
_DIV_FACTOR = "div_factor" / raw(8) * "diversification factor: first 4 issuer bytes, twice"
_TRANS_SERIAL = "trans_serial" / default(raw(4), bytes(4)) * "transaction serial of the lane, may be 0"
_PURCHASE_TIME = "purchase_time_bcd" / bcd(7) * "purchase time, part of MAC1 and TAC"
_ERROR = "error" / U8 * "result on the air"
_WRITTEN = "unix_seconds" / shifted(U32, CLOCK_SHIFT_S) * "clock of the antenna at the writing (local on the link)"
_TERMINAL = "terminal" / raw(6) * "PSAM terminal number"

# --- lane computer -> antenna -------------------------------------------------------------------------------------

C0_17 = layout(
    0xC0,
    17,
    Initialise,
    "unix_seconds" / shifted(U32, CLOCK_SHIFT_S) * "clock (local on the link)",
    "datetime_bcd" / bcd(7) * "wall clock",
    "lane_mode" / U8 * "kind of charge point",
    "wait_time_s" / default(U8, WAIT_TIME_S) * "time before the same OBU is read again, s",
    "tx_power" / U8 * "transmit power, 00 to 1F",
    "pll_channel" / U8 * "radio channel",
    "trans_mode" / U8 * "purchase mode",
    drops=frozenset({"bst_interval_ms", "flag_id", "reserved"}),
    source=f"{TABLE}, C0; two",
)
C1_13 = layout(0xC1, 13, Continue, _OBU_ID, _DIV_FACTOR, source=f"{TABLE}, C1; seen, without its check")
C2_6 = layout(
    0xC2,
    6,
    Stop,
    _OBU_ID,
    "stop_type" / U8 * "what to do with this OBU",
    drops=frozenset({"unix_seconds"}),
    source=f"{TABLE}, C2; two",
)
_ENTRY = (
    _OBU_ID,
    _DIV_FACTOR,
    _TRANS_SERIAL,
    _PURCHASE_TIME,
    "station" / raw(36) * "36 bytes of the station file",
)
C3_60 = layout(0xC3, 60, WriteEntry, *_ENTRY, source=f"{TABLE}, C3; two")
C7_60 = layout(0xC7, 60, RecoverTac, *_ENTRY, source=f"{TABLE}, C7; two")

_DEBIT = (_OBU_ID, _DIV_FACTOR, _TRANS_SERIAL, "amount_fen" / U32 * "purchase, fen", _PURCHASE_TIME)
C6_68 = layout(
    0xC6,
    68,
    Debit,
    *_DEBIT,
    "station" / headed(40, STATION_HEADER) * "file 0019 to be written with the purchase; its header does not travel",
    source=f"{TABLE}, C6; two",
)
C6_64 = layout(
    0xC6,
    64,
    Debit,
    *_DEBIT,
    "station" / raw(36) * "36 bytes of file 0012 or 0019, as they travel",
    source=f"{TABLE}, C6 with a short station; two",
)
X4C_2 = layout(0x4C, 2, SwitchAntenna, "on" / U8 * "radio: 00 off, 01 on", source=f"{TABLE}, 4C; two")

# --- antenna -> lane computer -------------------------------------------------------------------------------------

B0_27 = layout(
    0xB0,
    27,
    DeviceStatus,
    "rsu_status" / U8 * "state of the antenna",
    "psam_count_declared" / count_of_filled("psams", "terminal") * "number of PSAMs; which of the two is not said",
    filled("psams", 2, "terminal" / raw(6) * "PSAM terminal number") * "PSAM records",
    "algorithm_id" / U8 * "algorithm",
    "manufacturer_id" / U8 * "manufacturer",
    "rsu_id" / raw(3) * "antenna id",
    "rsu_version" / raw(2) * "software version",
    "reserved" / reserved(5) * "reserved",
    records={"psams": PsamStatus},
    slots={"psams": (2, {"terminal": bytes(6)})},
    drops=frozenset({"work_status", "flag_id", "psams.channel", "psams.auth", "psams.version"}),
    source=f"{TABLE}, B0; seen",
)


def _is_heartbeat(data: bytes) -> bool:
    return data[_ERROR_AT] == HEARTBEAT_ERROR or data[1:_ERROR_AT] == NO_OBU_SOULIN


def _is_report(data: bytes) -> bool:
    return not _is_heartbeat(data)


_HEARTBEAT = (
    "obu_id" / default(raw(4), NO_OBU) * "no OBU: 00000000, or FFFFFFFF from one maker",
    "error" / default(U8, HEARTBEAT_ERROR) * "80: heartbeat",
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


def _long_heartbeat(length: int) -> Layout:
    """A heartbeat as long as a report of this length."""
    return layout(
        0xB2,
        length,
        Heartbeat,
        *_HEARTBEAT,
        "rest" / raw(length - 6) * "means nothing in a heartbeat",
        rule=f"{length} as heartbeat",
        where=_is_heartbeat,
        source=f"{TABLE}, B2 as heartbeat, long form; one",
    )


_ISSUER = "issuer" / raw(8) * "issuer identifier"
_CONTRACT = ("contract_type" / U8 * "contract type", "contract_version" / U8 * "contract version")
_VALIDITY = (
    "serial" / raw(8) * "contract serial, BCD",
    "issued" / raw(4) * "valid from, BCD YYYYMMDD",
    "expires" / raw(4) * "valid to, BCD YYYYMMDD",
)
_TAG = ("equipment" / U8 * "device class and version", "status" / raw(2) * "OBU status")
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
    "bound_card" / raw(10) * "card bound to the OBU, BCD",
    *_TAG,
    rule="45",
    where=_is_report,
    drops=_V3_ONLY,
    source=f"{TABLE}, B2 with the bound card; two",
)

_VEHICLE = (
    _OBU_ID,
    _ERROR,
    "plate" / raw(12) * "plate, GBK",
    "plate_color" / raw(2) * "plate colour",
    "vehicle_class" / U8 * "vehicle class",
    "user_type" / U8 * "vehicle user type",
)
B3_22 = layout(0xB3, 22, VehicleReport, *_VEHICLE, source=f"{TABLE}, B3; seen")
B3_69 = layout(
    0xB3,
    69,
    VehicleReport,
    *_VEHICLE,
    # The description lists fields of 43 bytes for these 47, so they are not taken apart.
    "extension" / raw(47) * "dimensions, load and engine number, not taken apart",
    source=f"{TABLE}, B3 long form; one, fields inside contradict its length",
)

_USER = (
    _OBU_ID,
    _ERROR,
    "card_type" / default(U8, 0) * "national or local card",
    "physical_card_type" / default(U8, 0) * "kind of chip",
    "trans_type" / U8 * "kind of purchase",
    "balance_raw" / U32 * "balance, fen",
    "card_uid" / default(raw(4), bytes(4)) * "number of the chip, 0 for CPU cards",
    "card_file" / raw(43) * "file 0015",
)
B4_103 = layout(
    0xB4, 103, UserReport, *_USER, "station" / raw(43) * "last station: file 0019", source=f"{TABLE}, B4; seen"
)
B4_99 = layout(
    0xB4,
    99,
    UserReport,
    *_USER,
    "station" / raw(39) * "39 bytes of the last station, file 0019 or 0012",
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
    "trans_time_bcd" / bcd(7) * "purchase time",
    "trans_type" / U8 * "kind of purchase",
    "tac" / raw(4) * "TAC",
    "card_serial" / U16 * "card counter of the purchase, 0 without one",
    "psam_serial" / U32 * "PSAM counter of the purchase",
    "balance_raw" / U32 * "balance after the purchase, fen",
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

LAYOUTS: tuple[Layout, ...] = (
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
