"""The emulated forecourt: cars at an island fill up, and every litre and fen is compared with the pumps and the bank.

The gateway is the real program; antenna, pumps, pump controllers and bank are programs of their own. The pumps keep a
book of what their meters counted, the bank one of what it was told to debit: both are the world outside.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from gateway.model.money import format_fen
from hardware.bench.controllers import Controller
from hardware.bench.ledger_view import LedgerView
from hardware.bench.processes import PATIENT_MS, SITES, EmulatedSite, LanePlan, Program, ProgramFailed
from hardware.bench.reckoning import Line
from hardware.bench.scenario import CLEARING, ONLINE, Expected, Vehicle, list_lines, mandate_lines
from hardware.bench.waiting import STUCK_S, wait_until
from hardware.emulators.control import ControlClient

ISLAND: Final = "island-1"
ANTENNA: Final = (LanePlan(ISLAND, 0),)
PUMPS: Final[Mapping[str, tuple[str, ...]]] = {
    "dart": ("--dialect", "dart", "--sides", "80,81", "--prices", "7850,8320", "--flow-ml-s", "0"),
    "two-wire": ("--dialect", "two-wire", "--sides", "1", "--prices", "7420", "--flow-ml-s", "0"),
}
"""Arguments of each line of pumps."""

CONTROLLERS: Final[Mapping[str, tuple[str, ...]]] = {
    "pts": ("--pts-id", "003A003A3435510938393730"),
    "pts-calls": ("--pts-id", "003A003A3435510938393731", "--dial", "websocket"),
}
"""Arguments of each pump controller. The first is called by the gateway, the second calls it."""

LOGIN: Final = "admin:admin"
"""Login at the first controller, as it comes from its maker."""

SIDES: Final[Mapping[int, tuple[str, int]]] = {
    1: ("dart", 80),
    2: ("dart", 81),
    3: ("two-wire", 1),
    4: ("pts", 1),
    5: ("pts-calls", 1),
}
"""Side -> its line or controller, and its number there."""

LITRES_S: Final = 12_000
"""Flow of a hurried bench, ml/s."""

FORGOTTEN_S: Final = 2.5
"""Seconds until a car that left is nobody's witness any more, by the site file: the next one is alone."""

NONE = Expected(())


@dataclass(frozen=True, slots=True)
class Filling:
    """One car, what its driver does, and what must come of it."""

    vehicle: Vehicle
    side: int
    sale: str | None
    """State in which its sale ends; None: there is none."""
    debit: str | None = None
    """State in which its debit ends; None: there is none."""
    ml: int = 10_000
    """Volume after which the driver lets go; 0: the nozzle goes back at once."""
    nozzle: int = 1
    reason: str | None = None
    """Reason of the decision that turns the car away, or of the sale."""
    bank: Mapping[str, Any] | None = None
    """Behaviour of the bank instead of approving."""
    event: str | None = None
    """Trouble: `power` goes while fuel flows, `kill` of the gateway, `wrong` amount, `second` car at the island, a sale
    `by_hand` at the pump, of which nobody of ours knows."""


def _car(number: int, story: str, *, funding: str | None = ONLINE, card_type: int = 23) -> Vehicle:
    return Vehicle(number, story, ISLAND, NONE, card_type=card_type, funding=funding, stand_in_limit_fen=50_000)


DECLINES: Final = {"mode": "decline", "code": "51"}
SILENT: Final = {"mode": "silent_not_posted", "next": 1}

