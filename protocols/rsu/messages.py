"""Messages of a lane computer and a roadside antenna, whatever the dialect.

One frozen value per kind of message. A dialect's layout decides which fields stand on the wire; a field that a
dialect or a frame size does not carry is None. Bytes nobody has explained stay as `reserved`, so that every frame
encodes again byte for byte. Money is integer fen, times are as on the wire (UNIX seconds or BCD text).

Names of the types follow the usual frame codes: C0..CF from the lane computer, B0..BF from the antenna.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class DeviceType(IntEnum):
    """B2 device type (pcrsu-v3)."""

    TWO_PIECE = 1
    ONE_PIECE = 2
    CPC_CARD = 3


class StopType(IntEnum):
    """C2 stop type."""

    SEARCH_AGAIN = 1
    RESEND = 2
    FREEZE = 3


@dataclass(frozen=True, slots=True)
class PsamStatus:
    """One PSAM record of B0 (terminal set) or B1 (run set); the serial dialects give the terminal number only."""

    channel: int | None = None
    auth: int | None = None
    version: int | None = None
    terminal: bytes | None = None
    run: int | None = None


@dataclass(frozen=True, slots=True)
class AntennaStatus:
    """One antenna record of B1."""

    antenna_id: int
    status: int
    channel: int
    power: int


# --- lane computer -> antenna -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Initialise:
    """C0: set clock, mode and radio parameters. Dialects that lack a parameter of another leave it out."""

    unix_seconds: int
    """Seconds since 1970 in UTC, also where the dialect sends local time: its layout knows the shift."""
    datetime_bcd: str
    """YYYYMMDDhhmmss"""
    lane_mode: int
    tx_power: int
    pll_channel: int
    trans_mode: int
    bst_interval_ms: int | None = None
    """Beacon interval (v3)."""
    flag_id: bytes | None = None
    reserved: bytes = b""
    wait_time_s: int | None = None
    """Time before the same OBU is read again (serial dialects); None: the dialect's usual."""


@dataclass(frozen=True, slots=True)
class Continue:
    """C1: go on with this OBU; also the closing acknowledgement of a B5."""

    obu_id: bytes
    div_factor: bytes | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """C2: end with this OBU, ask again, or freeze it."""

    obu_id: bytes
    stop_type: int | None
    unix_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class SwitchAntenna:
    """C4 (v3), 4C (legacy): radio off or on."""

    on: int


@dataclass(frozen=True, slots=True)
class Debit:
    """C6: composite purchase of `amount_fen` and the new file 0019."""

    obu_id: bytes
    div_factor: bytes
    amount_fen: int
    purchase_time_bcd: str
    """YYYYMMDDhhmmss, goes into MAC1 and TAC"""
    station: bytes
    """File 0019 as it will stand on the card, all 43 bytes; dialects that send less of it cut it in their layout."""
    trade_type: int | None = None
    ef04: bytes | None = None
    ef04_extra: bytes | None = None
    trans_serial: bytes | None = None
    """Serial dialects; None: zeros."""


@dataclass(frozen=True, slots=True)
class WriteEntry:
    """C3: write the passage of an entry lane, without a debit."""

    obu_id: bytes
    div_factor: bytes
    purchase_time_bcd: str
    """YYYYMMDDhhmmss"""
    station: bytes
    """36 bytes of the station file; which ones is not documented."""
    trans_serial: bytes | None = None
    """Echoed as PSAM serial; None: zeros."""


@dataclass(frozen=True, slots=True)
class RecoverTac:
    """C7: give the result and TAC of a purchase that was made but whose answer was lost. Answered by B5."""

    obu_id: bytes
    div_factor: bytes
    purchase_time_bcd: str
    """YYYYMMDDhhmmss"""
    station: bytes
    """36 bytes of the station file; which ones is not documented."""
    trans_serial: bytes | None = None
    """None: zeros."""


@dataclass(frozen=True, slots=True)
class FetchTac:
    """C8: give the TAC of the purchase with this card serial again."""

    obu_id: bytes
    card_serial: int
    ef04_command: int | None = None
    ef04: bytes | None = None
    ef04_extra: bytes | None = None


@dataclass(frozen=True, slots=True)
class HeartbeatAck:
    """CF: heartbeat seen."""

    status: int = 0


