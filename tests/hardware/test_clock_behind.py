"""A box whose clock is behind: lanes open and sell, and what they say of the clock is true."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hardware.bench.demo import Demo
from hardware.bench.processes import PATIENT_MS, EmulatedSite

from .test_site_faults import Running, online, purse

pytestmark = pytest.mark.bench

DEMO = Path(__file__).parents[2] / "hardware/sites/demo/site.toml"


@pytest.mark.parametrize(
    "behind", [timedelta(minutes=5), timedelta(days=1), None], ids=["five minutes", "a day", "1970"]
)
def test_a_clock_behind_the_newest_list_stops_no_lane(tmp_path, behind):
    says = datetime(1970, 1, 1, tzinfo=UTC) if behind is None else datetime.now(UTC) - behind
    text = f"{DEMO.read_text()}\n[bench]\nclock = {says.isoformat()}\n"
    cars = [purse(801), online(802)]

    async def run():
        async with EmulatedSite(tmp_path, site_text=text, deadline_ms=PATIENT_MS) as site:
            r = Running(site, Demo(site, cars))
            await r.demo.prepare()
            # The lists were made just now, so they prove that the clock is behind.
            await r.until(lambda: site.part_works("lists"), "the lists are in force")
            for lane in site.lanes:
                await r.until(lambda lane=lane: site.part_works(f"{lane}/antenna"), f"{lane} has its antenna")
            assert not site.part_works("clock")
            for car in cars:
                assert (await r.demo.drive_one(car)).right
            assert await site.gateway.stop() == 0
        with closing(sqlite3.connect(site.ledger)) as ledger:
            assert ledger.execute("select distinct clock_quality from passage").fetchall() == [("suspect",)]

    asyncio.run(run())
