"""The real gateway and antennas that lie: over a real line they report purchases as made that nobody made."""

import asyncio
import json
import time

import pytest

from hardware.bench.demo import Demo
from hardware.bench.ledger_view import LedgerView
from hardware.bench.processes import EmulatedSite
from hardware.bench.scenario import PAID, Expected, Vehicle
from hardware.bench.waiting import LOOK_S, STUCK_S

pytestmark = pytest.mark.bench

FARE = 1425
CHARGED = Expected((PAID,), charged=True, ends="funded")

HONEST = Vehicle(501, "pays", "lane-1", CHARGED)
UNCHANGED = Vehicle(502, "success, and the purse as it was", "lane-1", CHARGED)
STOLEN = Vehicle(
    503, "another card's TAC and serials", "lane-1", CHARGED, card_type=23, balance_fen=-500, funding="bank_online"
)
WRONG = Vehicle(504, "pays, and a wrong balance is told", "lane-1", CHARGED)
SHOWN = Vehicle(505, "refuses, and its file is shown as written", "lane-1", CHARGED)
COPY = Vehicle(501, "a card whose counter stands as before", "lane-2", CHARGED, entry="99010101")
LATER = Vehicle(506, "pays after all that", "lane-1", CHARGED)

_ABOUT = (
    " from purchase u join debit d on d.id = u.debit_id join subject s on s.id = d.passage_id"
    " where s.obu_id = ? order by u.created_at desc, u.attempt_no desc limit 1"
)


class Site:
    """A running site with a few shorthands."""

    def __init__(self, site):
        self.site = site
        self.view = LedgerView(site.ledger)
        self.antenna = {lane: site.controls[lane] for lane in site.lanes}

    async def arrive(self, car):
        await self.antenna[car.lane].request("arrive", vehicle=car.on_the_road(int(time.time())))

    async def forge(self, car, what, **more):
        await self.antenna[car.lane].request("fault", id=car.id, what=what, **more)

    async def until(self, holds, what):
        end = time.monotonic() + STUCK_S
        while not holds():
            assert time.monotonic() < end, what
            await asyncio.sleep(LOOK_S)

    def newest(self, car):
        """Barrier and reason of the newest decision about the car at its lane."""
        about = [d for d in self.view.decisions() if (d.obu_id, d.charge_point) == (car.obu_id, car.lane)]
        return (about[-1].release, about[-1].reason) if about else None

    async def leave(self, car):
        antenna = self.antenna[car.lane]
        await antenna.request("leave", id=car.id)
        await antenna.request("wait", id=car.id, event="gone")

    async def passes(self, car, barrier, reason=None):
        """It drives up, is decided so, in the end, and drives off."""
        await self.arrive(car)
        await self.until(lambda: self.newest(car) == (barrier, reason), f"{car.story}: {barrier}, {reason}")
        await self.leave(car)

    def purchase(self, car, column):
        return self.view.value(f"select u.{column}" + _ABOUT, car.obu_id)

    async def cards(self, lane="lane-1"):
        found = (await self.antenna[lane].request("cards"))["cards"]
        return {card["id"]: card["decrements"] for card in found}

    async def settle(self, car, *, taken):
        """A person reads the card and says what is so."""
        told = [
            "debits",
            "resolve",
            str(self.purchase(car, "debit_id")),
            "--taken" if taken else "--not-taken",
            *("--reason", "the card was read"),
            "--json",
        ]
        return json.loads(await self.site.command(*told))["state"]


def test_purchases_that_antennas_only_claim_open_no_barrier(tmp_path):
    cars = [HONEST, UNCHANGED, STOLEN, WRONG, SHOWN, LATER]

    async def run():
        async with EmulatedSite(tmp_path) as site:
            await Demo(site, cars).prepare()
            s = Site(site)
            await s.until(site.works, "the site comes up")
            await lies(s)
            assert (await site.controls["board"].request("verdict"))["ok"]
            assert await site.gateway.stop() == 0
            await site.command("ledger", "verify")

    asyncio.run(run())


async def lies(s):
    await s.passes(HONEST, "go")
    real = {name: s.purchase(HONEST, name) for name in ("terminal", "psam_serial", "card_serial", "tac")}

    await s.forge(UNCHANGED, "forge_result", forgery={"balance_unchanged": True})
    await s.passes(UNCHANGED, "attendant", "purchase_balance_wrong")

    await s.forge(STOLEN, "forge_result", forgery=real)
    await s.passes(STOLEN, "attendant", "psam_serial_repeated")
    assert s.purchase(STOLEN, "tac") == real["tac"], "kept as it was told"

    await s.forge(WRONG, "forge_result", forgery={"debits": True, "balance_off_fen": 100})
    await s.passes(WRONG, "attendant", "purchase_balance_wrong")

    await s.forge(SHOWN, "purchase_refused")
    await s.forge(SHOWN, "forge_reading")
    await s.passes(SHOWN, "attendant", "purchase_balance_wrong")

    await s.passes(COPY, "attendant", "card_serial_not_above")

    await s.passes(LATER, "go")
    cards = await s.cards()
    paid = {car.id: [FARE] for car in (HONEST, WRONG, LATER)}
    assert cards == {UNCHANGED.id: [], STOLEN.id: [], SHOWN.id: [], **paid}
    assert (await s.site.controls["bank"].request("book"))["totals"]["net_fen"] == 0
    opened = [d.obu_id for d in s.view.decisions() if d.release == "go"]
    assert opened == [HONEST.obu_id, LATER.obu_id]

    items = json.loads(await s.site.command("clearing", "items", "--json"))
    assert [item["kind"] for item in items["items"]] == ["disputed_purchase"] * 5
    for car, taken in ((UNCHANGED, False), (STOLEN, False), (WRONG, True), (SHOWN, False), (COPY, True)):
        assert await s.settle(car, taken=taken) == ("funded" if taken else "voided")
