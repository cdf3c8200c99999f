"""Layouts of the files of an OBU's ESAM."""

from __future__ import annotations

from typing import Final

from protocols.card import layout as card_layout
from protocols.card.codes import CARD_TYPES, USER_TYPES, vehicle_class_label
from protocols.codings import COLOUR_WORD, DATE, HEX_BYTE, decimetres, digit_bytes, digits, octets, quantity, text
from protocols.fields import Field, Layout, Privacy, uint
from protocols.plates import PLATE_COLOURS

_SYSTEM: Final = (
    Field("issuer", octets(8), "issuer id: region text, network, operator"),
    Field("contract_type", HEX_BYTE, "contract type"),
    Field("version", HEX_BYTE, "contract version; 5x wants SM4, 52 is a one-piece OBU"),
    Field("contract_serial", digit_bytes(8), "contract serial, diversifies all keys", privacy=Privacy.NUMBER),
    Field("starts", DATE, "signed on"),
    Field("expires", DATE, "valid until"),
)

SYSTEM_SHORT: Final = Layout("OBU system file", "OBE-SAM, MF/EF01 without mount flag", _SYSTEM)

SYSTEM_LONG: Final = Layout(
    "OBU system file",
    "OBE-SAM, MF/EF01",
    (*_SYSTEM, Field("mount_flag", HEX_BYTE, "00 removed, 01 mounted")),
)

_VEHICLE_HEAD: Final = (
    Field("plate", text(12), "plate", privacy=Privacy.PLATE),
    Field("plate_colour", COLOUR_WORD, "plate colour", words=PLATE_COLOURS),
    Field("vehicle_class", uint(1), "vehicle class", words=vehicle_class_label),
    Field("user_type", uint(1), "user type", words=USER_TYPES),
)

# Verified on a decrypted real file.
_VEHICLE_BODY: Final = (
    Field("length_mm", decimetres(2), "length"),
    Field("width_mm", decimetres(1), "width"),
    Field("height_mm", decimetres(1), "height"),
    Field("wheels", uint(1), "wheels"),
    Field("axles", uint(1), "axles"),
    Field("wheelbase_mm", decimetres(2), "wheelbase"),
    Field("load_or_seats", uint(3), "load in kg (trucks) or seats"),
    Field("feature", text(16), "description"),
    Field("engine", text(16), "engine number", privacy=Privacy.NUMBER),
)

VEHICLE_HEAD: Final = Layout("OBU vehicle file", "OBE-SAM, DF01/EF01, first 16 bytes", _VEHICLE_HEAD)

VEHICLE_59: Final = Layout("OBU vehicle file", "OBE-SAM, DF01/EF01, 59 bytes", (*_VEHICLE_HEAD, *_VEHICLE_BODY))

VEHICLE_79: Final = Layout(
    "OBU vehicle file",
    "OBE-SAM, DF01/EF01, 59 bytes and 20 reserved",
    (*_VEHICLE_HEAD, *_VEHICLE_BODY, Field("reserved", octets(20), "reserved")),
)


def _odd_vin(content: bytes) -> str | None:
    """Check of a VIN: eight zeros and nine unexplained bytes are not odd, since half of the trucks have them."""
    return None if content.startswith(bytes(8)) else text(17).odd(content)


VEHICLE_TRUCK: Final = Layout(
    "OBU vehicle file",
    "OBE-SAM, DF01/EF01, truck form of 2019",
    (
        *_VEHICLE_HEAD,
        # One source gives this form; half of a real day's trucks have it with a binary VIN.
        Field("length_mm", quantity(2, "mm"), "length"),
        Field("width_mm", quantity(2, "mm"), "width"),
        Field("height_mm", quantity(2, "mm"), "height"),
        Field("approved_load_kg", quantity(3, "kg"), "approved load"),
        Field("curb_mass_kg", quantity(3, "kg"), "curb mass"),
        Field("gross_mass_kg", quantity(3, "kg"), "gross mass"),
        Field("persons", uint(1), "persons"),
        Field("vin", text(17), "vehicle identification number", privacy=Privacy.NUMBER, odd=_odd_vin),
        Field("feature", text(16), "description"),
        Field("reserved", octets(14), "reserved"),
    ),
)

ROUTE_ENTRY: Final = tuple(one for one in card_layout.STATION_NEW.fields if one.name != "fee_fen")
"""Record AA of file 0019 without its fee."""

ROUTE: Final = Layout(
    "OBU route file EF04",
    "OBE-SAM, DF01/EF04 from 013A, 91 bytes; verified",
    (
        *ROUTE_ENTRY,
        Field("issuer", octets(8), "issuer of the card at the entry"),
        Field("card_type", uint(1), "its type", words=CARD_TYPES),
        Field("card_version", HEX_BYTE, "its version"),
        Field("card_network", digits(2), "its network number"),
        Field("inner_number", digit_bytes(8), "its inner number", privacy=Privacy.NUMBER),
        Field("user_type", uint(1), "user type", words=USER_TYPES),
        Field("provinces", uint(1), "provinces passed"),
        Field("receivable_fen", quantity(3, "fen"), "receivable, all provinces"),
        Field("fee_fen", quantity(3, "fen"), "fee after discount, all provinces"),
        Field("gantries", uint(2), "gantries passed"),
        Field("metres", quantity(3, "m"), "distance"),
        Field("write_errors", uint(1), "failed writes to the tag"),
        Field("own_entry_gantry", octets(3), "first gantry in this province"),
        Field("own_receivable_fen", quantity(3, "fen"), "receivable, this province"),
        Field("own_gantries", uint(1), "gantries passed in this province"),
        Field("own_fee_fen", quantity(3, "fen"), "fee after discount, this province"),
        Field("verify_code", octets(8), "verify code"),
    ),
)
