"""Layouts of `pcrsu-v3`: the network generation, gantry interface V3.1 to V3.5 and what lanes and car parks made of it.

Offset 0 is the type byte. All numbers are big-endian, money is fen, dates are BCD. One type byte has several layouts;
the length chooses. When a message of ours is encoded, the fields that are None choose.

Confidence of a layout stands in its `source`: *seen* in a real frame with a right check, *two* or more independent
descriptions agree, *one* description, or its length is *inferred* by adding fields up.
"""

from __future__ import annotations

from collections.abc import Mapping

from protocols.codings import bcd
from protocols.fields import Field, Privacy, Repeated, numbers, raw, uint
from protocols.rsu import meanings_v3 as meanings
from protocols.rsu.layout import Counts, FrameLayout, count_of, layout
from protocols.rsu.messages import (
    AntennaStatus,
    Continue,
    Debit,
    DebitResult,
    DeviceStatus,
    FetchTac,
    Heartbeat,
    HeartbeatAck,
    Initialise,
    ObuReport,
    PsamStatus,
    Stop,
    SwitchAntenna,
    TacResult,
    UserReport,
)

OBU_ID = Field("obu_id", raw(4), "OBU or CPC card id on the air", privacy=Privacy.NUMBER)
DIV_FACTOR = Field(
    "div_factor", raw(8), "diversification factor: first 4 issuer bytes, twice", words=meanings.issuer_name
)
FLAG_ID = Field("flag_id", raw(3), "gantry or toll lane code")

# --- lane computer -> antenna -------------------------------------------------------------------------------------

C0_22 = layout(
    0xC0,
    22,
    Initialise,
    Field("unix_seconds", uint(4), "clock, seconds since 1970 (UTC)", words=meanings.moment),
    Field("datetime_bcd", bcd(7), "wall clock", words=meanings.wall_clock),
    Field("lane_mode", uint(1), "kind of charge point", words=meanings.LANE_MODES),
    Field("bst_interval_ms", uint(1), "beacon interval, ms", words=meanings.milliseconds),
    Field("tx_power", uint(1), "transmit power, 00 to 1F"),
    Field("pll_channel", uint(1), "radio channel", words=meanings.RADIO_CHANNELS),
    Field("trans_mode", uint(1), "purchase mode", words=meanings.TRANS_MODES),
    FLAG_ID,
    Field("reserved", raw(2), "row of the gantry, 00", default=bytes(2)),
    source="gantry interface V3.x, C0; two",
)

C1_13 = layout(0xC1, 13, Continue, OBU_ID, DIV_FACTOR, source="gantry interface V3.x, C1; two")

_STOP_TYPE = Field("stop_type", uint(1), "what to do with this OBU", words=meanings.STOP_TYPES)
C2_10 = layout(
    0xC2,
    10,
    Stop,
    OBU_ID,
    _STOP_TYPE,
    Field("unix_seconds", uint(4), "clock, seconds since 1970 (UTC)", words=meanings.moment),
    source="gantry interface V3.x, C2; two",
)
C2_6 = layout(0xC2, 6, Stop, OBU_ID, _STOP_TYPE, source="older form of C2, without time; one")

C4_2 = layout(
    0xC4,
    2,
    SwitchAntenna,
    Field("on", uint(1), "radio: 00 off, 01 on", words=meanings.SWITCH),
    source="gantry interface V3.x, C4; seen (WanJi)",
)

_AMOUNT = Field("amount_fen", uint(4), "purchase, fen", words=meanings.yuan)
_PURCHASE_TIME = Field("purchase_time_bcd", bcd(7), "purchase time, part of MAC1 and TAC", words=meanings.wall_clock)
_STATION_OUT = Field("station", raw(43), "file 0019 to be written with the purchase", privacy=Privacy.HIDDEN)
_EF04 = Field("ef04", raw(91), "file EF04, bytes 315 to 405", privacy=Privacy.HIDDEN)
_DEBIT_WITH_EF04 = (
    OBU_ID,
    DIV_FACTOR,
    Field("trade_type", uint(1), "what to write and debit", words=meanings.TRADE_TYPES),
    _AMOUNT,
    _PURCHASE_TIME,
    _STATION_OUT,
    _EF04,
)
C6_67 = layout(
    0xC6,
    67,
    Debit,
    OBU_ID,
    DIV_FACTOR,
    _AMOUNT,
    _PURCHASE_TIME,
    _STATION_OUT,
    source="gantry interface V3.1 and parking, C6; two",
)
C6_159 = layout(0xC6, 159, Debit, *_DEBIT_WITH_EF04, source="gantry interface V3.x, C6 with EF04; one")
C6_164 = layout(
    0xC6,
    164,
    Debit,
    *_DEBIT_WITH_EF04,
    Field("ef04_extra", raw(5), "EF04 offset N, then 4 bytes written there", privacy=Privacy.HIDDEN),
    source="gantry interface V3.4, C6; one",
)
C6_174 = layout(
    0xC6,
    174,
    Debit,
    *_DEBIT_WITH_EF04,
    Field(
        "ef04_extra",
        raw(15),
        "two-piece: offset N, 4 bytes, padding; one-piece: N, then 14 bytes of EF07",
        privacy=Privacy.HIDDEN,
    ),
    source="gantry interface V3.5, C6; one",
)

