"""The real gateway sells on while one of its lines says far too much, and its books are right afterwards.

The words of a flood are put on the line between the gateway and an emulator, which goes on as always. Nothing here
waits for a time to pass; everything waits for a state to be reached.
"""

import asyncio
import itertools
from contextlib import asynccontextmanager

import pytest

from hardware.bench.demo import Demo
from hardware.bench.flood import FloodLine
from hardware.bench.processes import PATIENT_MS, EmulatedSite
from protocols.bank.codec import Message, encode
from protocols.bank.framing import frame
from protocols.rsu.messages import ObuReport
from tests.hardware.samples import V3
from tests.hardware.test_site_faults import Running, online, purse

pytestmark = pytest.mark.bench

FARE = 1425
LOG_BYTES_MAX = 256 * 1024
"""Of the gateway's log after a flood: a few lines a minute and vehicle, where each word in it would be megabytes."""


def unasked_approval(number):
    """A 0210 to a message that was never sent, of a terminal of lane 1."""
    fields = {3: "000000", 4: "000000001425", 11: f"{500_000 + number % 400_000:06d}", 39: "00", 41: "99010001"}
    return frame(encode(Message("0210", fields)))


def unending(number):
    """Two bytes that announce a message of 1 KiB, and then one byte of it after the other."""
    return b"\x60" if number else (1024).to_bytes(2, "big")


def tag_that_is_not_there(number):
    """A first report of a tag that never says more: a good tag of our issuer, another one each time."""
    report = ObuReport(
        obu_id=(0x77000000 + number).to_bytes(4, "big"),
        error=0,
        issuer=bytes.fromhex("B2E2CAD499010001"),
        serial=number.to_bytes(8, "big"),
        issued=bytes.fromhex("20200101"),
        expires=bytes.fromhex("20990101"),
        equipment=0,
        status=b"\x00\x01",
        antenna_id=1,
        device_type=1,
        contract_type=0x16,
        contract_version=0x50,
    )
    return V3.framing.wrap(number % 9 + 1, V3.encode(report))


@asynccontextmanager
async def flooded(folder, vehicles, name, framing, word, **how):
    """A running site with a line before the device `name`."""
    async with (
        EmulatedSite(folder, deadline_ms=PATIENT_MS) as site,
        FloodLine(site.addresses[name], framing, word, **how) as line,
    ):
        site.addresses[name] = line.address
        demo = Demo(site, vehicles)
        await demo.prepare()
        r = Running(site, demo)
        await r.until(site.works, "the site comes up")
        yield r, line
        await r.until(site.works, "the site is whole again")
        await r.until(lambda: r.view.waiting() == 0, "the bank has been told everything")
        for vehicle in vehicles:
            assert [(d.amount, d.state) for d in r.debits(vehicle)] == [(FARE, "funded")], vehicle.id
        assert (await r.board.request("verdict"))["ok"]
        assert await site.gateway.stop() == 0
        await site.command("ledger", "verify")
        assert site.gateway.log.stat().st_size < LOG_BYTES_MAX


async def sell(r, vehicle):
    """One vehicle through, and away."""
    await r.arrive(vehicle)
    await r.open(vehicle)
    await r.leave(vehicle)


def test_lanes_sell_while_a_bank_sends_three_thousand_answers_a_second_that_nobody_asked_for(tmp_path):
    numbers = itertools.count(501)
    before, after = [purse(next(numbers)), online(next(numbers))], [purse(next(numbers)), online(next(numbers))]

    async def run():
        async with flooded(tmp_path, before + after, "bank", "bank", unasked_approval, per_s=3000) as (r, line):
            line.on = True
            for vehicle in before:
                await sell(r, vehicle)
            await r.until(lambda: r.parts()["bank/bank-a"]["code"] == "bank_misbehaves", "it is said of the bank")
            said = r.parts()["bank/bank-a"]
            assert "nobody asked for" in said["cause"]
            assert said["zh"]
            assert said["next_step_en"]
            # Not once, but at every sign-in: the pauses grow, and lanes sell by the rules of stand-in.
            await r.until(lambda: line.connections >= 4, "the bank is tried again")
            for vehicle in after:
                await sell(r, vehicle)
            assert line.on
            line.on = False
            await r.part("bank/bank-a", True)
            await r.until(lambda: r.view.waiting() == 0, "the bank has been told everything")
            book = await r.bank.request("book")
            assert book["totals"]["net_fen"] == 2 * FARE

    asyncio.run(run())


def test_a_bank_whose_message_never_ends_is_cut_and_lanes_sell(tmp_path):
    paying, owing = purse(511), online(512)

    async def run():
        async with flooded(tmp_path, [paying, owing], "bank", "bank", unending, per_s=10, instead=True) as (r, line):
            line.on = True
            await sell(r, paying)
            await r.until(lambda: r.parts()["bank/bank-a"]["code"] == "bank_misbehaves", "it is said of the bank")
            assert "did not end it" in r.parts()["bank/bank-a"]["cause"]
            await sell(r, owing)
            line.on = False
            await r.part("bank/bank-a", True)
            await r.until(lambda: r.view.waiting() == 0, "the bank has been told everything")
            book = await r.bank.request("book")
            assert book["totals"]["net_fen"] == FARE

    asyncio.run(run())


def test_cars_are_sold_to_while_an_antenna_reports_hundreds_of_tags_a_second_that_are_not_there(tmp_path):
    cars = [purse(number) for number in range(521, 524)]

    async def run():
        async with flooded(tmp_path, cars, "lane-1", "pcrsu-v3", tag_that_is_not_there, per_s=300) as (r, line):
            line.on = True
            await r.until(lambda: line.said >= 300, "the lane is full of tags that are not there")
            for car in cars:
                said = line.said
                await sell(r, car)
                assert line.said > said
            assert line.connections == 1
            line.on = False

    asyncio.run(run())
