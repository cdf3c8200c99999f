"""Sixty cards of a delivery, most of them good, with defects of every kind planted among them."""

from dataclasses import replace
from datetime import date

from hardware.emulators.card import Block
from protocols.card import commands, station_new
from tests.gateway.cards.odd_cards import (
    Refusing,
    Strange,
    fixed,
    reads_record,
    transit_card,
    user_card,
    with_file,
    with_transaction,
)

TODAY = date(2026, 1, 15)

GOLDEN = """
name = "delivery 7"
fresh = true
keys = [1]
[files.0015]
bytes = 50
network = "9901"
issuer = "B2E2CAD499010001"
card_type = 22
version = "40"
starts = { min = "2025-01-01", max = "2026-01-15" }
expires = { min = "2030-01-01", max = "2036-12-31" }
plate = { pattern = "测A[0-9]{5}" }
user_type = 0
plate_colour = 0
vehicle_class = 1
[files."0019/1"]
bytes = 43
[files.0012]
bytes = 40
"""


def good(number, **facts):
    """A card as it was ordered."""
    known = {
        "plate": f"测A{number:05}",
        "inner_number": f"230122010000{number:04}",
        "balance_raw": 0,
        "offline_sequence": 0,
        "starts": date(2025, 6, 1),
        "expires": date(2035, 6, 1),
        "station": None,
        "random": fixed,
    }
    return user_card(**known | facts)


def issuer_changed(card):
    return with_file(card, commands.SFI_CARD_FILE, lambda data: b"\xd5\xe3\xbd\xad" + data[4:])


def blocked(card):
    card._stored = replace(card._stored, block=Block.TEMPORARY)
    return card


def blank(number):
    return with_file(good(number), commands.SFI_CARD_FILE, lambda data: b"\xff" * len(data))


def entered(number):
    """A card on which another vehicle's entry stands already."""
    facts = {"network": "9901", "station": "0105", "lane": 1, "unix_seconds": 1764561600, "vehicle_class": 1}
    return good(number, station=station_new(**facts, status=3, plate="测B99999", plate_colour=0))


PLANTED = {
    4: ("differs:0015.plate", lambda n: good(n, plate="京A00004")),
    7: ("card_expired", lambda n: good(n, expires=date(2026, 1, 14))),
    9: ("differs:0015.issuer", lambda n: issuer_changed(good(n))),
    12: ("differs:0015.bytes", lambda n: good(n, length=43)),
    15: ("differs:0015.network", lambda n: good(n, network="9902")),
    18: ("double", lambda n: good(17)),
    21: ("card_blank", blank),
    24: ("card_unreadable", lambda n: with_file(good(n), commands.SFI_CARD_FILE, lambda data: data[:31])),
    27: ("card_unreadable", lambda n: Refusing(good(n), reads_record(commands.SFI_STATIONS), 0x6581)),
    30: ("card_not_etc", lambda n: transit_card()),
    33: ("card_locked", lambda n: blocked(good(n))),
    36: ("keys", lambda n: Refusing(good(n), lambda c: c.ins == 0x50, 0x9403)),
    39: ("differs:0015.vehicle_class", lambda n: good(n, vehicle_class=2)),
    42: ("differs:0015.plate_colour", lambda n: good(n, plate_colour=1)),
    45: ("not_fresh", lambda n: with_transaction(good(n))),
    48: ("balance", lambda n: good(n, balance_raw=100)),
    51: ("plates_differ", entered),
    54: ("card_not_etc", lambda n: Strange(payments=False)),
    57: ("differs:0015.card_type", lambda n: good(n, card_type=23)),
}
"""Place in the delivery -> code of the defect that must be found, and the card."""


def card(number):
    """Card at a place of the delivery, which are counted from one."""
    planted = PLANTED.get(number)
    return good(number) if planted is None else planted[1](number)