_CARD_SERIAL = Field("card_serial", uint(2), "card counter of the purchase asked about")
C8_7 = layout(0xC8, 7, FetchTac, OBU_ID, _CARD_SERIAL, source="gantry interface V3.x, C8; two")
C8_22 = layout(
    0xC8,
    22,
    FetchTac,
    OBU_ID,
    _CARD_SERIAL,
    Field("ef04_extra", raw(15), "EF04 offset N, then what is written there", privacy=Privacy.HIDDEN),
    source="gantry interface V3.5, C8; one, length inferred",
)
C8_104 = layout(
    0xC8,
    104,
    FetchTac,
    OBU_ID,
    _CARD_SERIAL,
    Field("ef04_command", uint(1), "00 no EF04, 01 write EF04 too", words=meanings.EF04_COMMANDS),
    _EF04,
    Field("ef04_extra", raw(5), "EF04 offset N, then 4 bytes written there", privacy=Privacy.HIDDEN),
    source="gantry interface V3.4, C8; one, length inferred",
)

CF_2 = layout(0xCF, 2, HeartbeatAck, Field("status", uint(1), "00"), source="gantry interface V3.x, CF; two")

# --- antenna -> lane computer -------------------------------------------------------------------------------------

_B0_FIXED = 18
_B0_RECORD = 9
_B1_FIXED = 8
RECORDS_MAX = 16
"""Most PSAM or antenna records taken from one frame: the channel mask of CA has room for 16 in its short form."""


def _plan_b0(data: bytes) -> Counts | None:
    """The length decides. WanJi antennas declare 0 PSAMs and still send one record [seen]."""
    count, rest = divmod(len(data) - _B0_FIXED, _B0_RECORD)
    return {"psams": count} if rest == 0 and 0 <= count <= RECORDS_MAX else None


B0_N = layout(
    0xB0,
    None,
    DeviceStatus,
    Field("rsu_status", uint(1), "state of the antenna", words=meanings.RSU_STATES),
    Field("psam_count_declared", uint(1), "PSAM records declared (the length decides)", default=count_of("psams")),
    Repeated(
        "psams",
        (
            Field("channel", uint(1), "PSAM slot"),
            Field("version", uint(1), "PSAM version"),
            Field("auth", uint(1), "00 authorised or not needed, 01 not authorised", words=meanings.PSAM_AUTH),
            Field("terminal", raw(6), "terminal number"),
        ),
        "PSAM records",
        PsamStatus,
    ),
    Field("algorithm_id", uint(1), "algorithm"),
    Field("manufacturer_id", uint(1), "manufacturer", words=meanings.MANUFACTURERS),
    Field("rsu_id", raw(3), "antenna id, equals the beacon id"),
    Field("rsu_version", raw(2), "software version"),
    Field("work_status", uint(1), "work state"),
    FLAG_ID,
    Field("reserved", raw(4), "reserved; 03040000 at V3.4 gantries", default=bytes(4)),
    rule="18+9n",
    plan=_plan_b0,
    source="gantry interface V3.x, B0; seen (WanJi)",
)


def _plan_b1(data: bytes) -> Counts | None:
    """Declared counts when they add up to the length; else one record in the first PSAM set, as WanJi sends [seen].

    The second set then has what it declares or nothing, whichever adds up.
    """
    if len(data) < _B1_FIXED:
        return None
    for first, second_declared in ((data[4], True), (1, True), (1, False)):
        second_at = 5 + 3 * first
        second = data[second_at] if second_declared and second_at < len(data) else 0
        antennas_at = second_at + 1 + 3 * second
        antennas = data[antennas_at] if antennas_at < len(data) else 0
        fits = len(data) == _B1_FIXED + 3 * first + 3 * second + 4 * antennas
        if fits and max(first, second, antennas) <= RECORDS_MAX:
            return {"psams1": first, "psams2": second, "antennas": antennas}
    return None


