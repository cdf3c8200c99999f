"""Layouts of `pcrsu-v3`: the network generation, gantry interface V3.1 to V3.5 and what lanes and car parks made of it.

Offset 0 is the type byte. All numbers are big-endian, money is fen, dates are BCD. One type byte has several layouts;
the length chooses. When a message of ours is encoded, the fields that are None choose.

Confidence of a layout stands in its `source`: *seen* in a real frame with a right check, *two* or more independent
descriptions agree, *one* description, or its length is *inferred* by adding fields up.
"""

from __future__ import annotations

from protocols.rsu.layout import (
    U8,
    U16,
    U32,
    Counts,
    Layout,
    bcd,
    count_of,
    layout,
    numbers,
    raw,
    repeated,
    reserved,
)
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

OBU_ID = "obu_id" / raw(4) * "OBU or CPC card id on the air"
DIV_FACTOR = "div_factor" / raw(8) * "diversification factor: first 4 issuer bytes, twice"
FLAG_ID = "flag_id" / raw(3) * "gantry or toll lane code"

# --- lane computer -> antenna -------------------------------------------------------------------------------------

C0_22 = layout(
    0xC0,
    22,
    Initialise,
    "unix_seconds" / U32 * "clock, seconds since 1970 (UTC)",
    "datetime_bcd" / bcd(7) * "wall clock",
    "lane_mode" / U8 * "kind of charge point",
    "bst_interval_ms" / U8 * "beacon interval, ms",
    "tx_power" / U8 * "transmit power, 00 to 1F",
    "pll_channel" / U8 * "radio channel",
    "trans_mode" / U8 * "purchase mode",
    FLAG_ID,
    "reserved" / reserved(2) * "row of the gantry, 00",
    source="gantry interface V3.x, C0; two",
)

C1_13 = layout(0xC1, 13, Continue, OBU_ID, DIV_FACTOR, source="gantry interface V3.x, C1; two")

_STOP_TYPE = "stop_type" / U8 * "what to do with this OBU"
C2_10 = layout(
    0xC2,
    10,
    Stop,
    OBU_ID,
    _STOP_TYPE,
    "unix_seconds" / U32 * "clock, seconds since 1970 (UTC)",
    source="gantry interface V3.x, C2; two",
)
C2_6 = layout(0xC2, 6, Stop, OBU_ID, _STOP_TYPE, source="older form of C2, without time; one")

C4_2 = layout(
    0xC4, 2, SwitchAntenna, "on" / U8 * "radio: 00 off, 01 on", source="gantry interface V3.x, C4; seen (WanJi)"
)

_AMOUNT = "amount_fen" / U32 * "purchase, fen"
_PURCHASE_TIME = "purchase_time_bcd" / bcd(7) * "purchase time, part of MAC1 and TAC"
_STATION_OUT = "station" / raw(43) * "file 0019 to be written with the purchase"
_EF04 = "ef04" / raw(91) * "file EF04, bytes 315 to 405"
_DEBIT_WITH_EF04 = (
    OBU_ID,
    DIV_FACTOR,
    "trade_type" / U8 * "what to write and debit",
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
    "ef04_extra" / raw(5) * "EF04 offset N, then 4 bytes written there",
    source="gantry interface V3.4, C6; one",
)
C6_174 = layout(
    0xC6,
    174,
    Debit,
    *_DEBIT_WITH_EF04,
    "ef04_extra" / raw(15) * "two-piece: offset N, 4 bytes, padding; one-piece: N, then 14 bytes of EF07",
    source="gantry interface V3.5, C6; one",
)

_CARD_SERIAL = "card_serial" / U16 * "card counter of the purchase asked about"
C8_7 = layout(0xC8, 7, FetchTac, OBU_ID, _CARD_SERIAL, source="gantry interface V3.x, C8; two")
C8_22 = layout(
    0xC8,
    22,
    FetchTac,
    OBU_ID,
    _CARD_SERIAL,
    "ef04_extra" / raw(15) * "EF04 offset N, then what is written there",
    source="gantry interface V3.5, C8; one, length inferred",
)
C8_104 = layout(
    0xC8,
    104,
    FetchTac,
    OBU_ID,
    _CARD_SERIAL,
    "ef04_command" / U8 * "00 no EF04, 01 write EF04 too",
    _EF04,
    "ef04_extra" / raw(5) * "EF04 offset N, then 4 bytes written there",
    source="gantry interface V3.4, C8; one, length inferred",
)

