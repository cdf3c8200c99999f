"""Layouts of the files of an ETC user card, as two or more public sources give them unless a field says otherwise."""

from __future__ import annotations

from typing import Final

from protocols.card.codes import (
    CARD_TYPES,
    PASS_STATUSES,
    RECORDS,
    TRADE_TYPES,
    USER_TYPES,
    VEHICLE_STATES,
    YUNNAN_PASS_STATUSES,
    vehicle_class_label,
)
from protocols.codings import DATE, HEX_BYTE, SMALL, UNIX, digit_bytes, digits, hex_text, octets, one_of, quantity, text
from protocols.fields import Field, Layout, Privacy, uint
from protocols.plates import PLATE_COLOURS

STATION_HEADER: Final = b"\xaa\x29\x00"
"""Head of record AA of file 0019: id, total length minus 2, zero."""

_ISSUE_HEAD: Final = (
    Field("issuer", octets(8), "issuer id: region text, network, operator"),
    Field("card_type", uint(1), "card type", words=CARD_TYPES, odd=one_of(CARD_TYPES)),
    Field("version", HEX_BYTE, "card version; 5x wants SM4"),
    Field("network", digits(2), "network number: province code and sequence"),
    Field("inner_number", digit_bytes(8), "card inner number, diversifies all keys", privacy=Privacy.NUMBER),
    Field("starts", DATE, "valid from"),
    Field("expires", DATE, "valid until"),
    Field("plate", text(12), "plate", privacy=Privacy.PLATE),
    Field("user_type", uint(1), "user type", words=USER_TYPES),
)

_ISSUE_VEHICLE: Final = (
    Field("plate_colour", SMALL, "plate colour", words=PLATE_COLOURS, odd=one_of(PLATE_COLOURS)),
    Field("vehicle_class", SMALL, "vehicle class", words=vehicle_class_label),
)

CARD_FILE_OLD: Final = Layout(
    "card file 0015",
    "JT/T user card, file 0015 before version 40",
    # Each issuer gave the last pair a meaning of its own (a discount, a class, nothing): not interpreted.
    (*_ISSUE_HEAD, Field("free_pair", octets(2), "issuer's own two bytes")),
)

CARD_FILE_SHORT: Final = Layout(
    "card file 0015", "JT/T user card, file 0015 from version 40", (*_ISSUE_HEAD, *_ISSUE_VEHICLE)
)

CARD_FILE_LONG: Final = Layout(
    "card file 0015",
    "JT/T user card, file 0015 of 50 bytes",
    (*_ISSUE_HEAD, *_ISSUE_VEHICLE, Field("reserved", octets(7), "reserved, 00 or FF")),
)

_STATION_HEAD: Final = (
    Field("header", octets(3), "record id, length, zero"),
    Field("network", hex_text(2), "entry network"),
    Field("station", hex_text(2), "entry station"),
    Field("lane", uint(1), "entry lane"),
    Field("unix_seconds", UNIX, "entry time"),
    Field("vehicle_class", SMALL, "vehicle class", words=vehicle_class_label),
    Field("status", uint(1), "entry or exit status", words=PASS_STATUSES),
)

_RECORD_PLATE: Final = Field("plate", text(12), "plate", privacy=Privacy.PLATE)

STATION_NEW: Final = Layout(
    "station record 0019",
    "JT/T user card, file 0019 record AA since 2020",
    (
        *_STATION_HEAD,
        Field("last_gantry", octets(3), "last gantry passed"),
        Field("gantry_unix_seconds", UNIX, "time at the last gantry"),
        _RECORD_PLATE,
        Field("plate_colour", SMALL, "plate colour", words=PLATE_COLOURS),
        Field("axles", SMALL, "axles"),
        Field("weight_kg", quantity(3, "kg"), "total weight"),
        Field("vehicle_state", HEX_BYTE, "vehicle state", words=VEHICLE_STATES),
        Field("fee_fen", quantity(4, "fen"), "fee accumulated so far"),
    ),
)

STATION_OLD: Final = Layout(
    "station record 0019",
    "JT/T user card, file 0019 record AA before 2020",
    (
        *_STATION_HEAD,
        Field("flag_stations", octets(9), "flag stations passed"),
        Field("staff", octets(3), "staff number"),
        Field("shift", uint(1), "shift"),
        _RECORD_PLATE,
        Field("reserved", octets(4), "reserved"),
    ),
)

STATION_SHARED: Final = Layout(
    "station record 0019",
    "JT/T user card, file 0019 record AA",
    (*_STATION_HEAD, Field("content", octets(29), "content of either layout", privacy=Privacy.NUMBER)),
)

