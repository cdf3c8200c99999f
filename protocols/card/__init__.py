"""ETC user cards and PSAMs: APDUs, files, purse commands. Bytes to frozen values and back; nothing else."""

from protocols.card.apdu import Command, Response, status_text
from protocols.card.files import (
    CardFile,
    Holder,
    TransactionLog,
    card_file_new,
    decode_card_file,
    decode_holder,
    decode_transaction_log,
    describe_card_file,
    describe_holder,
    describe_transaction_log,
)
from protocols.card.purse import signed_balance
from protocols.card.station import Station, StationLayout, decode_station, describe_station, station_new
from protocols.codings import time_bytes
from protocols.fields import FieldText

__all__ = [
    "CardFile",
    "Command",
    "FieldText",
    "Holder",
    "Response",
    "Station",
    "StationLayout",
    "TransactionLog",
    "card_file_new",
    "decode_card_file",
    "decode_holder",
    "decode_station",
    "decode_transaction_log",
    "describe_card_file",
    "describe_holder",
    "describe_station",
    "describe_transaction_log",
    "signed_balance",
    "station_new",
    "status_text",
    "time_bytes",
]
