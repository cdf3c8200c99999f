"""Route and toll data of a tag (DF01/EF04 of its ESAM): the entry again, whose card it was, and what the trip cost.

Antennas read and write the 91 bytes from `commands.ROUTE_OFFSET` on; one entry of 4 bytes for each province follows
them in the file. Verified on 2,959 files of a real day; the first 39 bytes are record AA of file 0019 without its fee.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from protocols.card.layout import STATION_NEW
from protocols.codings import packed
from protocols.errors import ProtocolError, RemoteProtocolError
from protocols.fields import Field, FieldText, Label, Layout, uint, unreadable
from protocols.obu import layout

HEADERS: Final[Mapping[bytes, Label]] = MappingProxyType(
    {
        b"\xaa\x29\x00": Label("入口车道写入", "written at the entry lane"),
        b"\xbb\x29\x00": Label("入口时签内无卡、读卡失败或余额为零", "no card, or none usable, at the entry"),
        b"\xcc\x29\x00": Label("入口由门架补写", "entry written by a gantry"),
        bytes(3): Label("出口已清除", "cleared at the exit"),
        b"\xff\xff\xff": Label("从未写入", "never written"),
    }
)
"""Origin of the entry by the header (one source; all five seen on a real day)."""

PROVINCE_BYTES: Final = 4


class ProvinceFee(NamedTuple):
    """Fee of one province on a trip."""

    province: int
    """Province code, as in station numbers."""
    fee_fen: int


@dataclass(frozen=True, slots=True)
class RouteFile:
    """EF04 of a tag from 013A on, 91 bytes."""

    header: bytes
    network: str
    station: str
    lane: int
    unix_seconds: int
    vehicle_class: int | None
    status: int
    last_gantry: bytes
    gantry_unix_seconds: int
    plate: str = field(repr=False)
    plate_colour: int | None
    axles: int | None
    weight_kg: int
    vehicle_state: int
    issuer: bytes
    """Issuer, type, version and number of the card at the entry; zeros where there was none."""
    card_type: int
    card_version: int
    card_network: str
    inner_number: bytes = field(repr=False)
    user_type: int
    provinces: int
    receivable_fen: int
    fee_fen: int
    """After discount. Of cars it sums rounded sections: not the amount to debit (seen on a real day)."""
    gantries: int
    metres: int
    write_errors: int
    own_entry_gantry: bytes
    """Gantry by which the trip came into the province it is in."""
    own_receivable_fen: int
    own_gantries: int
    own_fee_fen: int
    verify_code: bytes
    raw: bytes = field(repr=False)
    warnings: tuple[str, ...]

    @property
    def origin(self) -> Label | None:
        """Origin of the entry, None for a header that nobody lists."""
        return HEADERS.get(self.header)

    def encode(self) -> bytes:
        """The 91 bytes."""
        return layout.ROUTE.patch(self.raw, self)


def decode_route_file(data: bytes) -> RouteFile:
    """EF04 from 013A on. Raises RemoteProtocolError for any length but 91; all else is a warning."""
    values = layout.ROUTE.parse(data)
    warnings = list(layout.ROUTE.warnings(data))
    if values["header"] not in HEADERS:
        warnings.append(f"header at offset 0 is {values['header'].hex().upper()}")
    return RouteFile(raw=bytes(data), warnings=tuple(warnings), **values)


def route_file_new(station: bytes, **facts: Any) -> bytes:  # noqa: ANN401 - the field's coding decides the type
    """EF04 from a record AA of 2020 as the entry lane wrote it, and `facts` by the names of `RouteFile`; else zeros."""
    record = STATION_NEW.parse(station)
    known = {one.name: record[one.name] for one in layout.ROUTE_ENTRY}
    return layout.ROUTE.build(**(layout.ROUTE.parse(bytes(layout.ROUTE.size)) | known | facts))


def decode_province_fees(data: bytes) -> tuple[ProvinceFee, ...]:
    """Entries that follow the 91 bytes, own province last. Raises RemoteProtocolError for bytes that are none."""
    if len(data) % PROVINCE_BYTES:
        raise RemoteProtocolError(
            f"{len(data)} bytes are not whole entries of {PROVINCE_BYTES}", field="province fees", offset=len(data)
        )
    entries = (data[at : at + PROVINCE_BYTES] for at in range(0, len(data), PROVINCE_BYTES))
    return tuple(ProvinceFee(**_PROVINCE.parse(entry)) for entry in entries)


def describe_route_file(data: bytes, *, unmask: bool = False) -> list[FieldText]:
    """Every field of an EF04; one line when it is none. Never raises."""
    try:
        return layout.ROUTE.describe(data, unmask=unmask)
    except ProtocolError as error:
        return unreadable(data, layout.ROUTE.name, error.problem, unmask=unmask)


_PROVINCE: Final = Layout(
    "province fee",
    "OBE-SAM, DF01/EF04 from 0195 on; verified",
    (Field("province", packed(1), "province code"), Field("fee_fen", uint(3), "fee")),
)
