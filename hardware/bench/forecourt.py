"""The emulated forecourt: cars at an island fill up, and every litre and fen is compared with the pumps and the bank.

The gateway is the real program; antenna, pumps, pump controllers and bank are programs of their own. The pumps keep a
book of what their meters counted, the bank one of what it was told to debit: both are the world outside.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from gateway.model.money import format_fen
from hardware.bench.fillings import DECLINES, PURSE, SILENT, Filled, Filler, Filling, car
from hardware.bench.ledger_view import LedgerView
from hardware.bench.processes import PATIENT_MS, SITES, ProgramFailed
from hardware.bench.pump_site import Place, Pumps, PumpSite
from hardware.bench.reckoning import Line
from hardware.bench.scenario import CLEARING, ONLINE, Vehicle, list_lines, mandate_lines
from hardware.bench.waiting import STUCK_S, wait_until

ISLAND: Final = "island-1"
SIDES: Final[Mapping[int, Place]] = {
    1: Place("dart", 80),
    2: Place("dart", 81),
    3: Place("two-wire", 1),
    4: Place("pts", 1),
    5: Place("pts-calls", 1),
}
PUMPS: Final = Pumps(
    islands=(ISLAND,),
    lines={
        "dart": ("--dialect", "dart", "--sides", "80,81", "--prices", "7850,8320", "--flow-ml-s", "0"),
        "two-wire": ("--dialect", "two-wire", "--sides", "1", "--prices", "7420", "--flow-ml-s", "0"),
    },
    controllers={
        "pts": ("--pts-id", "003A003A3435510938393730"),
        "pts-calls": ("--pts-id", "003A003A3435510938393731", "--dial", "websocket"),
    },
    sides=SIDES,
)
"""The first controller is called by the gateway, the second calls it."""

PRICES: Final = {1: (7850, 8320), 2: (7850, 8320), 3: (7420,), 4: (7850, 7850), 5: (7850, 7850)}
"""Thousandths of a yuan a litre of each nozzle of a side, as the pumps are set to."""


def _car(number: int, story: str, *, funding: str | None = ONLINE, card_type: int = 23) -> Vehicle:
    return car(number, story, ISLAND, funding=funding, card_type=card_type)


FILLINGS: Final[tuple[Filling, ...]] = (
    Filling(_car(1, "bank asked when the nozzle is back"), 1, "billed", "funded"),
    Filling(_car(2, "issuer clears", funding=CLEARING), 2, "billed", "released", nozzle=2),
    Filling(_car(3, "two-wire pump"), 3, "billed", "funded"),
    Filling(_car(4, "limit reached, the pump stops"), 1, "billed", "funded", ml=60_000),
    Filling(_car(5, "nozzle hung up with nothing"), 2, "nothing", "voided", ml=0, reason="nothing_delivered"),
    Filling(_car(6, "bank declines"), 1, "billed", "debt", reason="bank_declined", bank=DECLINES),
    Filling(_car(7, "bank silent"), 2, "billed", "funded", reason="bank_silent", bank=SILENT),
    Filling(_car(8, "stored-value card", funding=None, card_type=PURSE), 1, "billed", "funded"),
    Filling(
        _car(21, "stored-value card, gone when the nozzle is back", funding=None, card_type=PURSE),
        1,
        "billed",
        "debt",
        reason="purse_card_left",
        event="left",
    ),
    Filling(_car(9, "no mandate", funding=None), 2, None, reason="no_mandate"),
    Filling(_car(10, "two cars at the island"), 1, None, reason="pump_vehicle_unclear", event="second"),
    Filling(_car(12, "power of the pump goes while fuel flows"), 2, "billed", "funded", event="power"),
    Filling(_car(13, "gateway killed while fuel flows"), 1, "billed", "funded", event="kill"),
    Filling(_car(14, "amount of the pump is wrong"), 2, "grey", "held", reason="pump_amount_differs", event="wrong"),
    Filling(_car(15, "controller that is called"), 4, "billed", "funded"),
    Filling(
        _car(16, "the same, nozzle hung up with nothing"), 4, "nothing", "voided", ml=0, reason="nothing_delivered"
    ),
    Filling(_car(17, "the same, sold by hand"), 4, "billed", reason="fuel_unexplained", event="by_hand"),
    Filling(_car(18, "the same, gateway killed while fuel flows"), 4, "billed", "funded", event="kill"),
    Filling(_car(19, "controller that calls"), 5, "billed", "funded"),
    Filling(_car(20, "the same, sold by hand"), 5, "billed", reason="fuel_unexplained", event="by_hand"),
)
SECOND: Final = _car(11, "the other car")


class Forecourt(PumpSite):
    """Antenna, pumps, bank and gateway of one island."""

    def __init__(self, folder: Path, **settings: Any) -> None:  # noqa: ANN401 - those of the site
        text = (SITES / "forecourt" / "site.toml").read_text()
        super().__init__(folder, PUMPS, plan=(), site_text=text, deadline_ms=PATIENT_MS, **settings)

    async def _start_roadside(self) -> None:
        await self.start_islands()


class Drive:
    """Drives the fillings one after the other, and compares."""

    def __init__(self, site: Forecourt, fillings: Sequence[Filling] = FILLINGS) -> None:
        self._site = site
        self._fillings = fillings
        self._view = LedgerView(site.ledger)
        self.faults: list[str] = []
        self._filler = Filler(site, self._view, self.faults, second=SECOND)
        self.results: list[Filled] = []
        self.lines: list[Line] = []

    @property
    def good(self) -> bool:
        """True when everything came as expected, and every account agrees."""
        right = all(not result.problems for result in self.results)
        return right and not self.faults and bool(self.lines) and all(line.agrees for line in self.lines)

    async def prepare(self) -> None:
        """Make the site, mandates, lists and bank accounts; start the gateway."""
        site, vehicles = self._site, [*(filling.vehicle for filling in self._fillings), SECOND]
        site.write_site_file()
        await site.command("ledger", "create", "--reason", "bench")
        (site.folder / "mandates.csv").write_text("\n".join(mandate_lines(vehicles)) + "\n")
        (site.folder / "lists.csv").write_text("\n".join(list_lines(vehicles)) + "\n")
        version = datetime.now(UTC).strftime("%Y%m%d%H%M%S")
        await site.command("lists", "build", str(site.folder / "lists.csv"), "--version", version)
        await site.command("mandates", "import", str(site.folder / "mandates.csv"))
        for vehicle in vehicles:
            if vehicle.funding == ONLINE:
                await site.controls["bank"].request("account", contract=vehicle.contract_ref, balance_fen=1_000_000)
        await site.command("check-config")
        await site.gateway.start()

    async def run(self) -> None:
        """Drive everything, then compare."""
        since_us = time.time_ns() // 1000
        await self._until(lambda: self._site.works(since_us), "not every part of the site came up")
        await self._filler.begin()
        for filling in self._fillings:
            await self._filler.fill(filling)
        await self._until(lambda: self._view.waiting() == 0, "the outbox is not empty")
        self.results, self.lines = await self._filler.judge(self._fillings, PRICES)
        await self._compare()
        status = await self._site.gateway.stop()
        if status:
            self.faults.append(f"the gateway ended with status {status}")
        try:
            await self._site.command("ledger", "verify")
        except ProgramFailed as error:
            self.faults.append(str(error))

    async def _compare(self) -> None:
        """Compare what was charged with the bank's own book and with the cards, and look what nobody has confirmed."""
        for name, arguments in PUMPS.controllers.items():
            if "websocket" in arguments and (await self._site.pumps[name].request("state"))["uploads_waiting"]:
                self.faults.append(f"{name} has sales that nobody has confirmed")
        book = await self._site.controls["bank"].request("book")
        cards = await self._filler.cards()
        purses = sum(one["balance_start"] - one["balance"] for one in cards if one["type"] == PURSE)
        self.lines.append(Line("bank", -self._balance("bank"), int(book["totals"]["net_fen"]), "the bank's own book"))
        self.lines.append(Line("issuer", -self._balance("issuer"), purses, "decrements of the emulated purses"))

    def _balance(self, kind: str) -> int:
        return sum(balance for (of, _), balance in self._view.balances().items() if of == kind)

    async def _until(self, holds: Callable[[], bool], problem: str) -> None:
        if not await wait_until(holds):
            self.faults.append(f"{problem} (waited {STUCK_S:.0f} s)")


async def drive(folder: Path, tell: Callable[[str], None], fillings: Sequence[Filling] = FILLINGS) -> bool:
    """Drive the fillings at a forecourt of its own, telling one line for each and one for each comparison."""
    async with Forecourt(folder) as site:
        run = Drive(site, fillings)
        await run.prepare()
        await run.run()
    for result in run.results:
        tell(_told(result))
    for line in run.lines:
        tell(f"{'ok   ' if line.agrees else 'WRONG'} {line.name}: {line.ours}, {line.outside_source} {line.outside}")
    for fault in run.faults:
        tell(f"WRONG {fault}")
    return run.good


def _told(result: Filled) -> str:
    filling, litres = result.filling, result.volume_ml
    yuan = format_fen(result.amount_fen)
    ended = "/".join(part for part in (result.sale, result.debit, result.reason) if part)
    story = f"side {filling.side}  {filling.vehicle.story}: {litres / 1000:.2f} L, {yuan} yuan, {ended}"
    return f"WRONG {story}: {'; '.join(result.problems)}" if result.problems else f"ok    {story}"
