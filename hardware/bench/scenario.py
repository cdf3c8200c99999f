"""Vehicles of the demo: what each is, what goes wrong with it, and what must come of it.

Expected decisions follow from the design's decision table, expected fares from the table of prices below. Both are
written by hand here and share no code with the gateway, so an error there cannot hide itself.

Plates, cards and tags are made up: issuer 测试, network 9901.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

BLUE, YELLOW, GRADIENT_GREEN = 0, 1, 4

LATE = "late"
"""Behaviour of the bank that keeps its approval until the bench has seen the reversal arrive."""

NET_FARES: Mapping[tuple[str, int, str | None], int] = {
    # (lane, vehicle class, entry station): fen after the 5 % discount, halves rounded up
    ("lane-1", 1, None): 1425,  # 1500 - 75
    ("lane-1", 2, None): 2375,  # 2500 - 125
    ("lane-1", 3, None): 3563,  # 3750 - 187.5 = 3562.5
    ("lane-1", 11, None): 1710,  # 1800 - 90
    ("lane-2", 1, "99010101"): 3800,  # 4000 - 200
    ("lane-2", 2, "99010101"): 6175,  # 6500 - 325
    ("lane-2", 12, "99010101"): 7600,  # 8000 - 400
    ("lane-2", 1, "99010103"): 2228,  # 2345 - 117.25 = 2227.75
    ("lane-2", 11, "99010103"): 3166,  # 3333 - 166.65 = 3166.35
    ("lane-4", 1, "99010103"): 2850,  # 3000 - 150
    ("lane-4", 2, "99010103"): 4940,  # 5200 - 260
    ("lane-4", 12, "99010103"): 7388,  # 7777 - 388.85 = 7388.15
}


@dataclass(frozen=True, slots=True)
class Expected:
    """Expectation of a vehicle: its decisions in order, and where its money ends."""

    decisions: tuple[tuple[str, str, str | None], ...]
    """(outcome, release, reason) of each decision."""
    charged: bool = False
    ends: str | None = None
    """Final state of the debit; None when there must be none."""
    through_doubt: bool = False
    """Decisions `unknown` may come before the last one: the line was bad, and how bad is the seed's affair."""


@dataclass(frozen=True, slots=True)
class Vehicle:
    """One vehicle of the scenario."""

    number: int
    story: str
    lane: str
    expected: Expected
    vehicle_class: int = 1
    colour: int = BLUE
    plate: str = ""
    device_type: int = 1
    card_type: int | None = 22
    balance_fen: int = 50_000
    entry: str | None = None
    entry_age_s: int = 1800
    """Age of the entry on the card in seconds; negative lies in the future."""
    priced_as: str | None = None
    """Lane whose prices hold, where it is not its own name."""
    enters_at: str | None = None
    """Lane where the trip begins in this very run: the vehicle passes there first, and its card carries the entry."""
    trouble: str | None = None
    """`noise` on the line while it passes, or `unplug`: the serial port vanishes in the middle and comes back."""
    funding: str | None = None
    """Funding of its mandate: bank_online or issuer_clearing; None = no mandate is imported."""
    mandate_status: str = "active"
    mandate_colour: int | None = None
    stand_in_limit_fen: int = 20_000
    fuel_sale_litres: str = ""
    """Most litres that its mandate lets one filling have; empty: no limit."""
    bank: Mapping[str, Any] | None = None
    """Behaviour of the bank instead of answering 00."""
    fault: str | None = None
    """Fault of the antenna or the air (fault names of the RSU emulator)."""
    seen_again: bool = False
    listed: tuple[str, int] | None = None
    """Status list entry: kind (card or obu) and list type."""
    obu: Mapping[str, Any] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"v{self.number:02d}"

    @property
    def plate_text(self) -> str:
        return self.plate or f"测A{self.number:05d}"

    @property
    def obu_id(self) -> str:
        """Radio id of the tag, 4 bytes hex."""
        return f"99{self.number:06x}"

    @property
    def obu_serial(self) -> str:
        """Contract serial of the tag, 8 bytes BCD."""
        return f"9901230100{self.number:06d}"

    @property
    def inner_number(self) -> str:
        return f"2301{22 if self.card_type == 22 else 23}01{self.number:08d}"

    @property
    def card_number(self) -> str:
        return f"9901{self.inner_number}"

    @property
    def mandate_id(self) -> str:
        return f"M{self.number:04d}"

    @property
    def contract_ref(self) -> str:
        """Contract as digits, as field 48 of the bank's dialect carries them."""
        return f"622848{self.number:010d}"

    @property
    def fare_fen(self) -> int:
        return NET_FARES[self.priced_as or self.lane, self.vehicle_class, self.entry]

    @property
    def troubles_the_line(self) -> bool:
        """True when the bank's behaviour would disturb another vehicle that is asking it."""
        return self.bank is not None and self.bank.get("mode") in (LATE, "cut_before_answer")

    def on_the_road(self, now: int) -> dict[str, Any]:
        """The vehicle as the RSU emulator wants it; an entry lies half an hour back."""
        spec: dict[str, Any] = {
            "id": self.id,
            "device_type": self.device_type,
            "plate": self.plate_text,
            "plate_colour": self.colour,
            "vehicle_class": self.vehicle_class,
            "obu": {"id": self.obu_id, "serial": self.obu_serial, **self.obu},
        }
        if self.card_type is not None:
            spec["card"] = {
                "type": self.card_type,
                "inner_number": self.inner_number,
                "balance_fen": self.balance_fen,
                **self.card,
            }
        if self.entry is not None and self.enters_at is None:
            spec["station"] = {
                "network": self.entry[:4],
                "station": self.entry[4:],
                "lane": 1,
                "unix_seconds": now - self.entry_age_s,
                "status": 3,
            }
        return spec