CF_2 = layout(0xCF, 2, HeartbeatAck, "status" / U8 * "00", source="gantry interface V3.x, CF; two")

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
    "rsu_status" / U8 * "state of the antenna",
    "psam_count_declared" / count_of("psams") * "PSAM records declared (the length decides)",
    repeated(
        "psams",
        "channel" / U8 * "PSAM slot",
        "version" / U8 * "PSAM version",
        "auth" / U8 * "00 authorised or not needed, 01 not authorised",
        "terminal" / raw(6) * "terminal number",
    )
    * "PSAM records",
    "algorithm_id" / U8 * "algorithm",
    "manufacturer_id" / U8 * "manufacturer",
    "rsu_id" / raw(3) * "antenna id, equals the beacon id",
    "rsu_version" / raw(2) * "software version",
    "work_status" / U8 * "work state",
    FLAG_ID,
    "reserved" / reserved(4) * "reserved; 03040000 at V3.4 gantries",
    rule="18+9n",
    plan=_plan_b0,
    records={"psams": PsamStatus},
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
    "channel" / U8 * "PSAM slot",
    "run" / U8 * "00 works, 01 fault",
    "auth" / U8 * "00 authorised, 01 not authorised",
)
B1_N = layout(
    0xB1,
    None,
    Heartbeat,
    "control_status" / numbers(3) * "controllers 1 and 2, and the link between them",
    "psam1_count_declared" / count_of("psams1") * "PSAM records of set 1 declared",
    repeated("psams1", *_PSAM_RUN) * "PSAM set 1",
    "psam2_count_declared" / count_of("psams2") * "PSAM records of set 2 declared",
    repeated("psams2", *_PSAM_RUN) * "PSAM set 2",
    "antenna_count_declared" / count_of("antennas") * "antenna heads",
    "antenna_ok_declared" / U8 * "antenna heads said to work",
    repeated(
        "antennas",
        "antenna_id" / U8 * "antenna head",
        "status" / U8 * "00 works, 01 link fault, 02 radio fault, 03 other",
        "channel" / U8 * "00 channel 1, 01 channel 2",
        "power" / U8 * "transmit power",
    )
    * "antenna heads",
    rule="8+3n+3m+4h",
    plan=_plan_b1,
    records={"psams1": PsamStatus, "psams2": PsamStatus, "antennas": AntennaStatus},
    source="gantry interface V3.x, B1; seen (WanJi)",
)

_ERROR = "error" / U8 * "result on the air"
_ANTENNA_ID = "antenna_id" / U8 * "antenna head that saw it"
_DEVICE_TYPE = "device_type" / U8 * "kind of device"
_SYSTEM_INFO = (
    "issuer" / raw(8) * "issuer identifier",
    "contract_type" / U8 * "contract type",
    "contract_version" / U8 * "contract version",
    "serial" / raw(8) * "contract serial (OBU) or card id (CPC), BCD",
    "issued" / raw(4) * "valid from, BCD YYYYMMDD",
    "expires" / raw(4) * "valid to, BCD YYYYMMDD",
    "equipment" / U8 * "device class and version",
    "status" / raw(2) * "OBU status",
)
B2_37 = layout(
    0xB2,
    37,
    ObuReport,
    OBU_ID,
    _ERROR,
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
    _ERROR,
    _DEVICE_TYPE,
    *_SYSTEM_INFO,
    source="lane interface V3, B2 without antenna id; one, length inferred",
)
B2_35 = layout(
    0xB2, 35, ObuReport, OBU_ID, _ERROR, *_SYSTEM_INFO, source="2018 version of B2, without antenna id and type; one"
)

_TRANS_TYPE = "trans_type" / U8 * "kind of purchase"
_USER_HEAD = (OBU_ID, _ERROR, _TRANS_TYPE)
_VEHICLE = "vehicle_file" / raw(79) * "vehicle file, decrypted"
_BALANCE = "balance_raw" / U32 * "balance, fen (signed for charge cards)"
_CARD = "card_file" / raw(50) * "file 0015 (43 bytes) and padding"
_STATION_IN = "station" / raw(43) * "last station: file 0019, EF02 or EF01"
_CPC_FEE = "cpc_fee" / raw(10) * "fee of this province, DF01/EF04"

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
    "cpc_province" / raw(4) * "first 4 bytes of DF01/EF02",
    _CPC_FEE,
    source="gantry interface V3.x, B4 of a CPC card; one",
)
B4_161 = layout(
    0xB4,
    161,
    UserReport,
    *_USER_HEAD,
    _STATION_IN,
    "cpc_province" / raw(101) * "first 101 bytes of DF01/EF02",
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
    "station" / raw(63) * "file 0019 padded to 63 bytes",
    "ef04" / raw(6) * "file EF04, first 6 bytes",
    "file_0008" / raw(3) * "file 0008, first 3 bytes",
    source="2018 multi-path version of B4; one",
)

_RESULT_HEAD = (
    OBU_ID,
    _ERROR,
    "terminal" / raw(6) * "PSAM terminal number",
    "trans_time_bcd" / bcd(7) * "purchase time",
    _TRANS_TYPE,
)
_KEY = "algorithm" / U8 * "algorithm of the purchase"
_PROOF = (
    "tac" / raw(4) * "TAC",
    "card_serial" / U16 * "card counter of the purchase",
    "psam_serial" / U32 * "PSAM counter of the purchase",
    "balance_raw" / U32 * "balance after the purchase, fen",
)
B5_36 = layout(
    0xB5,
    36,
    DebitResult,
    *_RESULT_HEAD,
    _KEY,
    "key_version" / U8 * "key version",
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
    _ERROR,
    "tac" / raw(4) * "TAC",
    "mac" / raw(4) * "MAC2",
    "balance_raw" / U32 * "balance, fen",
    source="gantry interface V3.x, B8; one",
)

LAYOUTS: tuple[Layout, ...] = (
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