_PSAM_RUN = (
    Field("channel", uint(1), "PSAM slot"),
    Field("run", uint(1), "00 works, 01 fault", words=meanings.PSAM_RUN),
    Field("auth", uint(1), "00 authorised, 01 not authorised", words=meanings.PSAM_AUTH),
)
B1_N = layout(
    0xB1,
    None,
    Heartbeat,
    Field(
        "control_status",
        numbers(3),
        "controllers 1 and 2, and the link between them",
        words=(meanings.CONTROLLERS, meanings.CONTROLLERS, meanings.LINK_STATE),
    ),
    Field("psam1_count_declared", uint(1), "PSAM records of set 1 declared", default=count_of("psams1")),
    Repeated("psams1", _PSAM_RUN, "PSAM set 1", PsamStatus),
    Field("psam2_count_declared", uint(1), "PSAM records of set 2 declared", default=count_of("psams2")),
    Repeated("psams2", _PSAM_RUN, "PSAM set 2", PsamStatus),
    Field("antenna_count_declared", uint(1), "antenna heads", default=count_of("antennas")),
    Field("antenna_ok_declared", uint(1), "antenna heads said to work"),
    Repeated(
        "antennas",
        (
            Field("antenna_id", uint(1), "antenna head"),
            Field(
                "status", uint(1), "00 works, 01 link fault, 02 radio fault, 03 other", words=meanings.ANTENNA_STATES
            ),
            Field("channel", uint(1), "00 channel 1, 01 channel 2", words=meanings.ANTENNA_CHANNELS),
            Field("power", uint(1), "transmit power"),
        ),
        "antenna heads",
        AntennaStatus,
    ),
    rule="8+3n+3m+4h",
    plan=_plan_b1,
    source="gantry interface V3.x, B1; seen (WanJi)",
)


def _error(words: Mapping[int, str]) -> Field:
    """The result byte: its codes are each message's own."""
    return Field("error", uint(1), "result on the air", words=words)


_TAG_FOUND = _error(meanings.B2_ERRORS)
_ANTENNA_ID = Field("antenna_id", uint(1), "antenna head that saw it")
_DEVICE_TYPE = Field("device_type", uint(1), "kind of device", words=meanings.DEVICE_TYPES)
_SYSTEM_INFO = (
    Field("issuer", raw(8), "issuer identifier", words=meanings.issuer_name),
    Field("contract_type", uint(1), "contract type"),
    Field("contract_version", uint(1), "contract version"),
    Field("serial", raw(8), "contract serial (OBU) or card id (CPC), BCD", privacy=Privacy.NUMBER),
    Field("issued", raw(4), "valid from, BCD YYYYMMDD", words=meanings.day),
    Field("expires", raw(4), "valid to, BCD YYYYMMDD", words=meanings.day),
    Field("equipment", uint(1), "device class and version"),
    Field("status", raw(2), "OBU status", words=meanings.obu_status),
)
B2_37 = layout(
    0xB2,
    37,
    ObuReport,
    OBU_ID,
    _TAG_FOUND,
    _ANTENNA_ID,
    _DEVICE_TYPE,
    *_SYSTEM_INFO,
    source="gantry interface V3.x, B2; seen (WanJi)",
)
B2_36 = layout(
    0xB2,
    36,
    ObuReport,
    OBU_ID,
    _TAG_FOUND,
    _DEVICE_TYPE,
    *_SYSTEM_INFO,
    source="lane interface V3, B2 without antenna id; one, length inferred",
)
B2_35 = layout(
    0xB2,
    35,
    ObuReport,
    OBU_ID,
    _TAG_FOUND,
    *_SYSTEM_INFO,
    source="2018 version of B2, without antenna id and type; one",
)

_TRANS_TYPE = Field("trans_type", uint(1), "kind of purchase", words=meanings.TRANS_TYPES)
_USER_HEAD = (OBU_ID, _error(meanings.B4_ERRORS), _TRANS_TYPE)
_VEHICLE = Field("vehicle_file", raw(79), "vehicle file, decrypted", privacy=Privacy.HIDDEN)
_BALANCE = Field("balance_raw", uint(4), "balance, fen (signed for charge cards)", words=meanings.balance)
_CARD = Field("card_file", raw(50), "file 0015 (43 bytes) and padding", privacy=Privacy.HIDDEN)
_STATION_IN = Field("station", raw(43), "last station: file 0019, EF02 or EF01", privacy=Privacy.HIDDEN)
_CPC_FEE = Field("cpc_fee", raw(10), "fee of this province, DF01/EF04")