PAID = ("paid", "go", None)
UNKNOWN = ("unknown", "stop", "purchase_unknown")
STOOD_IN = ("owed", "go", "bank_silent")


def _refused(reason: str, release: str = "stop") -> Expected:
    return Expected((("refused", release, reason),))


def _purse(*decisions: tuple[str, str, str | None]) -> Expected:
    return Expected(decisions or (PAID,), charged=True, ends="funded")


def _bank(*decisions: tuple[str, str, str | None], ends: str = "funded") -> Expected:
    return Expected(decisions or (PAID,), charged=True, ends=ends)


CLEARED = Expected((PAID,), charged=True, ends="released")
ONLINE, CLEARING = "bank_online", "issuer_clearing"
BEGAN = ("entered", "go", None)
ENTERED = Expected((BEGAN,))
FROM = "99010103"
"""The station of the entry lane."""

VEHICLES: tuple[Vehicle, ...] = (
    Vehicle(1, "stored-value card", "lane-1", _purse()),
    Vehicle(2, "stored-value card, from the first entry", "lane-2", _purse(), entry="99010101"),
    Vehicle(3, "stored-value card in a truck", "lane-1", _purse(), vehicle_class=11, colour=YELLOW),
    Vehicle(4, "charge card, bank asked", "lane-1", _bank(), card_type=23, funding=ONLINE),
    Vehicle(5, "charge card, bank asked, odd fare", "lane-2", _bank(), card_type=23, funding=ONLINE, entry="99010103"),
    Vehicle(6, "charge card, bank asked, half a fen", "lane-1", _bank(), card_type=23, funding=ONLINE, vehicle_class=3),
    Vehicle(7, "charge card, issuer clears", "lane-1", CLEARED, card_type=23, funding=CLEARING),
    Vehicle(
        8,
        "charge card, issuer clears, coach",
        "lane-2",
        CLEARED,
        card_type=23,
        funding=CLEARING,
        vehicle_class=2,
        entry="99010101",
    ),
    Vehicle(9, "tag taken off the windscreen", "lane-1", _refused("obu_tampered"), obu={"tampered": True}),
    Vehicle(10, "no card in the tag", "lane-2", _refused("obu_no_card"), card_type=None, obu={"no_card": True}),
    Vehicle(11, "one-piece tag", "lane-1", _refused("one_piece_refused"), device_type=2, card_type=None),
    Vehicle(
        12,
        "CPC card",
        "lane-2",
        _refused("cpc_to_attendant", "attendant"),
        device_type=3,
        card_type=None,
        entry="99010101",
    ),
    Vehicle(
        13,
        "card expired",
        "lane-2",
        _refused("card_expired"),
        entry="99010101",
        card={"starts": "20150101", "expires": "20250101"},
    ),
    Vehicle(14, "purse too low", "lane-1", _refused("purse_too_low"), balance_fen=1424),
    Vehicle(15, "purse just enough", "lane-1", _purse(), balance_fen=1425),
    Vehicle(16, "card of another vehicle", "lane-1", _refused("plate_mismatch"), card={"plate": "测A99999"}),
    Vehicle(
        17, "card on the status list", "lane-2", _refused("card_listed_in_debt"), entry="99010101", listed=("card", 4)
    ),
    Vehicle(18, "tag on the status list", "lane-1", _refused("obu_listed"), listed=("obu", 1)),
    Vehicle(19, "charge card without mandate", "lane-2", _refused("no_mandate"), card_type=23, entry="99010101"),
    Vehicle(
        20,
        "mandate paused",
        "lane-1",
        _refused("mandate_paused"),
        card_type=23,
        funding=ONLINE,
        mandate_status="paused",
    ),
    Vehicle(
        21,
        "bank declines",
        "lane-1",
        _bank(("debt", "go", "bank_declined"), ends="debt"),
        card_type=23,
        funding=ONLINE,
        bank={"mode": "decline", "code": "51"},
    ),
    Vehicle(
        22,
        "bank silent, it has booked",
        "lane-2",
        _bank(STOOD_IN),
        card_type=23,
        funding=ONLINE,
        entry="99010103",
        bank={"mode": "silent_but_posted", "next": 1},
    ),
    Vehicle(
        23,
        "bank silent, it never heard us",
        "lane-1",
        _bank(STOOD_IN),
        card_type=23,
        funding=ONLINE,
        bank={"mode": "silent_not_posted", "next": 1},
    ),
    Vehicle(
        25,
        "bank cuts the line after booking",
        "lane-1",
        _bank(STOOD_IN),
        card_type=23,
        funding=ONLINE,
        bank={"mode": "cut_before_answer", "next": 1},
    ),
    Vehicle(
        26,
        "bank silent, stand-in limit too low",
        "lane-2",
        _bank(("owed", "attendant", "stand_in_limit")),
        card_type=23,
        funding=ONLINE,
        vehicle_class=12,
        colour=YELLOW,
        entry="99010101",
        stand_in_limit_fen=5000,
        bank={"mode": "silent_but_posted", "next": 1},
    ),
    Vehicle(27, "purchase answer lost on the air", "lane-1", _purse(UNKNOWN, PAID), fault="lose_answer"),
    Vehicle(
        28,
        "purchase answer lost, bank asked after proof",
        "lane-2",
        _bank(UNKNOWN, PAID),
        card_type=23,
        funding=ONLINE,
        entry="99010103",
        fault="lose_answer",
    ),
    Vehicle(29, "result frame never sent", "lane-1", _purse(UNKNOWN, PAID), fault="drop_result"),
    Vehicle(
        30,
        "same vehicle seen twice",
        "lane-2",
        _purse(PAID, ("repeat", "go", "already_charged")),
        entry="99010101",
        seen_again=True,
    ),
    Vehicle(31, "a plate in blue", "lane-1", _bank(), plate="测B00031", card_type=23, funding=ONLINE),
    Vehicle(
        32,
        "the same plate in gradient green, its own account",
        "lane-1",
        _bank(),
        plate="测B00031",
        colour=GRADIENT_GREEN,
        card_type=23,
        funding=ONLINE,
    ),
    Vehicle(
        33,
        "mandate for the same plate in another colour",
        "lane-2",
        _refused("mandate_plate_mismatch"),
        plate="测B00033",
        colour=YELLOW,
        mandate_colour=BLUE,
        card_type=23,
        funding=ONLINE,
        entry="99010103",
        vehicle_class=11,
    ),
    Vehicle(34, "no entry on the card", "lane-2", _refused("no_entry", "attendant")),
    Vehicle(
        35,
        "truck with a charge card, issuer clears",
        "lane-2",
        CLEARED,
        card_type=23,
        funding=CLEARING,
        vehicle_class=11,
        colour=YELLOW,
        entry="99010103",
    ),
    Vehicle(
        24,
        "approval comes after the reversal",
        "lane-2",
        _bank(STOOD_IN),
        card_type=23,
        funding=ONLINE,
        entry="99010101",
        bank={"mode": LATE, "next": 1},
    ),
    Vehicle(37, "trip begins, stored-value card", "lane-3", ENTERED),
    Vehicle(38, "trip begins, charge card of nobody's mandate", "lane-3", ENTERED, card_type=23),
    Vehicle(39, "entry with a tag taken off", "lane-3", _refused("obu_tampered"), obu={"tampered": True}),
    Vehicle(
        40,
        "entry with an expired card",
        "lane-3",
        _refused("card_expired"),
        card={"starts": "20150101", "expires": "20250101"},
    ),
    Vehicle(41, "whole trip, stored-value card", "lane-4", _purse(BEGAN, PAID), entry=FROM, enters_at="lane-3"),
    Vehicle(
        42,
        "whole trip, charge card, bank asked",
        "lane-4",
        _bank(BEGAN, PAID),
        card_type=23,
        funding=ONLINE,
        entry=FROM,
        enters_at="lane-3",
    ),
    Vehicle(
        43,
        "whole trip, truck, issuer clears",
        "lane-4",
        Expected((BEGAN, PAID), charged=True, ends="released"),
        card_type=23,
        funding=CLEARING,
        vehicle_class=12,
        colour=YELLOW,
        entry=FROM,
        enters_at="lane-3",
    ),
    Vehicle(
        44,
        "whole trip, purchase answer lost at its end",
        "lane-4",
        _purse(BEGAN, ("unknown", "stop", "rsu_error_unlisted"), PAID),
        entry=FROM,
        enters_at="lane-3",
        fault="lose_answer",
    ),
    Vehicle(
        45,
        "line noise in front of and inside frames",
        "lane-4",
        Expected((PAID,), charged=True, ends="funded", through_doubt=True),
        entry=FROM,
        trouble="noise",
    ),
    Vehicle(
        46,
        "noise while the bank is asked",
        "lane-4",
        Expected((PAID,), charged=True, ends="funded", through_doubt=True),
        card_type=23,
        funding=ONLINE,
        entry=FROM,
        vehicle_class=2,
        trouble="noise",
    ),
    Vehicle(
        47,
        "serial port vanishes in the middle",
        "lane-4",
        Expected((PAID,), charged=True, ends="funded", through_doubt=True),
        entry=FROM,
        trouble="unplug",
    ),
    Vehicle(48, "missing entry", "lane-4", _refused("no_entry", "attendant")),
    Vehicle(
        49,
        "entry in the future",
        "lane-4",
        _refused("entry_time_invalid", "attendant"),
        entry=FROM,
        entry_age_s=-86_400,
    ),
    Vehicle(50, "U-turn: entry is this exit", "lane-4", _refused("u_turn", "attendant"), entry="99010206"),
    Vehicle(36, "tag expired", "lane-1", _refused("obu_expired"), obu={"issued": "20150101", "expires": "20250101"}),
)
"""Vehicles of the scenario; order within a lane is the order of the road."""