# --- antenna -> lane computer -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """B0: what the antenna is and whether it and its PSAMs work. Answers C0."""

    rsu_status: int
    psam_count_declared: int | None
    psams: tuple[PsamStatus, ...]
    algorithm_id: int
    manufacturer_id: int
    rsu_id: bytes
    rsu_version: bytes
    work_status: int | None = None
    flag_id: bytes | None = None
    reserved: bytes = b""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Alive. v3 (B1): with the state of controllers, PSAMs and antenna heads. Serial dialects: a B2 about no OBU."""

    control_status: tuple[int, ...] = ()
    psam1_count_declared: int | None = None
    psams1: tuple[PsamStatus, ...] = ()
    psam2_count_declared: int | None = None
    psams2: tuple[PsamStatus, ...] = ()
    antennas: tuple[AntennaStatus, ...] = ()
    antenna_count_declared: int | None = None
    antenna_ok_declared: int | None = None
    obu_id: bytes | None = None
    """Serial dialects: 00000000, or FFFFFFFF from one maker."""
    error: int | None = None
    """Serial dialects: 80."""
    rest: bytes | None = None
    """Serial dialects: bytes after the error byte, in a heartbeat as long as a report."""


@dataclass(frozen=True, slots=True)
class ObuReport:
    """B2: an OBU or CPC card answered the beacon."""

    obu_id: bytes
    error: int
    issuer: bytes
    serial: bytes
    """Contract serial (OBU) or card id (CPC), BCD."""
    issued: bytes
    expires: bytes
    """BCD YYYYMMDD"""
    equipment: int
    status: bytes
    antenna_id: int | None = None
    device_type: int | None = None
    contract_type: int | None = None
    contract_version: int | None = None
    bound_card: bytes | None = None
    """Number of the card bound to the OBU, BCD (one form of the serial dialects)."""


@dataclass(frozen=True, slots=True)
class VehicleReport:
    """B3 (serial dialects): what the tag says about the vehicle. Only to be used when `error` is 00."""

    obu_id: bytes
    error: int
    plate: bytes
    """GBK, 12 bytes, zeros after the text."""
    plate_color: bytes
    vehicle_class: int
    user_type: int
    extension: bytes | None = None
    """47 bytes about the vehicle in the long form; the only list of their fields adds up to 43."""

    @property
    def vehicle_file(self) -> bytes:
        """The first 16 bytes of the vehicle file, as v3 gives them in B4."""
        return self.plate + self.plate_color + bytes((self.vehicle_class, self.user_type))


@dataclass(frozen=True, slots=True)
class UserReport:
    """B4: what stands on tag and card. Contents of files are raw; `protocols.obu` and `protocols.card` read them."""

    obu_id: bytes
    error: int
    trans_type: int
    station: bytes
    """Last station: file 0019 (two-piece), DF01/EF02 (one-piece), DF01/EF01 (CPC). 43 bytes from the first; an old
    serial form has 39, which cannot be compared with a whole file."""
    vehicle_file: bytes | None = None
    balance_raw: int | None = None
    """Unsigned 32 bits as on the wire; signed for charge cards."""
    card_file: bytes | None = None
    """File 0015."""
    ef04: bytes | None = None
    cpc_province: bytes | None = None
    """DF01/EF02: its first 4 bytes, or 101 in V3.5."""
    cpc_fee: bytes | None = None
    file_0008: bytes | None = None
    """First 3 bytes of file 0008, only in a 2018 client's B4 of 133 bytes."""
    card_type: int | None = None
    """Serial dialects: 00 national CPU card, 01 local card."""
    physical_card_type: int | None = None
    """Serial dialects: kind of chip."""
    card_uid: bytes | None = None
    """Serial dialects: number of the chip, zeros for CPU cards."""


@dataclass(frozen=True, slots=True)
class DebitResult:
    """B5: how the purchase ended on the air. `error` 00 = taken; CPC frames end after `trans_type`."""

    obu_id: bytes
    error: int
    terminal: bytes
    trans_time_bcd: str
    trans_type: int
    algorithm: int | None = None
    key_version: int | None = None
    tac: bytes | None = None
    card_serial: int | None = None
    psam_serial: int | None = None
    balance_raw: int | None = None
    """Balance after the purchase, unsigned 32 bits as on the wire. FFFFFFFF in a serial dialect: could not be read."""
    unix_seconds: int | None = None
    """Serial dialects: the antenna's clock when the file was written, seconds since 1970 in UTC."""


@dataclass(frozen=True, slots=True)
class WriteResult:
    """Short B5 (serial dialects): how a C3 ended. It has no purchase to prove."""

    obu_id: bytes
    error: int
    unix_seconds: int
    """The antenna's clock when the file was written, seconds since 1970 in UTC."""
    terminal: bytes


@dataclass(frozen=True, slots=True)
class TacResult:
    """B8: answer to C8."""

    obu_id: bytes
    error: int
    tac: bytes
    mac: bytes
    balance_raw: int


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """A frame without any DATA, hence without a type byte: seen, nothing to say."""


@dataclass(frozen=True, slots=True)
class Unmodelled:
    """A well-formed frame of a type this dialect knows of but gives no meaning to; kept whole."""

    code: int
    body: bytes
    """Bytes after the type byte."""


LaneMessage = Initialise | Continue | Stop | SwitchAntenna | Debit | WriteEntry | RecoverTac | FetchTac | HeartbeatAck
RsuMessage = DeviceStatus | Heartbeat | ObuReport | VehicleReport | UserReport | DebitResult | WriteResult | TacResult
Message = LaneMessage | RsuMessage | Acknowledge | Unmodelled
