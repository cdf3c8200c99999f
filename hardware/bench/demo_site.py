"""The whole site of the demo: its toll lanes and a small fuel station, and the cars that fill up there.

One island has a pump with two sides and one antenna for both: two cars that come at once cannot be told apart there.
The others have one side each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from hardware.bench.fillings import DECLINES, PURSE, SILENT, Filling, car
from hardware.bench.processes import SITES
from hardware.bench.pump_site import Place, Pumps, PumpSite
from hardware.bench.scenario import CLEARING

PUMPS: Final = Pumps(
    islands=("island-1", "island-2", "island-3"),
    lines={
        "dart": ("--dialect", "dart", "--sides", "80,81", "--prices", "7850,8320", "--flow-ml-s", "0"),
        "two-wire": ("--dialect", "two-wire", "--sides", "1", "--prices", "7420", "--flow-ml-s", "0"),
    },
    controllers={"pts": ("--pts-id", "003A003A3435510938393730")},
    sides={1: Place("dart", 80), 2: Place("dart", 81), 3: Place("pts", 1), 4: Place("two-wire", 1)},
    serial=frozenset({"dart"}),
)
PRICES: Final[Mapping[int, tuple[int, ...]]] = {1: (7850, 8320), 2: (7850, 8320), 3: (7850, 7850), 4: (7420,)}
"""Thousandths of a yuan a litre of each nozzle of a side."""

ONE, TWO, THREE = PUMPS.islands

FILLINGS: Final[tuple[Filling, ...]] = (
    Filling(car(61, "fuel, bank asked", ONE), 1, "billed", "funded", ml=23_450),
    Filling(
        replace(car(62, "fuel, fleet limit of 20 litres", ONE), fuel_sale_litres="20"),
        1,
        "billed",
        "funded",
        ml=60_000,
        stops_ml=20_000,
    ),
    Filling(
        car(63, "fuel, price changed at the authorised pump", ONE),
        1,
        "billed",
        "funded",
        nozzle=2,
        event="priced",
        price_milli=8190,
    ),
    Filling(car(64, "fuel, stored-value card", ONE, funding=None, card_type=PURSE), 1, "billed", "funded"),
    Filling(car(65, "fuel, two cars at one island", ONE), 1, None, reason="pump_vehicle_unclear", event="second"),
    Filling(car(67, "fuel, issuer clears", ONE, funding=CLEARING), 2, "billed", "released", nozzle=2),
    Filling(
        car(68, "fuel, bank silent when the nozzle is back", ONE),
        2,
        "billed",
        "funded",
        reason="bank_silent",
        bank=SILENT,
    ),
    Filling(car(69, "fuel, power of the pump goes while it flows", ONE), 2, "billed", "funded", event="power"),
    Filling(car(70, "fuel, bank asked at the other side", ONE), 2, "billed", "funded"),
    Filling(car(71, "fuel, pump controller", TWO), 3, "billed", "funded", ml=31_200),
    Filling(
        car(72, "fuel, bank declines when the nozzle is back", TWO),
        3,
        "billed",
        "debt",
        reason="bank_declined",
        bank=DECLINES,
    ),
    Filling(
        car(73, "fuel, stored-value card at the controller", TWO, funding=None, card_type=PURSE),
        3,
        "billed",
        "funded",
    ),
    Filling(car(74, "fuel, nobody's mandate", TWO, funding=None), 3, None, reason="no_mandate"),
    Filling(car(75, "fuel, nozzle back with nothing", TWO), 3, "nothing", "voided", ml=0, reason="nothing_delivered"),
    Filling(car(76, "fuel, two-wire pump", THREE), 4, "billed", "funded"),
    Filling(
        car(77, "fuel, stored-value card gone when the nozzle is back", THREE, funding=None, card_type=PURSE),
        4,
        "billed",
        "debt",
        reason="purse_card_left",
        event="left",
    ),
    Filling(
        car(78, "fuel, no tag, cash by the attendant's order", THREE, funding=None), 4, "billed", "funded", event="cash"
    ),
    Filling(car(79, "fuel, two-wire pump, issuer clears", THREE, funding=CLEARING), 4, "billed", "released"),
)
"""Cars of the demo at the pumps; order at a side is the order in which they come."""

SECOND: Final = car(66, "the other car", ONE)


class DemoSite(PumpSite):
    """Toll lanes and fuel islands, all of one gateway."""

    def __init__(self, folder: Path, **settings: Any) -> None:  # noqa: ANN401 - those of the site
        text = "".join((SITES / "demo" / name).read_text() for name in ("site.toml", "islands.toml"))
        super().__init__(folder, PUMPS, site_text=text, **settings)

    async def _start_roadside(self) -> None:
        await super()._start_roadside()
        await self.start_islands()
