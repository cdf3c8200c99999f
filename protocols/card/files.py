"""Files of an ETC user card as values.

Every value keeps the bytes it came from (`raw`), says what is odd about them (`warnings`) and encodes again byte for
byte; a value changed with `dataclasses.replace` encodes with just that field rewritten. Only a wrong length is an
error. Plates, numbers and raw bytes are kept out of `repr`, so that a value in a log line gives nobody away.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

from protocols.card import layout
from protocols.card.codes import CARD_TYPES, CardType
from protocols.codings import read_text
from protocols.crypto.algorithm import VERSION_UNSET, Algorithm, algorithm_of_version
from protocols.errors import ProtocolError, RemoteProtocolError
from protocols.fields import FieldText, Layout, is_fill, unreadable
from protocols.regions import REGION_BYTES, region_factor, region_of_issuer

VERSION_WITH_VEHICLE: Final = 0x40
"""Card version from which on file 0015 ends with plate colour and vehicle class."""

CARD_FILE_LENGTHS: Final = (50, 43)
"""Lengths of file 0015, in the order to try them."""

TRANSACTION_BYTES: Final = 23
HOLDER_BYTES: Final = 55


@dataclass(frozen=True, slots=True)
class CardFile:
    """File 0015, 43 or 50 bytes: who issued the card, for which vehicle, until when."""

    issuer: bytes
    """8 bytes: region text (4) with network and operator, or the region text twice on old cards."""
    region: str
    """Region text, '' when unreadable. Not on the wire by itself: it heads the issuer id."""
    card_type: int
    version: int
    network: str
    """4 digits."""
    inner_number: bytes = field(repr=False)
    """8 bytes BCD; diversification factor of the card's keys (verified)."""
    starts: date | None
    expires: date | None
    """Last day of validity. None: not written, or no date."""
    plate: str = field(repr=False)
    user_type: int
    plate_colour: int | None
    """None on the old layout, and where FF stands."""
    vehicle_class: int | None
    """None on the old layout, and where FF stands."""
    free_pair: bytes | None
    """The issuer's own two bytes of the old layout, where newer cards have colour and class."""
    raw: bytes = field(repr=False)
    warnings: tuple[str, ...]

    @property
    def card_number(self) -> str:
        """The printed number: network and inner number, 20 digits (agreed)."""
        return self.network + self.inner_number.hex().upper()

    @property
    def algorithm(self) -> Algorithm:
        """Cipher that the card version asks for; the answer to 8050 decides."""
        return algorithm_of_version(self.version)

    @property
    def is_charge_card(self) -> bool:
        """True when the balance is a signed counter and says nothing about the ability to pay."""
        return self.card_type == CardType.CHARGE

    @property
    def region_factor(self) -> bytes:
        """8 bytes; first diversification factor of the card's keys."""
        return region_factor(self.issuer, self.network)

    @property
    def looks_like_etc(self) -> bool:
        """False for transit and other purse cards, which share the application id of ETC cards."""
        return self.card_type in CARD_TYPES and region_of_issuer(self.issuer) is not None

    def encode(self) -> bytes:
        """The file's bytes. `region` is not written: change `issuer`."""
        return _card_layout(self.raw).patch(self.raw, self)


def decode_card_file(data: bytes) -> CardFile:
    """File 0015. Raises RemoteProtocolError for any length but 43 and 50; all else is a warning."""
    record = _card_layout(data)
    values = record.parse(data)
    values.pop("reserved", None)
    values = {"plate_colour": None, "vehicle_class": None, "free_pair": None} | values
    region, doubt = _region(values["issuer"])
    warnings = [*record.warnings(data), *doubt]
    if record is layout.CARD_FILE_LONG and values["version"] < VERSION_WITH_VEHICLE:
        # Antennas pad a 43-byte file to 50 bytes, and cards of 50 bytes with version 10 exist: both look alike.
        warnings.append("plate_colour and vehicle_class at offset 41 may be the issuer's own pair: old card version")
    if values["version"] == VERSION_UNSET:
        warnings.append("version at offset 9 is not set")
    return CardFile(region=region, raw=bytes(data), warnings=tuple(warnings), **values)


