"""System information of an OBU (MF/EF01 of its ESAM): issuer, contract, validity, mount flag."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Final

from protocols.codings import read_text
from protocols.crypto.algorithm import Algorithm, algorithm_of_version
from protocols.errors import RemoteProtocolError
from protocols.fields import FieldText, Layout, unreadable
from protocols.obu import layout
from protocols.regions import REGION_BYTES, region_factor, region_of_issuer

VERSION_ONE_PIECE: Final = 0x52
"""An OBU without a slot for a card (one source)."""

MOUNT_REMOVED: Final = 0x00
MOUNT_FITTED: Final = 0x01


@dataclass(frozen=True, slots=True)
class SystemInfo:
    """MF/EF01, 27 bytes, or 26 without the mount flag as RSU reports split it off."""

    issuer: bytes
    region: str
    """Region text, '' when unreadable; heads the issuer id."""
    contract_type: int
    version: int
    contract_serial: bytes = field(repr=False)
    """8 bytes BCD; diversification factor of the OBU's keys (verified)."""
    starts: date | None
    expires: date | None
    mount_flag: int | None
    """00 removed, 01 mounted; None in the 26-byte form."""
    raw: bytes = field(repr=False)
    warnings: tuple[str, ...]

    @property
    def contract_number(self) -> str:
        """The contract serial as 16 digits."""
        return self.contract_serial.hex().upper()

    @property
    def algorithm(self) -> Algorithm:
        """Cipher of the vehicle file."""
        return algorithm_of_version(self.version)

    @property
    def is_one_piece(self) -> bool:
        """True when no user card belongs to this OBU."""
        return self.version == VERSION_ONE_PIECE

    @property
    def region_factor(self) -> bytes:
        """8 bytes; first diversification factor of the OBU's keys."""
        return region_factor(self.issuer)

    def encode(self) -> bytes:
        """The file's bytes. `region` is not written: change `issuer`."""
        record = _layout_of(self.raw)
        return record.patch(self.raw, self)


def decode_system_info(data: bytes) -> SystemInfo:
    """MF/EF01. Raises RemoteProtocolError for any length but 26 and 27; all else is a warning."""
    record = _layout_of(data)
    values = {"mount_flag": None} | record.parse(data)
    warnings = list(record.warnings(data))
    known = region_of_issuer(values["issuer"])
    if known is None:
        warnings.append("issuer at offset 0 has no known region")
    region = known.zh if known is not None else read_text(values["issuer"][:REGION_BYTES])
    if values["mount_flag"] not in (None, MOUNT_REMOVED, MOUNT_FITTED):
        warnings.append(f"mount_flag at offset 26 is {values['mount_flag']:02X}")
    return SystemInfo(region=region, raw=bytes(data), warnings=tuple(warnings), **values)


def system_info_new(
    *,
    issuer: bytes,
    contract_serial: bytes,
    starts: date,
    expires: date,
    version: int = 0x10,
    contract_type: int = 0,
    mount_flag: int = MOUNT_FITTED,
) -> bytes:
    """MF/EF01 from its facts, 27 bytes."""
    return layout.SYSTEM_LONG.build(
        issuer=issuer,
        contract_type=contract_type,
        version=version,
        contract_serial=contract_serial,
        starts=starts,
        expires=expires,
        mount_flag=mount_flag,
    )


def describe_system_info(data: bytes, *, unmask: bool = False) -> list[FieldText]:
    """Every field of an MF/EF01; one line when it is none. Never raises."""
    try:
        return _layout_of(data).describe(data, unmask=unmask)
    except RemoteProtocolError as error:
        return unreadable(data, layout.SYSTEM_LONG.name, error.problem, unmask=unmask)


def _layout_of(data: bytes) -> Layout:
    for record in (layout.SYSTEM_LONG, layout.SYSTEM_SHORT):
        if len(data) == record.size:
            return record
    raise RemoteProtocolError(
        f"{len(data)} bytes, 26 or 27 wanted",
        field=layout.SYSTEM_LONG.name,
        offset=len(data),
        hint="read EF01 of the MF with Le 1B",
        clause=layout.SYSTEM_LONG.source,
    )
