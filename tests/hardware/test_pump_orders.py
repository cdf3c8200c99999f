"""A cashier's order at an island of real processes: the pump is authorised, the till is paid, everybody is told."""

import asyncio
import json

import pytest

from hardware.bench.fillings import LITRES_S
from hardware.bench.forecourt import ISLAND, Drive, Forecourt

pytestmark = pytest.mark.slow
SIDE, ADDRESS = 1, 80
LOOKS_MAX = 60
"""Looks at the health file until it says what it should: a minute of a slow machine, for a look is a process."""


def test_a_side_is_ordered_filled_and_paid_at_the_till(tmp_path):
    asyncio.run(_order(tmp_path))


async def _order(folder):
    async with Forecourt(folder) as site:
        await Drive(site, ()).prepare()
        pump = site.controls["dart"]

        async def told(*arguments):
            return json.loads(await site.command(*arguments, "--json"))

        async def side():
            return next(one for one in (await told("pumps", ISLAND))["pumps"] if one["side"] == SIDE)

        async def stands(**wanted):
            """Wait until the health file says so."""
            for _ in range(LOOKS_MAX):
                found = await side()
                if all(found[name] == value for name, value in wanted.items()):
                    return found
                await asyncio.sleep(0.2)
            raise AssertionError(found)

        assert (await stands(online=True, state="idle"))["address"] == ADDRESS
        await pump.request("lift", side=ADDRESS, nozzle=2)
        assert (await stands(out=True, nozzle=2))["grade"] == "95"
        assert "nozzle out" in await site.command("pumps", ISLAND)
        order = ("pump", "authorise", ISLAND, str(SIDE), "--cash", "--limit", "5000", "--reason", "pays at the counter")
        given = await told(*order, "--wait", "60")
        assert (given["state"], given["reason"]) == ("taken", None)
        await pump.request("wait", side=ADDRESS, state="authorised")
        await pump.request("flow", side=ADDRESS, ml_per_s=LITRES_S)
        await pump.request("wait", side=ADDRESS, state="limit_reached")
        found = await stands(state="limit_reached")
        assert found["sale_id"] == given["sale_id"]
        await pump.request("return", side=ADDRESS)
        await stands(sale_id=None, out=False)
        shown = await told("pump", "show", ISLAND, str(SIDE))
        (sale,) = shown["sales"]
        assert (sale["state"], sale["amount_fen"], sale["funding"]) == ("billed", 5000, "cash")
        assert [(one["order_id"], one["state"]) for one in shown["orders"]] == [(given["order_id"], "taken")]
        assert {part["name"]: part["works"] for part in shown["parts"]}[f"{ISLAND}/dart"]
        receipt = await told("sales", "receipt", sale["sale_id"])
        assert (receipt["funding"], receipt["volume_ml"]) == ("cash", sale["volume_ml"])
        (metered,) = (await pump.request("book"))["sales"]
        assert (metered["volume_ml"], metered["amount_minor"]) == (sale["volume_ml"], 5000)
        assert await site.gateway.stop() == 0
        await site.command("ledger", "verify")