ROUND = 100
"""Distance between the numbers of a vehicle and of its like in the next round."""


def vehicles_of(number: int) -> tuple[Vehicle, ...]:
    """Vehicles of a round, the scenario's own in round 0: the same stories with cards, tags and plates of their own."""

    def moved(vehicle: Vehicle) -> Vehicle:
        plate = vehicle.plate and f"{vehicle.plate[:2]}{int(vehicle.plate[2:]) + number * ROUND:05d}"
        return replace(vehicle, number=vehicle.number + number * ROUND, plate=plate)

    return tuple(map(moved, VEHICLES))


def mandate_lines(vehicles: Sequence[Vehicle] = VEHICLES) -> list[str]:
    """Lines of the CSV that `etcgw mandates import` takes."""
    lines = [
        "mandate_id,status,funding,channel,contract_ref,limit_fen,stand_in_limit_fen,card_number,contract,plate,"
        "plate_colour,fuel_sale_litres"
    ]
    for v in vehicles:
        if v.funding is None:
            continue
        online = v.funding == ONLINE
        colour = v.colour if v.mandate_colour is None else v.mandate_colour
        lines.append(
            ",".join(
                (
                    v.mandate_id,
                    v.mandate_status,
                    v.funding,
                    "bank-a" if online else "",
                    v.contract_ref if online else "",
                    "100000",
                    str(v.stand_in_limit_fen),
                    v.card_number,
                    "",
                    v.plate_text,
                    str(colour),
                    v.fuel_sale_litres,
                )
            )
        )
    return lines


def list_lines(vehicles: Sequence[Vehicle] = VEHICLES) -> list[str]:
    """Lines of the CSV that `etcgw lists build` takes: the listed vehicles among entries nobody here drives."""
    lines = ["kind,key,list_type,sign"]
    lines += [f"card,9901{n:016d},{n % 7 + 1},1" for n in range(2_000)]
    for v in vehicles:
        if v.listed is not None:
            kind, list_type = v.listed
            key = v.card_number if kind == "card" else f"B2E2CAD499010001{v.obu_serial}"
            lines.append(f"{kind},{key},{list_type},1")
    return lines
