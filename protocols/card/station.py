"""Record AA of file 0019: the entry a vehicle carries from the entry lane to the exit lane.

Two layouts share its 43 bytes and nothing tells them apart but the place where the plate stands.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, Final

from protocols.card import layout
from protocols.card.codes import RECORD_KINDS
from protocols.codings import octets, read_text
from protocols.errors import ProtocolError, RemoteProtocolError
from protocols.fields import Field, FieldText, Layout, Privacy, is_fill, unreadable
from protocols.plates import looks_like_plate

STATION_BYTES: Final = 43

YUNNAN_EPOCH_UNIX_S: Final = 946_656_000
"""2000-01-01 00:00:00 in China."""

_PLATE_NEW: Final = slice(21, 33)
_PLATE_OLD: Final = slice(27, 39)


class StationLayout(Enum):
    """Layout of a 0019 record. The card does not name it: the plate's place tells (inferred)."""

    NEW = "new"
    """Since 2020, with gantry and fee; also taken where its plate is empty, or a text that is none, such as a camera's
    word for *not read*: all that is written today has it (5,040 of 5,040 on a real day)."""
    OLD = "old"
    """Before 2020, with flag stations and staff."""
    BLANK = "blank"
    """All FF or all 00 after the header: no entry information."""
    UNKNOWN = "unknown"
    """Neither place holds a plate, or both do: only what the layouts share is read."""


@dataclass(frozen=True, slots=True)
class Station:
    """Record AA of file 0019, 43 bytes: where and when the vehicle entered, and what it owes so far.

    Fields that the layout does not have are None; a blank record has none but its header.
    """

    layout: StationLayout
    header: bytes
    """AA 29 00 on cards; in OBU file EF04 also BB 29 00 (no card at entry) and CC 29 00 (gantry entry), one source."""
    network: str | None
    station: str | None
    """4 hexadecimal digits each; '99010101' when joined."""
    lane: int | None
    unix_seconds: int | None
    """UTC. 0 and FFFFFFFF mean *never written*."""
    vehicle_class: int | None
    status: int | None
    plate: str = field(repr=False)
    plate_colour: int | None
    last_gantry: bytes | None
    gantry_unix_seconds: int | None
    axles: int | None
    weight_kg: int | None
    vehicle_state: int | None
    fee_fen: int | None
    flag_stations: bytes | None
    staff: bytes | None
    shift: int | None
    raw: bytes = field(repr=False)
    warnings: tuple[str, ...]

    @property
    def station_code(self) -> str | None:
        """Network and station, 8 hexadecimal digits, as tariffs name stations."""
        return None if self.network is None or self.station is None else self.network + self.station

    def encode(self) -> bytes:
        """The record's 43 bytes."""
        record = _RECORDS[self.layout]
        return record.patch(self.raw, self)


_RECORDS: Final = {
    StationLayout.NEW: layout.STATION_NEW,
    StationLayout.OLD: layout.STATION_OLD,
    StationLayout.BLANK: layout.STATION_BLANK,
    StationLayout.UNKNOWN: layout.STATION_SHARED,
}


def decode_station(data: bytes) -> Station:
    """Record AA of file 0019. Raises RemoteProtocolError for any length but 43; all else is a warning."""
    kind = _layout_of(data)
    record = _RECORDS[kind]
    read = record.parse(data)
    warnings = list(record.warnings(data))
    if kind is StationLayout.UNKNOWN:
        warnings.append("content at offset 14 fits neither the old nor the new layout, or both")
    elif kind is StationLayout.NEW and not looks_like_plate(read["plate"]):
        warnings.append("plate at offset 21 is none: taken for the layout since 2020")
    if data[1:3] != layout.STATION_HEADER[1:]:
        warnings.append(f"header at offset 0 is {data[:3].hex().upper()}")
    own = {item.name for item in fields(Station)}
    values: dict[str, Any] = dict.fromkeys(own) | {"plate": ""}
    values |= {name: value for name, value in read.items() if name in own}
    values |= {"layout": kind, "raw": bytes(data), "warnings": tuple(warnings)}
    return Station(**values)


def station_new(
    *,
    network: str,
    station: str,
    lane: int,
    unix_seconds: int,
    vehicle_class: int,
    status: int,
    plate: str,
    plate_colour: int | None,
    last_gantry: bytes = bytes(3),
    gantry_unix_seconds: int = 0,
    axles: int = 0,
    weight_kg: int = 0,
    vehicle_state: int = 0xFF,
    fee_fen: int = 0,
    header: bytes = layout.STATION_HEADER,
) -> bytes:
    """A 0019 record of the 2020 layout, 43 bytes, header included: what C6 and UPDATE CAPP DATA CACHE carry."""
    return layout.STATION_NEW.build(
        header=header,
        network=network,
        station=station,
        lane=lane,
        unix_seconds=unix_seconds,
        vehicle_class=vehicle_class,
        status=status,
        last_gantry=last_gantry,
        gantry_unix_seconds=gantry_unix_seconds,
        plate=plate,
        plate_colour=plate_colour,
        axles=axles,
        weight_kg=weight_kg,
        vehicle_state=vehicle_state,
        fee_fen=fee_fen,
    )


def describe_station(data: bytes, *, unmask: bool = False) -> list[FieldText]:
    """Every field of a record of file 0019. Never raises."""
    try:
        return _RECORDS[_layout_of(data)].describe(data, unmask=unmask)
    except ProtocolError as error:
        return unreadable(data, "station record 0019", error.problem, unmask=unmask)


def describe_record(data: bytes, *, unmask: bool = False) -> list[FieldText]:
    """Every field of any record of file 0019, by its id; only its head of those nobody describes. Never raises."""
    if data[:1] == layout.STATION_HEADER[:1]:
        return describe_station(data, unmask=unmask)
    content = Field(
        "content", octets(max(len(data) - len(layout.STATION_HEADER), 0)), "content", privacy=Privacy.HIDDEN
    )
    kind = RECORD_KINDS.get(data[0]) if data else None
    if len(data) <= len(layout.STATION_HEADER) or (kind is not None and kind.total_bytes != len(data)):
        return unreadable(data, "record of file 0019", f"{len(data)} bytes are no such record", unmask=unmask)
    return Layout("record of file 0019", layout.STATION_NEW.source, (*layout.RECORD_HEAD, content)).describe(
        data, unmask=unmask
    )


def describe_yunnan_station(data: bytes, *, unmask: bool = False) -> list[FieldText]:
    """Every field of a record AA in the old layout of Yunnan, which nothing on a card names. Never raises."""
    return layout.STATION_YUNNAN.describe(data, unmask=unmask)


def yunnan_unix_seconds(seconds: int) -> int:
    """UNIX seconds of a time on an old card of Yunnan (one source)."""
    return seconds + YUNNAN_EPOCH_UNIX_S


def _layout_of(data: bytes) -> StationLayout:
    if len(data) != STATION_BYTES:
        raise RemoteProtocolError(
            f"{len(data)} bytes, {STATION_BYTES} wanted",
            field="station record 0019",
            offset=len(data),
            hint="read record 1 of file 0019 with Le 2B",
            clause=layout.STATION_NEW.source,
        )
    if is_fill(data[3:]):
        return StationLayout.BLANK
    new, old = read_text(data[_PLATE_NEW]), read_text(data[_PLATE_OLD])
    if looks_like_plate(old):
        return StationLayout.UNKNOWN if looks_like_plate(new) else StationLayout.OLD
    return StationLayout.NEW if new or is_fill(data[_PLATE_NEW]) else StationLayout.UNKNOWN
