"""Layouts of the files of an ETC user card, as two or more public sources give them unless a field says otherwise."""

from __future__ import annotations

from typing import Final

from protocols.card.codes import (
    CARD_TYPES,
    PASS_STATUSES,
    PLATE_COLOURS,
    TRADE_TYPES,
    USER_TYPES,
    VEHICLE_STATES,
    vehicle_class_label,
)
from protocols.card.coding import (
    BYTES,
    DATE,
    DIGIT_BYTES,
    DIGITS,
    FEN,
    HEX_BYTE,
    HEX_TEXT,
    KILOGRAMS,
    SMALL,
    TEXT,
    UINT,
    UNIX,
    one_of,
)
from protocols.card.record import Field, Privacy, Record

STATION_HEADER: Final = b"\xaa\x29\x00"
"""Head of record AA of file 0019: id, total length minus 2, zero."""

_ISSUE_HEAD: Final = (
    Field("issuer", 8, BYTES, "issuer id: region text, network, operator"),
    Field("card_type", 1, UINT, "card type", CARD_TYPES, check=one_of(CARD_TYPES)),
    Field("version", 1, HEX_BYTE, "card version; 5x wants SM4"),
    Field("network", 2, DIGITS, "network number: province code and sequence"),
    Field("inner_number", 8, DIGIT_BYTES, "card inner number, diversifies all keys", privacy=Privacy.NUMBER),
    Field("starts", 4, DATE, "valid from"),
    Field("expires", 4, DATE, "valid until"),
    Field("plate", 12, TEXT, "plate", privacy=Privacy.PLATE),
    Field("user_type", 1, UINT, "user type", USER_TYPES),
)

_ISSUE_VEHICLE: Final = (
    Field("plate_colour", 1, SMALL, "plate colour", PLATE_COLOURS, check=one_of(PLATE_COLOURS)),
    Field("vehicle_class", 1, SMALL, "vehicle class", vehicle_class_label),
)

CARD_FILE_OLD: Final = Record(
    "card file 0015",
    "JT/T user card, file 0015 before version 40",
    # Each issuer gave the last pair a meaning of its own (a discount, a class, nothing): not interpreted.
    (*_ISSUE_HEAD, Field("free_pair", 2, BYTES, "issuer's own two bytes")),
)

CARD_FILE_SHORT: Final = Record(
    "card file 0015", "JT/T user card, file 0015 from version 40", (*_ISSUE_HEAD, *_ISSUE_VEHICLE)
)

CARD_FILE_LONG: Final = Record(
    "card file 0015",
    "JT/T user card, file 0015 of 50 bytes",
    (*_ISSUE_HEAD, *_ISSUE_VEHICLE, Field("reserved", 7, BYTES, "reserved, 00 or FF")),
)

_STATION_HEAD: Final = (
    Field("header", 3, BYTES, "record id, length, zero"),
    Field("network", 2, HEX_TEXT, "entry network"),
    Field("station", 2, HEX_TEXT, "entry station"),
    Field("lane", 1, UINT, "entry lane"),
    Field("unix_seconds", 4, UNIX, "entry time"),
    Field("vehicle_class", 1, SMALL, "vehicle class", vehicle_class_label),
    Field("status", 1, UINT, "entry or exit status", PASS_STATUSES),
)

_RECORD_PLATE: Final = Field("plate", 12, TEXT, "plate", privacy=Privacy.PLATE)

STATION_NEW: Final = Record(
    "station record 0019",
    "JT/T user card, file 0019 record AA since 2020",
    (
        *_STATION_HEAD,
        Field("last_gantry", 3, BYTES, "last gantry passed"),
        Field("gantry_unix_seconds", 4, UNIX, "time at the last gantry"),
        _RECORD_PLATE,
        Field("plate_colour", 1, SMALL, "plate colour", PLATE_COLOURS),
        Field("axles", 1, SMALL, "axles"),
        Field("weight_kg", 3, KILOGRAMS, "total weight"),
        Field("vehicle_state", 1, HEX_BYTE, "vehicle state", VEHICLE_STATES),
        Field("fee_fen", 4, FEN, "fee accumulated so far"),
    ),
)

STATION_OLD: Final = Record(
    "station record 0019",
    "JT/T user card, file 0019 record AA before 2020",
    (
        *_STATION_HEAD,
        Field("flag_stations", 9, BYTES, "flag stations passed"),
        Field("staff", 3, BYTES, "staff number"),
        Field("shift", 1, UINT, "shift"),
        _RECORD_PLATE,
        Field("reserved", 4, BYTES, "reserved"),
    ),
)

STATION_RAW: Final = Record(
    "station record 0019",
    "JT/T user card, file 0019 record AA",
    (
        Field("header", 3, BYTES, "record id, length, zero"),
        Field("content", 40, BYTES, "content of no known layout", privacy=Privacy.NUMBER),
    ),
)

STATION_BLANK: Final = Record(
    STATION_RAW.name,
    STATION_RAW.clause,
    (
        Field("header", 3, BYTES, "record id, length, zero"),
        Field("content", 40, BYTES, "never written: no entry information"),
    ),
)

TRANSACTION_LOG: Final = Record(
    "transaction log 0018",
    "JT/T user card, file 0018",
    (
        Field("sequence", 2, UINT, "online (load) or offline (purchase) sequence after the transaction"),
        Field("overdraft_fen", 3, FEN, "overdraft limit"),
        Field("amount_fen", 4, FEN, "amount"),
        Field("trade_type", 1, UINT, "transaction type", TRADE_TYPES),
        Field("terminal", 6, BYTES, "terminal number"),
        Field("day", 4, DATE, "date"),
        Field("time", 3, DIGITS, "time hhmmss"),
    ),
)

HOLDER: Final = Record(
    "holder file 0016",
    "JT/T user card, file 0016",
    (
        Field("holder_type", 1, UINT, "holder type"),
        Field("staff_flag", 1, UINT, "works for the issuer"),
        Field("holder_name", 20, TEXT, "name", privacy=Privacy.HIDDEN),
        Field("document_number", 32, TEXT, "number of the document", privacy=Privacy.HIDDEN),
        Field("document_type", 1, UINT, "kind of document"),
    ),
)

PSAM_ISSUE: Final = Record(
    "PSAM file 0015",
    "JT/T PSAM, file 0015",
    (
        Field("serial", 10, DIGIT_BYTES, "PSAM serial: network and number"),
        Field("version", 1, HEX_BYTE, "version"),
        Field("key_type", 1, HEX_BYTE, "00 3DES, 04 SM4"),
        Field("issuer_free", 2, BYTES, "issuer's own"),
    ),
)

_PSAM_APPLICATION: Final = (
    Field("key_index", 1, HEX_BYTE, "index of the 3DES purse key"),
    Field("issuer", 8, BYTES, "issuer id"),
    Field("area", 8, BYTES, "receiving area; its first four bytes twice are the region factor"),
    Field("starts", 4, DATE, "valid from"),
    Field("expires", 4, DATE, "valid until"),
)

PSAM_APPLICATION_SHORT: Final = Record("PSAM file 0017", "JT/T PSAM, file DF01/0017", _PSAM_APPLICATION)

PSAM_APPLICATION_LONG: Final = Record(
    "PSAM file 0017",
    "JT/T PSAM, file DF01/0017 of 27 bytes",
    (
        *_PSAM_APPLICATION,
        # One source names these two bytes.
        Field("reserved", 1, BYTES, "reserved"),
        Field("sm4_key_index", 1, HEX_BYTE, "index of the SM4 purse key"),
    ),
)
