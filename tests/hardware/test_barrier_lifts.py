"""One decision lifts the barrier at most once: the real gateway, and a board that freezes, thaws, loses and is mute.

With a closed limit input an opening that was provably lost is ordered once more; without one nobody can know, and the
attendant opens by hand. Nothing here waits for a time to pass.
"""

import asyncio
import os
import signal
from contextlib import asynccontextmanager

import pytest

from hardware.bench.demo import Demo
from hardware.bench.processes import SITES, EmulatedSite
from hardware.bench.reckoning import lifts
from tests.hardware.test_site_faults import Running, purse

pytestmark = pytest.mark.bench

LANE, PART = "lane-1", "lane-1/barrier"
WITH_LIMIT = "closed_limit = 1, travel_ms = 500"
SLOW_ARM = "closed_limit = 1, travel_ms = 3000"
"""So slow that a machine four times slower than usual reads the limit often enough for a proof."""


class Barrier(Running):
    """A site seen from its first lane's barrier."""

    async def lifted(self):
        return (await self.board.request("lifts"))["lifts"][LANE]

    async def wait_open(self, count):
        await self.board.request("wait_open", lane=LANE, count=count)

    async def order_held(self):
        await self.board.request("wait_held", count=1)

    def record(self, car):
        (first, *_) = [d.record_no for d in self.view.decisions() if d.obu_id == car.obu_id]
        return first

    async def doubtful(self):
        """The gateway says that the barrier did not confirm."""
        said = await self.part(PART, False)
        assert (said["code"], bool(said["zh"]), bool(said["next_step_en"])) == ("barrier_fault", True, True)

    async def known(self, car):
        """What became of its opening is settled: confirmed, or left to the attendant."""
        text = f"record {self.record(car)}: "

        def settled():
            part = self.parts()[PART]
            return part["works"] or part["cause"].startswith(text)

        await self.until(settled, "the opening is settled")

    async def drives_off(self, car):
        await self.board.request("pass", lane=LANE)
        await self.leave(car)


@asynccontextmanager
async def barrier(folder, vehicles, wiring):
    text = (SITES / "demo" / "site.toml").read_text()
    assert text.count(f"red = 2, {WITH_LIMIT}") == 1
    text = text.replace(f", {WITH_LIMIT}", f", {wiring}" if wiring else "", 1)
    async with EmulatedSite(folder, site_text=text) as site:
        demo = Demo(site, vehicles)
        await demo.prepare()
        b = Barrier(site, demo)
        await b.until(site.works, "the site comes up")
        yield b
        assert await site.gateway.stop() == 0  # whatever it still meant to order, it has ordered by now
        assert [line for line in lifts(b.view, {LANE: await b.lifted()}) if not line.agrees] == []
        assert (await b.board.request("verdict"))["ok"]
        await site.command("ledger", "verify")


async def frozen_for_a_moment(b, car):
    await b.board.request("freeze", lane=LANE)
    await b.arrive(car)
    await b.order_held()
    await b.doubtful()
    await b.board.request("thaw")


async def stopped_for_a_moment(b, car):
    """The whole board stands still; the network goes on taking what is sent to it."""
    pid = b.site.programs["board"].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        await b.arrive(car)
        await b.open(car)
        await b.doubtful()
    finally:
        os.kill(pid, signal.SIGCONT)


async def frozen_until_given_up(b, car):
    """So long that the gateway hangs up; the board executes what the closed connection has brought it."""
    await b.board.request("freeze", lane=LANE)
    await b.arrive(car)
    await b.order_held()
    await b.doubtful()
    await b.known(car)
    await b.part("board/plaza", False)
    await b.board.request("thaw")


async def executed_and_not_answered(b, car):
    await b.board.request("lose", lane=LANE, count=1, executed=True)
    await b.arrive(car)


ONCE = [frozen_for_a_moment, stopped_for_a_moment, frozen_until_given_up, executed_and_not_answered]


@pytest.mark.parametrize("wiring", [WITH_LIMIT, None], ids=["closed limit", "no limit"])
def test_an_opening_that_comes_late_or_is_not_answered_lifts_once(tmp_path, wiring):
    cars = [purse(number) for number in range(220, 230)]

    async def run():
        traffic = iter(cars)
        async with barrier(tmp_path, cars, wiring) as b:
            expected = []
            for trouble in ONCE:
                for story in (trouble, Barrier.arrive):  # the next vehicle finds a barrier as it should be
                    car = next(traffic)
                    await story(b, car)
                    await b.open(car)
                    await b.wait_open(len(expected) + 1)
                    expected.append(b.record(car))
                    await b.known(car)
                    assert await b.lifted() == expected, story
                    await b.drives_off(car)
                await b.part(PART, True)
                await b.part("board/plaza", True)

    asyncio.run(run())


def test_an_opening_that_was_provably_lost_is_ordered_once_more(tmp_path):
    lost, next_car = purse(230), purse(231)

    async def run():
        async with barrier(tmp_path, [lost, next_car], SLOW_ARM) as b:
            await b.board.request("lose", lane=LANE, count=1)
            await b.arrive(lost)
            await b.doubtful()
            await b.wait_open(1)
            await b.part(PART, True)
            await b.drives_off(lost)
            await b.arrive(next_car)
            await b.wait_open(2)
            assert await b.lifted() == [b.record(lost), b.record(next_car)]

    asyncio.run(run())


def test_without_a_limit_a_lost_opening_is_the_attendants(tmp_path):
    lost, next_car = purse(232), purse(233)

    async def run():
        async with barrier(tmp_path, [lost, next_car], None) as b:
            await b.board.request("lose", lane=LANE, count=1)
            await b.arrive(lost)
            await b.doubtful()
            await b.until(lambda: b.parts()[PART]["cause"].startswith("record "), "it is left to the attendant")
            assert b.barrier(lost) == "go"  # the decision stays, and so does the money
            await b.leave(lost)
            await b.arrive(next_car)
            await b.wait_open(1)
            await b.part(PART, True)
            assert await b.lifted() == [b.record(next_car)]

    asyncio.run(run())