B4_183 = layout(
    0xB4,
    183,
    UserReport,
    *_USER_HEAD,
    _VEHICLE,
    _BALANCE,
    _CARD,
    _STATION_IN,
    source="gantry interface V3.1 and parking, B4; seen (WanJi)",
)
B4_274 = layout(
    0xB4,
    274,
    UserReport,
    *_USER_HEAD,
    _VEHICLE,
    _BALANCE,
    _EF04,
    _CARD,
    _STATION_IN,
    source="gantry interface V3.x, B4 with EF04; two",
)
B4_64 = layout(
    0xB4,
    64,
    UserReport,
    *_USER_HEAD,
    _STATION_IN,
    Field("cpc_province", raw(4), "first 4 bytes of DF01/EF02"),
    _CPC_FEE,
    source="gantry interface V3.x, B4 of a CPC card; one",
)
B4_161 = layout(
    0xB4,
    161,
    UserReport,
    *_USER_HEAD,
    _STATION_IN,
    Field("cpc_province", raw(101), "first 101 bytes of DF01/EF02"),
    _CPC_FEE,
    source="gantry interface V3.5, B4 of a CPC card; one, last field inferred",
)
B4_104 = layout(
    0xB4, 104, UserReport, *_USER_HEAD, _BALANCE, _CARD, _STATION_IN, source="B4 without vehicle file; one (a viewer)"
)
B4_133 = layout(
    0xB4,
    133,
    UserReport,
    *_USER_HEAD,
    _BALANCE,
    _CARD,
    Field("station", raw(63), "file 0019 padded to 63 bytes", privacy=Privacy.HIDDEN),
    Field("ef04", raw(6), "file EF04, first 6 bytes", privacy=Privacy.HIDDEN),
    Field("file_0008", raw(3), "file 0008, first 3 bytes"),
    source="2018 multi-path version of B4; one",
)

_RESULT_HEAD = (
    OBU_ID,
    _error(meanings.B5_ERRORS),
    Field("terminal", raw(6), "PSAM terminal number"),
    Field("trans_time_bcd", bcd(7), "purchase time", words=meanings.wall_clock),
    _TRANS_TYPE,
)
_KEY = Field("algorithm", uint(1), "algorithm of the purchase", words=meanings.ALGORITHMS)
_PROOF = (
    Field("tac", raw(4), "TAC"),
    Field("card_serial", uint(2), "card counter of the purchase"),
    Field("psam_serial", uint(4), "PSAM counter of the purchase"),
    Field("balance_raw", uint(4), "balance after the purchase, fen", words=meanings.balance),
)
B5_36 = layout(
    0xB5,
    36,
    DebitResult,
    *_RESULT_HEAD,
    _KEY,
    Field("key_version", uint(1), "key version"),
    *_PROOF,
    source="gantry interface V3.x, B5; seen",
)
B5_35 = layout(0xB5, 35, DebitResult, *_RESULT_HEAD, *_PROOF, _KEY, source="2018 version of B5; one")
B5_20 = layout(0xB5, 20, DebitResult, *_RESULT_HEAD, source="gantry interface V3.x, B5 of a CPC card; two")

B8_18 = layout(
    0xB8,
    18,
    TacResult,
    OBU_ID,
    _error(meanings.B8_ERRORS),
    Field("tac", raw(4), "TAC"),
    Field("mac", raw(4), "MAC2"),
    Field("balance_raw", uint(4), "balance, fen", words=meanings.balance),
    source="gantry interface V3.x, B8; one",
)

LAYOUTS: tuple[FrameLayout, ...] = (
    C0_22,
    C1_13,
    C2_10,
    C2_6,
    C4_2,
    C6_67,
    C6_159,
    C6_164,
    C6_174,
    C8_7,
    C8_22,
    C8_104,
    CF_2,
    B0_N,
    B1_N,
    B2_37,
    B2_36,
    B2_35,
    B4_183,
    B4_274,
    B4_64,
    B4_161,
    B4_104,
    B4_133,
    B5_36,
    B5_35,
    B5_20,
    B8_18,
)
"""Every layout of the dialect. Where several fit a message of ours, the first of them is taken."""

UNMODELLED: frozenset[int] = frozenset(
    {0xC3, 0xC7, 0xC9, 0xCA, 0xCB, 0xCE, 0xFA, 0xFB, 0xFC}
    | {0xB3, 0xB6, 0xB7, 0xB9, 0xBA, 0xBB, 0xBE, 0xD0, 0xEA, 0xEB, 0xEC}
)
"""Known types without a layout here: lane-version commands, PSAM authorisation, radio tests, CPC extras, position."""

OBU_FIRST: frozenset[int] = frozenset({0xC3, 0xC7, 0xB3, 0xB6, 0xB7, 0xD0})
"""Unmodelled types whose body starts with the OBU or CPC id."""
