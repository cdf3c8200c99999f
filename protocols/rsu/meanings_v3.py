"""What the values of `pcrsu-v3` mean, for people: tables first, the few that need reckoning after them.

Result codes are those of the gantry interface V3.1 to V3.4 [one description, complete]; where V3.5 differs its text
stands in the table of differences. What a code means for money is not decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType

Meaning = Callable[[object, Mapping[str, object]], str]

B4_ERRORS: Mapping[int, str] = MappingProxyType(
    {
        0x00: "success",
        0x01: "no answer over the air in time",
        0x02: "uplink could not be decoded",
        0x03: "antenna head failed",
        0x05: "PSAM could not decrypt the vehicle file",
        0x06: "check of the vehicle file does not match",
        0x0A: "entry/exit file: status is not 9000 (one-piece OBU)",
        0x0B: "CPC card: reading EF02, status is not 9000",
        0x0C: "CPC card: reading EF04, status is not 9000",
        0x0D: "CPC card: external authentication failed at the PSAM",
        0x0E: "CPC card: external authentication failed at the card",
        0x11: "no card in the tag, EF04 read",
        0x12: "no card in the tag, EF04 not read",
        0x13: "card read, EF04 not read",
        0x14: "neither card nor EF04 read",
        0x15: "card not read, EF04 read",
        0xFF: "test frame",
    }
)
B4_ERRORS_V35: Mapping[int, str] = MappingProxyType(
    {
        0x07: "one-piece OBU: vehicle file not read",
        0x08: "one-piece OBU: EF02 not read",
        0x09: "one-piece OBU: no random number",
        0x0A: "one-piece OBU: EF07, status is not 9000",
        0x0C: "unused in V3.5",
    }
)
B5_ERRORS: Mapping[int, str] = MappingProxyType(
    {
        0x00: "success",
        0x01: "no answer over the air in time: the purchase may have happened, ask for its TAC",
        0x02: "uplink could not be decoded",
        0x06: "MAC1 could not be computed",
        0x07: "MAC2 does not match",
        0x08: "no TAC",
        0x09: "external authentication by the OBU failed (one-piece OBU)",
        0x0A: "record not updated, status is not 9000 (one-piece OBU)",
        0x0B: "CPC card: external authentication failed",
        0x0C: "CPC card: passage not written, fee written",
        0x0D: "CPC card: passage written, fee not written",
        0x0E: "CPC card: neither passage nor fee written",
        0x0F: "CPC card: fee not written (province border, exit)",
        0x10: "EF04 not updated (C6 asked for EF04 only)",
        0x11: "purchase failed (C6 asked for the purchase only)",
        0x12: "EF04 updated, purchase failed",
        0x13: "neither EF04 updated nor purchase made",
        0x14: "EF04 not updated, purchase made",
        0xFF: "test frame",
    }
)
B5_ERRORS_V35: Mapping[int, str] = MappingProxyType({})
B8_ERRORS: Mapping[int, str] = MappingProxyType(
    {
        0x00: "success",
        0x01: "no answer over the air in time",
        0x02: "uplink could not be decoded",
        0x03: "EF04 updated, no TAC",
        0x04: "EF04 not updated or not asked for, no TAC",
        0x05: "EF04 not updated, TAC given",
    }
)
B8_ERRORS_V35: Mapping[int, str] = MappingProxyType({})

ERRORS: Mapping[int, Mapping[int, str]] = MappingProxyType({0xB4: B4_ERRORS, 0xB5: B5_ERRORS, 0xB8: B8_ERRORS})
ERRORS_V35: Mapping[int, Mapping[int, str]] = MappingProxyType(
    {0xB4: B4_ERRORS_V35, 0xB5: B5_ERRORS_V35, 0xB8: B8_ERRORS_V35}
)
"""Only what V3.5 says differently."""


def error_meaning(code: int, error: int, *, v35: bool = False) -> str | None:
    """Text of an error byte of B4, B5 or B8; None when no description lists it."""
    changed = ERRORS_V35.get(code, {}).get(error) if v35 else None
    return changed or ERRORS.get(code, {}).get(error)


LANE_MODES = {
    0x03: "entry (lane version)",
    0x04: "exit (lane version)",
    0x11: "road section gantry",
    0x12: "province border gantry, entry; car park entry",
    0x13: "province border gantry, exit; car park exit",
}
CHANNELS_C0 = {0: "channel 1 (lane version)", 1: "channel 1 (lane version: 2)", 2: "channel 2"}
TRANS_MODES = {0x01: "composite purchase", 0x09: "composite purchase (lane version)"}
STOP_TYPES = {
    1: "end, search again",
    2: "send the current frame again",
    3: "freeze this OBU (lane version: beep three times)",
    4: "voice prompt (lane version)",
}
SWITCH = {0: "radio off", 1: "radio on"}
TRADE_TYPES = {0: "EF04 and composite purchase", 1: "EF04 only", 2: "purchase only"}
EF04_COMMANDS = {0: "no EF04", 1: "EF04 present"}
RSU_STATES = {0: "works", 1: "PSAM reset failed", 2: "antenna head not connected", 3: "controller not initialised"}
PSAM_AUTH = {0: "authorised or not needed", 1: "not authorised: authorise it with CA and CB"}
PSAM_RUN = {0: "works", 1: "fault"}
CONTROLLERS = {
    0x00: "master works",
    0x01: "master fault",
    0x02: "slave works (one description)",
    0x03: "slave fault (one description)",
    0x10: "slave works",
    0x11: "slave fault, also sent by sets without a slave",
}
LINK_STATE = {0: "link works"}
ANTENNA_STATES = {0: "works", 1: "link fault", 2: "radio fault", 3: "other fault"}
ANTENNA_CHANNELS = {0: "channel 1", 1: "channel 2"}
MANUFACTURERS = {
    0x01: "ARTC (ITS)",
    0x02: "Genvict",
    0x03: "Juli",
    0x04: "Shouxin",
    0x05: "Donghai",
    0x08: "WanJi",
}
DEVICE_TYPES = {1: "two-piece OBU", 2: "one-piece OBU", 3: "CPC card"}
B2_ERRORS = {0: "OBU present"}
TRANS_TYPES = {
    0x00: "traditional purchase",
    0x09: "composite purchase (two-piece OBU or CPC card)",
    0x10: "composite purchase",
    0x80: "one-piece OBU",
    0x81: "one-piece OBU",
}
ALGORITHMS = {0: "3DES", 4: "SM4"}

OBU_STATUS_BITS: tuple[tuple[int, str, str], ...] = (
    (0x80, "card present", "no card"),
    (0x20, "contact interface", "contactless interface"),
    (0x10, "CPU card", "memory card (Mifare)"),
    (0x08, "card normal", "card error"),
    (0x04, "not locked", "LOCKED"),
    (0x02, "not tampered", "TAMPERED (removed)"),
    (0x01, "battery normal", "battery low"),
)
"""First status byte of a two-piece OBU: mask, meaning of 0, meaning of 1. Bit 6 is reserved [two]."""
ONE_PIECE_BITS_MASK = 0x07
"""A one-piece OBU only uses locked, tampered and battery."""


def obu_status_text(status: bytes, device_type: int | None) -> str:
    """Both status bytes in words; what the bits mean depends on the device type (01, 02, 03, None: two-piece)."""
    first = status[0]
    if device_type == 3:
        words = ["battery low" if first & 0x80 else "battery normal"]
    else:
        mask = ONE_PIECE_BITS_MASK if device_type == 2 else 0xFF
        words = [high if first & bit else low for bit, low, high in OBU_STATUS_BITS if bit & mask]
    # Byte 27 of the system file, the mount flag; which bit says what is not documented, good tags show 01 [seen].
    return ", ".join(words) + f"; mount flag {status[1]:02X}"


def fen_text(amount_fen: int) -> str:
    """`-1.05 yuan` for -105 fen."""
    sign = "-" if amount_fen < 0 else ""
    return f"{sign}{abs(amount_fen) // 100}.{abs(amount_fen) % 100:02d} yuan"


def table(texts: Mapping[int, str]) -> Meaning:
    """Text of a number; a number that is not in `texts` is shown as such."""

    def meaning(value: object, _: Mapping[str, object]) -> str:
        if isinstance(value, int):
            return texts.get(value, f"{value:02X} is not listed")
        return ""

    return meaning


def _error(code: int) -> Meaning:
    return table(ERRORS[code])


def _amount(value: object, _: Mapping[str, object]) -> str:
    return fen_text(value) if isinstance(value, int) else ""


def _balance(value: object, _: Mapping[str, object]) -> str:
    if not isinstance(value, int):
        return ""
    if value < 1 << 31:
        return fen_text(value)
    # Charge cards (type 23) count below zero [seen]; the older dialect uses all ones for "not read".
    text = f"{fen_text(value - (1 << 32))} as signed, as charge cards count"
    return f"{text}; or not read" if value == 0xFFFFFFFF else text


def _unix(value: object, _: Mapping[str, object]) -> str:
    return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if isinstance(value, int) else ""


def _bcd_time(value: object, _: Mapping[str, object]) -> str:
    if not isinstance(value, str):
        return ""
    try:
        moment = datetime.strptime(value, "%Y%m%d%H%M%S")  # noqa: DTZ007  the wire carries no zone
    except ValueError:
        return "no date and time"
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _bcd_date(value: object, _: Mapping[str, object]) -> str:
    if not isinstance(value, bytes):
        return ""
    try:
        day = datetime.strptime(value.hex(), "%Y%m%d")  # noqa: DTZ007  a date only
    except ValueError:
        return "no date"
    return day.strftime("%Y-%m-%d")


def _issuer(value: object, _: Mapping[str, object]) -> str:
    if not isinstance(value, bytes):
        return ""
    try:
        return value[:4].rstrip(b"\0").decode("gbk")
    except UnicodeDecodeError:
        return "name is not GBK"


def _obu_status(value: object, neighbours: Mapping[str, object]) -> str:
    device_type = neighbours.get("device_type")
    if not isinstance(value, bytes):
        return ""
    return obu_status_text(value, device_type if isinstance(device_type, int) else None)


def _milliseconds(value: object, _: Mapping[str, object]) -> str:
    return f"{value} ms"


MEANINGS: Mapping[tuple[int | None, str], Meaning] = MappingProxyType(
    {
        (None, "unix_seconds"): _unix,
        (None, "datetime_bcd"): _bcd_time,
        (None, "purchase_time_bcd"): _bcd_time,
        (None, "trans_time_bcd"): _bcd_time,
        (None, "issued"): _bcd_date,
        (None, "expires"): _bcd_date,
        (None, "issuer"): _issuer,
        (None, "div_factor"): _issuer,
        (None, "amount_fen"): _amount,
        (None, "balance_raw"): _balance,
        (None, "algorithm"): table(ALGORITHMS),
        (None, "trans_type"): table(TRANS_TYPES),
        (0xC0, "lane_mode"): table(LANE_MODES),
        (0xC0, "bst_interval_ms"): _milliseconds,
        (0xC0, "pll_channel"): table(CHANNELS_C0),
        (0xC0, "trans_mode"): table(TRANS_MODES),
        (0xC2, "stop_type"): table(STOP_TYPES),
        (0xC4, "on"): table(SWITCH),
        (0xC6, "trade_type"): table(TRADE_TYPES),
        (0xC8, "ef04_command"): table(EF04_COMMANDS),
        (0xB0, "rsu_status"): table(RSU_STATES),
        (0xB0, "psams.auth"): table(PSAM_AUTH),
        (0xB0, "manufacturer_id"): table(MANUFACTURERS),
        (0xB1, "control_status[0]"): table(CONTROLLERS),
        (0xB1, "control_status[1]"): table(CONTROLLERS),
        (0xB1, "control_status[2]"): table(LINK_STATE),
        (0xB1, "psams1.run"): table(PSAM_RUN),
        (0xB1, "psams1.auth"): table(PSAM_AUTH),
        (0xB1, "psams2.run"): table(PSAM_RUN),
        (0xB1, "psams2.auth"): table(PSAM_AUTH),
        (0xB1, "antennas.status"): table(ANTENNA_STATES),
        (0xB1, "antennas.channel"): table(ANTENNA_CHANNELS),
        (0xB2, "error"): table(B2_ERRORS),
        (0xB2, "device_type"): table(DEVICE_TYPES),
        (0xB2, "status"): _obu_status,
        (0xB4, "error"): _error(0xB4),
        (0xB5, "error"): _error(0xB5),
        (0xB8, "error"): _error(0xB8),
    }
)
