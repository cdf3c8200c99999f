"""Layouts of the files of an OBU's ESAM."""

from __future__ import annotations

from typing import Final

from protocols.card.codes import PLATE_COLOURS, USER_TYPES, vehicle_class_label
from protocols.card.coding import (
    BYTES,
    COLOUR_WORD,
    DATE,
    DECIMETRES,
    DIGIT_BYTES,
    HEX_BYTE,
    KILOGRAMS,
    MILLIMETRES,
    TEXT,
    UINT,
)
from protocols.card.record import Field, Privacy, Record

_SYSTEM: Final = (
    Field("issuer", 8, BYTES, "issuer id: region text, network, operator"),
    Field("contract_type", 1, HEX_BYTE, "contract type"),
    Field("version", 1, HEX_BYTE, "contract version; 5x wants SM4, 52 is a one-piece OBU"),
    Field("contract_serial", 8, DIGIT_BYTES, "contract serial, diversifies all keys", privacy=Privacy.NUMBER),
    Field("starts", 4, DATE, "signed on"),
    Field("expires", 4, DATE, "valid until"),
)

SYSTEM_SHORT: Final = Record("OBU system file", "OBE-SAM, MF/EF01 without mount flag", _SYSTEM)

SYSTEM_LONG: Final = Record(
    "OBU system file",
    "OBE-SAM, MF/EF01",
    (*_SYSTEM, Field("mount_flag", 1, HEX_BYTE, "00 removed, 01 mounted")),
)

_VEHICLE_HEAD: Final = (
    Field("plate", 12, TEXT, "plate", privacy=Privacy.PLATE),
    Field("plate_colour", 2, COLOUR_WORD, "plate colour", PLATE_COLOURS),
    Field("vehicle_class", 1, UINT, "vehicle class", vehicle_class_label),
    Field("user_type", 1, UINT, "user type", USER_TYPES),
)

# Verified on a decrypted real file.
_VEHICLE_BODY: Final = (
    Field("length_mm", 2, DECIMETRES, "length"),
    Field("width_mm", 1, DECIMETRES, "width"),
    Field("height_mm", 1, DECIMETRES, "height"),
    Field("wheels", 1, UINT, "wheels"),
    Field("axles", 1, UINT, "axles"),
    Field("wheelbase_mm", 2, DECIMETRES, "wheelbase"),
    Field("load_or_seats", 3, UINT, "load in kg (trucks) or seats"),
    Field("feature", 16, TEXT, "description"),
    Field("engine", 16, TEXT, "engine number", privacy=Privacy.NUMBER),
)

VEHICLE_HEAD: Final = Record("OBU vehicle file", "OBE-SAM, DF01/EF01, first 16 bytes", _VEHICLE_HEAD)

VEHICLE_59: Final = Record("OBU vehicle file", "OBE-SAM, DF01/EF01, 59 bytes", (*_VEHICLE_HEAD, *_VEHICLE_BODY))

VEHICLE_79: Final = Record(
    "OBU vehicle file",
    "OBE-SAM, DF01/EF01, 59 bytes and 20 reserved",
    (*_VEHICLE_HEAD, *_VEHICLE_BODY, Field("reserved", 20, BYTES, "reserved")),
)

VEHICLE_TRUCK: Final = Record(
    "OBU vehicle file",
    "OBE-SAM, DF01/EF01, truck form of 2019",
    (
        *_VEHICLE_HEAD,
        # One source gives this form.
        Field("length_mm", 2, MILLIMETRES, "length"),
        Field("width_mm", 2, MILLIMETRES, "width"),
        Field("height_mm", 2, MILLIMETRES, "height"),
        Field("approved_load_kg", 3, KILOGRAMS, "approved load"),
        Field("curb_mass_kg", 3, KILOGRAMS, "curb mass"),
        Field("gross_mass_kg", 3, KILOGRAMS, "gross mass"),
        Field("persons", 1, UINT, "persons"),
        Field("vin", 17, TEXT, "vehicle identification number", privacy=Privacy.NUMBER),
        Field("feature", 16, TEXT, "description"),
        Field("reserved", 14, BYTES, "reserved"),
    ),
)
