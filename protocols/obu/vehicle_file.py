"""Vehicle file of an OBU (DF01/EF01 of its ESAM), after decryption by a PSAM."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, Final

from protocols.errors import ProtocolError, RemoteProtocolError
from protocols.fields import FieldText, Layout, is_fill, unreadable
from protocols.obu import layout

MILLIMETRES_MIN: Final = 300
"""Length field from which on a file of 79 bytes has the truck form, which counts millimetres: no vehicle is 300 dm
long. The class does not tell, nor does the VIN, which is binary on half of the trucks (seen on a real day's tags)."""

_LENGTH = slice(16, 18)


class VehicleForm(Enum):
    """Form of a vehicle file. The file does not name it: see `decode_vehicle_file`."""

    HEAD = "head"
    """First 16 bytes only, as read from old OBUs."""
    CAR = "car"
    """59 bytes, or 79 with a reserved end."""
    TRUCK = "truck"
    """79 bytes with masses and VIN, since 2019."""


@dataclass(frozen=True, slots=True)
class VehicleFile:
    """Vehicle data of a tag. Lengths in millimetres whatever the form; None where the form has no field."""

    form: VehicleForm
    plate: str = field(repr=False)
    plate_colour: int | None
    """None when the field holds no known colour, neither as number nor as GBK text."""
    vehicle_class: int
    user_type: int
    length_mm: int | None
    width_mm: int | None
    height_mm: int | None
    wheels: int | None
    axles: int | None
    wheelbase_mm: int | None
    load_or_seats: int | None
    """Kilograms for trucks, seats for cars."""
    feature: str | None
    engine: str | None = field(repr=False)
    approved_load_kg: int | None
    curb_mass_kg: int | None
    gross_mass_kg: int | None
    persons: int | None
    vin: str | None = field(repr=False)
    """Empty where it is binary."""
    raw: bytes = field(repr=False)
    warnings: tuple[str, ...]

    def encode(self) -> bytes:
        """The file's bytes."""
        record = _layout_of(self.raw)
        return record.patch(self.raw, self)


_FORMS: Final = {
    layout.VEHICLE_HEAD: VehicleForm.HEAD,
    layout.VEHICLE_59: VehicleForm.CAR,
    layout.VEHICLE_79: VehicleForm.CAR,
    layout.VEHICLE_TRUCK: VehicleForm.TRUCK,
}


def decode_vehicle_file(data: bytes) -> VehicleFile:
    """DF01/EF01 in clear. Raises RemoteProtocolError for any length but 16, 59 and 79; all else is a warning.

    79 bytes are the truck form when their length field says so: `MILLIMETRES_MIN`.
    """
    record = _layout_of(data)
    own = {item.name for item in fields(VehicleFile)}
    values: dict[str, Any] = dict.fromkeys(own)
    values |= {name: value for name, value in record.parse(data).items() if name in own}
    values |= {"form": _FORMS[record], "raw": bytes(data), "warnings": record.warnings(data)}
    return VehicleFile(**values)


def vehicle_file_new(
    *,
    plate: str,
    plate_colour: int,
    vehicle_class: int,
    user_type: int = 0,
    length_mm: int = 0,
    width_mm: int = 0,
    height_mm: int = 0,
    wheels: int = 4,
    axles: int = 2,
    wheelbase_mm: int = 0,
    load_or_seats: int = 5,
    feature: str = "",
    engine: str = "",
    size: int = 79,
) -> bytes:
    """A vehicle file of the car form, 59 or 79 bytes. Lengths are whole decimetres."""
    record = layout.VEHICLE_59 if size == layout.VEHICLE_59.size else layout.VEHICLE_79
    reserved = {} if record is layout.VEHICLE_59 else {"reserved": bytes(20)}
    return record.build(
        plate=plate,
        plate_colour=plate_colour,
        vehicle_class=vehicle_class,
        user_type=user_type,
        length_mm=length_mm,
        width_mm=width_mm,
        height_mm=height_mm,
        wheels=wheels,
        axles=axles,
        wheelbase_mm=wheelbase_mm,
        load_or_seats=load_or_seats,
        feature=feature,
        engine=engine,
        **reserved,
    )


def truck_file_new(
    *,
    plate: str,
    plate_colour: int,
    vehicle_class: int,
    vin: str = "",
    user_type: int = 0,
    length_mm: int = 12_000,
    width_mm: int = 0,
    height_mm: int = 0,
    approved_load_kg: int = 0,
    curb_mass_kg: int = 0,
    gross_mass_kg: int = 0,
    persons: int = 2,
    feature: str = "",
) -> bytes:
    """A vehicle file of the truck form, 79 bytes. It reads back as one only from `MILLIMETRES_MIN` on."""
    return layout.VEHICLE_TRUCK.build(
        plate=plate,
        plate_colour=plate_colour,
        vehicle_class=vehicle_class,
        user_type=user_type,
        length_mm=length_mm,
        width_mm=width_mm,
        height_mm=height_mm,
        approved_load_kg=approved_load_kg,
        curb_mass_kg=curb_mass_kg,
        gross_mass_kg=gross_mass_kg,
        persons=persons,
        vin=vin,
        feature=feature,
        reserved=bytes(14),
    )


def describe_vehicle_file(data: bytes, *, unmask: bool = False) -> list[FieldText]:
    """Every field of a vehicle file in clear; one line when it is none. Never raises."""
    try:
        return _layout_of(data).describe(data, unmask=unmask)
    except ProtocolError as error:
        return unreadable(data, layout.VEHICLE_59.name, error.problem, unmask=unmask)


def _layout_of(data: bytes) -> Layout:
    if len(data) == layout.VEHICLE_TRUCK.size:
        truck = int.from_bytes(data[_LENGTH], "big") >= MILLIMETRES_MIN and not is_fill(data)
        return layout.VEHICLE_TRUCK if truck else layout.VEHICLE_79
    for record in (layout.VEHICLE_59, layout.VEHICLE_HEAD):
        if len(data) == record.size:
            return record
    raise RemoteProtocolError(
        f"{len(data)} bytes, 16, 59 or 79 wanted",
        field=layout.VEHICLE_59.name,
        offset=len(data),
        hint="not a decrypted vehicle file",
        clause=layout.VEHICLE_59.source,
    )