def card_file_new(
    *,
    issuer: bytes,
    card_type: int,
    version: int,
    network: str,
    inner_number: bytes,
    starts: date,
    expires: date,
    plate: str,
    user_type: int = 0,
    plate_colour: int | None = None,
    vehicle_class: int | None = None,
    free_pair: bytes = b"\0\0",
    length: int = 50,
) -> bytes:
    """File 0015 from its facts, 50 bytes or 43. `free_pair` is for the old 43-byte layout only."""
    head: dict[str, Any] = {
        "issuer": issuer,
        "card_type": card_type,
        "version": version,
        "network": network,
        "inner_number": inner_number,
        "starts": starts,
        "expires": expires,
        "plate": plate,
        "user_type": user_type,
    }
    vehicle = {"plate_colour": plate_colour, "vehicle_class": vehicle_class}
    if length == layout.CARD_FILE_LONG.size:
        return layout.CARD_FILE_LONG.build(**head, **vehicle, reserved=bytes(7))
    if version >= VERSION_WITH_VEHICLE:
        return layout.CARD_FILE_SHORT.build(**head, **vehicle)
    return layout.CARD_FILE_OLD.build(**head, free_pair=free_pair)


@dataclass(frozen=True, slots=True)
class TransactionLog:
    """One record of file 0018, 23 bytes."""

    sequence: int
    """Online sequence of a load, offline sequence of a purchase: the value after it, the one 805A asks for."""
    overdraft_fen: int
    amount_fen: int
    trade_type: int
    terminal: bytes
    day: date | None
    time: str
    """hhmmss"""
    raw: bytes = field(repr=False)
    warnings: tuple[str, ...]

    @property
    def is_blank(self) -> bool:
        """True for a record that was never written."""
        return is_fill(self.raw)

    def encode(self) -> bytes:
        """The record's 23 bytes."""
        return layout.TRANSACTION_LOG.patch(self.raw, self)


def decode_transaction_log(data: bytes) -> TransactionLog:
    """A record of file 0018. Raises RemoteProtocolError for any length but 23."""
    values = layout.TRANSACTION_LOG.parse(data)
    warnings = () if is_fill(data) else layout.TRANSACTION_LOG.warnings(data)
    return TransactionLog(raw=bytes(data), warnings=warnings, **values)


@dataclass(frozen=True, slots=True)
class Holder:
    """File 0016, 55 bytes: personal data. Read it only where a use case needs it, and never log it."""

    holder_type: int
    staff_flag: int
    holder_name: str = field(repr=False)
    document_number: str = field(repr=False)
    document_type: int
    raw: bytes = field(repr=False)
    warnings: tuple[str, ...]

    def encode(self) -> bytes:
        """The file's 55 bytes."""
        return layout.HOLDER.patch(self.raw, self)


def decode_holder(data: bytes) -> Holder:
    """File 0016. Raises RemoteProtocolError for any length but 55."""
    return Holder(raw=bytes(data), warnings=layout.HOLDER.warnings(data), **layout.HOLDER.parse(data))


# --- for people -----------------------------------------------------------------------------------------------------


def describe_card_file(data: bytes, *, unmask: bool = False) -> list[FieldText]:
    """Every field of a file 0015; one line of raw bytes when it is none. Never raises."""
    try:
        return _card_layout(data).describe(data, unmask=unmask)
    except ProtocolError as error:
        return unreadable(data, "card file 0015", error.problem, unmask=unmask)


def describe_transaction_log(data: bytes, *, unmask: bool = False) -> list[FieldText]:
    """Every field of a record of file 0018. Never raises."""
    return layout.TRANSACTION_LOG.describe(data, unmask=unmask)


def describe_holder(data: bytes, *, unmask: bool = False) -> list[FieldText]:
    """Every field of a file 0016, name and document hidden unless `unmask`. Never raises."""
    return layout.HOLDER.describe(data, unmask=unmask)


def _card_layout(data: bytes) -> Layout:
    """Layout chosen by length first, version second: the two disagree on real cards."""
    if len(data) == layout.CARD_FILE_LONG.size:
        return layout.CARD_FILE_LONG
    if len(data) != layout.CARD_FILE_SHORT.size:
        raise RemoteProtocolError(
            f"{len(data)} bytes, {' or '.join(map(str, CARD_FILE_LENGTHS))} wanted",
            field="card file 0015",
            offset=len(data),
            hint="not an ETC card, or a read that ended early",
            clause=layout.CARD_FILE_LONG.source,
        )
    newer = VERSION_WITH_VEHICLE <= data[9] != VERSION_UNSET
    return layout.CARD_FILE_SHORT if newer else layout.CARD_FILE_OLD


def _region(issuer: bytes) -> tuple[str, list[str]]:
    known = region_of_issuer(issuer)
    if known is not None:
        return known.zh, []
    return read_text(issuer[:REGION_BYTES]), ["issuer at offset 0 has no known region"]