STATION_BLANK: Final = Layout(
    STATION_SHARED.name,
    STATION_SHARED.source,
    (
        Field("header", octets(3), "record id, length, zero"),
        Field("content", octets(40), "never written: no entry information"),
    ),
)

TRANSACTION_LOG: Final = Layout(
    "transaction log 0018",
    "JT/T user card, file 0018",
    (
        Field("sequence", uint(2), "online (load) or offline (purchase) sequence after the transaction"),
        Field("overdraft_fen", quantity(3, "fen"), "overdraft limit"),
        Field("amount_fen", quantity(4, "fen"), "amount"),
        Field("trade_type", uint(1), "transaction type", words=TRADE_TYPES),
        Field("terminal", octets(6), "terminal number"),
        Field("day", DATE, "date"),
        Field("time", digits(3), "time hhmmss"),
    ),
)

HOLDER: Final = Layout(
    "holder file 0016",
    "JT/T user card, file 0016",
    (
        Field("holder_type", uint(1), "holder type"),
        Field("staff_flag", uint(1), "works for the issuer"),
        Field("holder_name", text(20), "name", privacy=Privacy.HIDDEN),
        Field("document_number", text(32), "number of the document", privacy=Privacy.HIDDEN),
        Field("document_type", uint(1), "kind of document"),
    ),
)

PSAM_ISSUE: Final = Layout(
    "PSAM file 0015",
    "JT/T PSAM, file 0015",
    (
        Field("serial", digit_bytes(10), "PSAM serial: network and number"),
        Field("version", HEX_BYTE, "version"),
        Field("key_type", HEX_BYTE, "00 3DES, 04 SM4"),
        Field("issuer_free", octets(2), "issuer's own"),
    ),
)

_PSAM_APPLICATION: Final = (
    Field("key_index", HEX_BYTE, "index of the 3DES purse key"),
    Field("issuer", octets(8), "issuer id"),
    Field("area", octets(8), "receiving area; its first four bytes twice are the region factor"),
    Field("starts", DATE, "valid from"),
    Field("expires", DATE, "valid until"),
)

PSAM_APPLICATION_SHORT: Final = Layout("PSAM file 0017", "JT/T PSAM, file DF01/0017", _PSAM_APPLICATION)

PSAM_APPLICATION_LONG: Final = Layout(
    "PSAM file 0017",
    "JT/T PSAM, file DF01/0017 of 27 bytes",
    (
        *_PSAM_APPLICATION,
        # One source names these two bytes.
        Field("reserved", octets(1), "reserved"),
        Field("sm4_key_index", HEX_BYTE, "index of the SM4 purse key"),
    ),
)

TRANSIT_FILE: Final = Layout(
    "purse card's public file",
    "PBOC, file 0015; dates verified on two real cards",
    (
        Field("issuer", octets(8), "issuer id"),
        Field("application_type", HEX_BYTE, "application type"),
        Field("version", HEX_BYTE, "application version"),
        Field("serial", octets(10), "application serial number", privacy=Privacy.NUMBER),
        Field("starts", DATE, "valid from"),
        Field("expires", DATE, "valid until"),
        Field("free_pair", octets(2), "issuer's own two bytes"),
    ),
)

STATION_YUNNAN: Final = Layout(
    "station record 0019",
    "Yunnan, file 0019 record AA before 2020; one source",
    (
        Field("header", octets(3), "record id, length, zero"),
        Field("network", hex_text(2), "entry network"),
        Field("station", hex_text(3), "entry station"),
        Field("lane", uint(1), "entry lane"),
        Field("yunnan_seconds", uint(4), "entry time, seconds of 2000 in China"),
        Field("vehicle_class", SMALL, "vehicle class", words=vehicle_class_label),
        Field("status", uint(1), "entry or exit status", words=YUNNAN_PASS_STATUSES),
        Field("terminal", octets(6), "terminal number"),
        Field("record_index", uint(1), "record index"),
        Field("operator", octets(4), "operator"),
        Field("shift", uint(1), "shift"),
        _RECORD_PLATE,
        Field("plate_colour", SMALL, "plate colour", words=PLATE_COLOURS),
        Field("reserved", octets(1), "reserved"),
        Field("crc", octets(2), "checksum"),
    ),
)
"""Option for old cards of one province: nothing on a card tells that it has this layout."""

RECORD_HEAD: Final = (
    Field("record_id", HEX_BYTE, "record id", words=RECORDS),
    Field("length", uint(1), "bytes after these two"),
    Field("zero", octets(1), "zero"),
)