FILLINGS: Final[tuple[Filling, ...]] = (
    Filling(_car(1, "bank asked when the nozzle is back"), 1, "billed", "funded"),
    Filling(_car(2, "issuer clears", funding=CLEARING), 2, "billed", "released", nozzle=2),
    Filling(_car(3, "two-wire pump"), 3, "billed", "funded"),
    Filling(_car(4, "limit reached, the pump stops"), 1, "billed", "funded", ml=60_000),
    Filling(_car(5, "nozzle hung up with nothing"), 2, "nothing", "voided", ml=0, reason="nothing_delivered"),
    Filling(_car(6, "bank declines"), 1, "billed", "debt", bank=DECLINES),
    Filling(_car(7, "bank silent"), 2, "billed", "funded", bank=SILENT),
    Filling(_car(8, "stored-value card pays at the end", funding=None, card_type=22), 1, "billed", "funded"),
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


@dataclass(slots=True)
class Result:
    """Result of one filling."""

    filling: Filling
    sale: str | None = None
    debit: str | None = None
    volume_ml: int | None = None
    amount_fen: int | None = None
    reason: str | None = None
    problems: list[str] = field(default_factory=list)


class Forecourt(EmulatedSite):
    """Antenna, pumps, bank and gateway of one island."""

    def __init__(self, folder: Path, **settings: Any) -> None:  # noqa: ANN401 - those of the site
        text = (SITES / "forecourt" / "site.toml").read_text()
        super().__init__(folder, plan=ANTENNA, site_text=text, deadline_ms=PATIENT_MS, **settings)
        self.pumps: dict[str, ControlClient | Controller] = {}
        """Controls of each line and controller."""
        self.addresses["http"] = f"127.0.0.1:{free_port()}"

    async def _start_roadside(self) -> None:
        for name, arguments in PUMPS.items():
            await self._start(name, "pump", *arguments)
            self.pumps[name] = self.controls[name]
        for name, arguments in CONTROLLERS.items():
            await self._start_controller(name, arguments)
        await self._start_antenna(1, ANTENNA[0])

    async def _start_controller(self, name: str, arguments: Sequence[str]) -> None:
        ports = ("--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--server", f"http://{self.addresses['http']}")
        flow = ("--pumps", "1", "--rate-ml-s", "0")
        program = Program(name, ["-m", "hardware.emulators.pts", *ports, *flow, *arguments], self.folder)
        self.addresses[name] = await self._ready(program)
        self.pumps[name] = Controller(self.controls[name])

    def write_site_file(self) -> None:
        """Write the site file, and the login that it names."""
        super().write_site_file()
        login = self.folder / "pts.login"
        login.touch(0o600)
        login.write_text(f"{LOGIN}\n")

    async def pump(self, side: int, command: str, **values: Any) -> Mapping[str, Any]:  # noqa: ANN401 - JSON values
        """Command to the pump of a side."""
        line, number = SIDES[side]
        return await self.pumps[line].request(command, side=number, **values)

    async def at(self, side: int) -> Mapping[str, Any]:
        """Side as its pump has it."""
        line, number = SIDES[side]
        sides: list[Mapping[str, Any]] = (await self.pumps[line].request("state"))["sides"]
        return next(one for one in sides if one["side"] == number)

    async def idle(self, side: int) -> None:
        """Wait until the display is cleared, where the pump knows such an order: the next car finds it so."""
        if SIDES[side][0] != "two-wire":
            await self.pump(side, "wait", state="idle")


def free_port() -> int:
    """Port that nobody has now. The gateway's own address must be known to whom shall call it before it runs."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Drive:
    """Drives the fillings one after the other, and compares."""

    def __init__(self, site: Forecourt, fillings: Sequence[Filling] = FILLINGS) -> None:
        self._site = site
        self._fillings = fillings
        self._view = LedgerView(site.ledger)
        self.results: list[Result] = []
        self.lines: list[Line] = []
        self.faults: list[str] = []

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
        await self._works()
        for filling in self._fillings:
            self.results.append(await self._fill(filling))
        await self._until(lambda: self._view.waiting() == 0, "the outbox is not empty")
        await self._judge()
        await self._compare()
        status = await self._site.gateway.stop()
        if status:
            self.faults.append(f"the gateway ended with status {status}")
        try:
            await self._site.command("ledger", "verify")
        except ProgramFailed as error:
            self.faults.append(str(error))

    # --- one car --------------------------------------------------------------------------------------------------

    async def _fill(self, filling: Filling) -> Result:
        site, vehicle = self._site, filling.vehicle
        road, result = site.controls[ISLAND], Result(filling)
        if filling.bank is not None:
            await site.controls["bank"].request("behave", contract=vehicle.contract_ref, mti="0200", **filling.bank)
        cars = [vehicle, SECOND] if filling.event == "second" else [vehicle]
        before = self._count("sale"), self._count("decision")
        if filling.event == "by_hand":
            await self._pump(filling, "by_hand", nozzle=filling.nozzle, volume_ml=filling.ml)
            await self._until(lambda: self._count("sale") > before[0], f"nobody found what side {filling.side} sold")
            return result
        for car in cars:
            await road.request("arrive", vehicle=car.on_the_road(int(time.time())))
        if filling.sale is None:
            if filling.event == "second":
                for car in cars:  # both are known before the nozzle is lifted
                    await road.request("wait", id=car.id, event="stopped", count=1)
                await self._pump(filling, "lift", nozzle=filling.nozzle)
            await self._until(lambda: self._count("decision") > before[1], f"{vehicle.id} was not turned away")
            if filling.event == "second":
                await self._pump(filling, "return")
        else:
            await self._pump(filling, "lift", nozzle=filling.nozzle)
            await self._deliver(filling)
            ended = ("billed", "nothing", "grey")
            await self._until(
                lambda: self._count("sale") > before[0] and self._newest_sale() in ended,
                f"the sale of {vehicle.id} did not end",
            )
        for car in cars:
            await road.request("leave", id=car.id)
        if filling.event == "second":
            await asyncio.sleep(FORGOTTEN_S)
        await site.idle(filling.side)
        return result

    async def _deliver(self, filling: Filling) -> None:
        """Do what the driver does at an authorised pump."""
        await self._pump(filling, "wait", state="authorised")
        if filling.event == "wrong":
            await self._pump(filling, "wrong_amount", by=7)
        if filling.ml:
            await self._pump(filling, "flow", ml_per_s=LITRES_S)
            if filling.event == "power":
                await self._delivered(filling, filling.ml // 2)
                await self._pump(filling, "power", on=False)
                await self._until(lambda: not self._site.part_works(self._part(filling)), "the pump is still heard")
                await self._pump(filling, "flow", ml_per_s=0)
                await self._pump(filling, "return")
                await self._pump(filling, "power", on=True)
                return
            if filling.event == "kill":
                await self._delivered(filling, filling.ml // 2)
                await self._site.gateway.kill()
            await self._delivered(filling, filling.ml)
        await self._pump(filling, "return")
        if filling.event == "kill":
            await self._site.gateway.start()

    async def _delivered(self, filling: Filling, ml: int) -> None:
        """Wait until so much has flowed, or the preset has stopped it."""

        async def enough() -> bool:
            side = await self._site.at(filling.side)
            return bool(side["volume_ml"] >= ml or side["state"] == "limit_reached")

        await self._until_true(enough, f"{ml} ml did not flow at side {filling.side}")
        if ml == filling.ml:
            await self._pump(filling, "flow", ml_per_s=0)

    async def _pump(self, filling: Filling, command: str, **values: Any) -> None:  # noqa: ANN401 - JSON values
        await self._site.pump(filling.side, command, **values)

    @staticmethod
    def _part(filling: Filling) -> str:
        return f"{ISLAND}/pump-{filling.side}"

    # --- judging --------------------------------------------------------------------------------------------------

    async def _judge(self) -> None:
        """Compare what became of each car with what should have."""
        sales = json.loads(await self._site.command("sales", "--json", "--unmask", "--last", "1000"))["sales"]
        passages = json.loads(await self._site.command("passages", "--json", "--last", "1000"))["passages"]
        unclear = [one["reason"]["code"] for one in passages if one["reason"] and not one["plate"]]
        for result in self.results:
            filling = result.filling
            mine = [sale for sale in sales if _is_of(sale, filling)]
            if len(mine) > 1:
                result.problems.append(f"{len(mine)} sales")
            for sale in mine[:1]:
                result.sale, result.debit = sale["state"], sale["debit_state"]
                result.volume_ml, result.amount_fen, result.reason = (
                    sale["volume_ml"],
                    sale["amount_fen"],
                    sale["reason"],
                )
            if not mine and filling.event == "second":
                # A report that the air lost is told beside it.
                result.reason = next((reason for reason in unclear if reason == filling.reason), None)
            elif not mine:
                shown = await self._site.command("passages", "--json", "--unmask", "--last", "1000")
                reasons = {one["plate"]: one["reason"] for one in json.loads(shown)["passages"]}
                reason = reasons.get(filling.vehicle.plate_text)
                result.reason = None if reason is None else reason["code"]
            found, wanted = (result.sale, result.debit, result.reason), (filling.sale, filling.debit, filling.reason)
            if found != wanted:
                result.problems.append(f"found {found}, expected {wanted}")

    async def _compare(self) -> None:
        """Compare litres and fen with the pumps' own book, and the bank's money with its own."""
        metered: list[Mapping[str, Any]] = []
        for name, pumps in self._site.pumps.items():
            metered += (await pumps.request("book"))["sales"]
            if "websocket" in CONTROLLERS.get(name, ()) and (await pumps.request("state"))["uploads_waiting"]:
                self.faults.append(f"{name} has sales that nobody has confirmed")
        ours = self._view.rows("select coalesce(sum(volume), 0), coalesce(sum(amount), 0) from sale")[0]
        grey = sum(result.filling.event == "wrong" for result in self.results)
        good = [sale for sale in metered if sale["shown_amount_minor"] == sale["amount_minor"]]
        if len(metered) - len(good) != grey:
            self.faults.append(f"{len(metered) - len(good)} wrong amounts were shown, {grey} wanted")
        litres, amounts = (sum(sale[name] for sale in good) for name in ("volume_ml", "amount_minor"))
        self.lines.append(Line("millilitres", int(ours[0]), litres, "meters of the pumps"))
        self.lines.append(Line("amounts", int(ours[1]), amounts, "meters of the pumps"))
        book = await self._site.controls["bank"].request("book")
        cards = (await self._site.controls[ISLAND].request("cards"))["cards"]
        purses = sum(card["balance_start"] - card["balance"] for card in cards)
        for kind, outside, source in (
            ("bank", int(book["totals"]["net_fen"]), "the bank's own book"),
            ("issuer", purses, "decrements of the emulated purses"),
        ):
            ours_fen = -sum(balance for (of, _), balance in self._view.balances().items() if of == kind)
            self.lines.append(Line(kind, ours_fen, outside, source))

    def _count(self, table: str) -> int:
        return int(str(self._view.value(f"select count(*) from {table}")))  # noqa: S608 - ours

    def _newest_sale(self) -> str:
        return str(self._view.value("select state from sale order by created_at desc, id desc limit 1"))

    async def _works(self) -> None:
        since_us = time.time_ns() // 1000
        await self._until(lambda: self._site.works(since_us), "not every part of the site came up")

    async def _until(self, holds: Callable[[], bool], problem: str) -> None:
        if not await wait_until(holds):
            self.faults.append(f"{problem} (waited {STUCK_S:.0f} s)")

    async def _until_true(self, holds: Callable[[], Awaitable[bool]], problem: str) -> None:
        end = time.monotonic() + STUCK_S
        while not await holds():
            if time.monotonic() > end:
                self.faults.append(problem)
                return


def _is_of(sale: Mapping[str, Any], filling: Filling) -> bool:
    """True for the sale of a filling: of its car, or at its side, where nobody knows who it was."""
    if filling.event == "by_hand":
        return sale["debit_id"] is None and sale["side"] == filling.side
    return bool(sale["plate"] == filling.vehicle.plate_text)


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


def _told(result: Result) -> str:
    filling, litres = result.filling, result.volume_ml or 0
    yuan = format_fen(result.amount_fen or 0)
    ended = "/".join(part for part in (result.sale, result.debit, result.reason) if part)
    story = f"side {filling.side}  {filling.vehicle.story}: {litres / 1000:.2f} L, {yuan} yuan, {ended}"
    return f"WRONG {story}: {'; '.join(result.problems)}" if result.problems else f"ok    {story}"
