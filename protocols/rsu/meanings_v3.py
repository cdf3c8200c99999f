"""Display words of `pcrsu-v3`: tables first, the few that need reckoning after them.

Result codes are those of the gantry interface V3.1 to V3.4 [one description, complete], and what V3.5 adds. What a code
means for money is not decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType

from protocols.codings import read_date
from protocols.obu.status import TWO_PIECE, obu_status_words
from protocols.regions import REGION_BYTES

B4_ERRORS: Mapping[int, str] = MappingProxyType(
    {
        0x00: "success",
        0x01: "no answer over the air in time",
        0x02: "uplink could not be decoded",
        0x03: "antenna head failed",
        0x05: "PSAM could not decrypt the vehicle file",
        0x06: "check of the vehicle file does not match",
        0x07: "one-piece OBU: vehicle file not read (V3.5)",
        0x08: "one-piece OBU: EF02 not read (V3.5)",
        0x09: "one-piece OBU: no random number (V3.5)",
        0x0A: "entry/exit file: status is not 9000 (one-piece OBU; in V3.5 EF07)",
        0x0B: "CPC card: reading EF02, status is not 9000",
        0x0C: "CPC card: reading EF04, status is not 9000 (not in V3.5)",
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
LANE_MODES = {
    0x03: "entry (lane version)",
    0x04: "exit (lane version)",
    0x11: "road section gantry",
    0x12: "province border gantry, entry; car park entry",
    0x13: "province border gantry, exit; car park exit",
}
RADIO_CHANNELS = {0: "channel 1 (lane version)", 1: "channel 1 (lane version: 2)", 2: "channel 2"}
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


def fen_text(amount_fen: int) -> str:
    """`-1.05 yuan` for -105 fen."""
    sign = "-" if amount_fen < 0 else ""
    return f"{sign}{abs(amount_fen) // 100}.{abs(amount_fen) % 100:02d} yuan"


def obu_status(status: bytes, neighbours: Mapping[str, object]) -> str:
    """Both status bytes in words; what the bits mean depends on the device type that the same report names."""
    device_type = neighbours.get("device_type")
    words = obu_status_words(status[0], device_type if isinstance(device_type, int) else TWO_PIECE)
    # Byte 27 of the system file, the mount flag; which bit says what is not documented, good tags show 01 [seen].
    return f"{', '.join(words)}; mount flag {status[1]:02X}"


def yuan(amount_fen: int, _: Mapping[str, object]) -> str:
    """Amount in fen as text."""
    return fen_text(amount_fen)


def balance(amount: int, _: Mapping[str, object]) -> str:
    """Balance of a purse, or the counter of a charge card (type 23), which counts below zero [seen].

    The older dialect uses all ones for *not read*.
    """
    if amount < 1 << 31:
        return fen_text(amount)
    signed = f"{fen_text(amount - (1 << 32))} as signed, as charge cards count"
    return f"{signed}; or not read" if amount == 0xFFFFFFFF else signed


def moment(unix_seconds: int, _: Mapping[str, object]) -> str:
    """UNIX seconds as text."""
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def wall_clock(digits: str, _: Mapping[str, object]) -> str:
    """Date and time as text, from YYYYMMDDhhmmss; the wire carries no zone."""
    try:
        return datetime.strptime(digits, "%Y%m%d%H%M%S").strftime("%Y-%m-%d %H:%M:%S")  # noqa: DTZ007
    except ValueError:
        return "no date and time"


def day(content: bytes, _: Mapping[str, object]) -> str:
    """Date in BCD as text."""
    found = read_date(content)
    return "no date" if found is None else found.isoformat()


def issuer_name(content: bytes, _: Mapping[str, object]) -> str:
    """The region text that heads an issuer id or a key factor."""
    try:
        return content[:REGION_BYTES].rstrip(b"\0").decode("gbk")
    except UnicodeDecodeError:
        return "name is not GBK"


def milliseconds(count: int, _: Mapping[str, object]) -> str:
    """Milliseconds as text."""
    return f"{count} ms"
