"""Parts of a running site fail one after the other: the gateway says what is wrong, keeps what it knows, comes back.

Nothing here waits for a time to pass; everything waits for a state to be reached.
"""

import asyncio
import itertools
import json
import os
import sqlite3
import subprocess
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hardware.bench.demo import Demo
from hardware.bench.ledger_view import LedgerView
from hardware.bench.processes import PATIENT_MS, EmulatedSite
from hardware.bench.scenario import PAID, Expected, Vehicle
from hardware.bench.waiting import LOOK_S, STUCK_S

pytestmark = pytest.mark.bench

CHARGED = Expected((PAID,), charged=True, ends="funded")


def purse(number, **facts):
    return Vehicle(number, "purse", "lane-1", CHARGED, **facts)


def online(number, **facts):
    return Vehicle(number, "bank", "lane-1", CHARGED, card_type=23, funding="bank_online", **facts)


class Running:
    """A started site with a few shorthands."""

    def __init__(self, site, demo):
        self.site = site
        self.demo = demo
        self.view = LedgerView(site.ledger)
        self.road = site.controls["lane-1"]
        self.board = site.controls["board"]
        self.bank = site.controls["bank"]

    def parts(self):
        return json.loads((self.site.folder / "state.json").read_text())["parts"]

    async def until(self, holds, what):
        end = time.monotonic() + STUCK_S
        while True:
            try:
                if holds():
                    return
            except (ValueError, KeyError, OSError):
                pass  # the state file is being renewed, or the part has not been named yet
            assert time.monotonic() < end, what
            await asyncio.sleep(LOOK_S)

    async def part(self, name, works):
        await self.until(lambda: self.parts()[name]["works"] is works, f"{name} works={works}")
        return self.parts()[name]

    async def arrive(self, vehicle):
        await self.road.request("arrive", vehicle=vehicle.on_the_road(int(time.time())))

    async def leave(self, vehicle):
        await self.road.request("leave", id=vehicle.id)

    async def event(self, vehicle, name, count=1):
        await self.road.request("wait", id=vehicle.id, event=name, count=count)

    def barrier(self, vehicle):
        decisions = [d for d in self.view.decisions() if d.obu_id == vehicle.obu_id]
        return decisions[-1].release if decisions else None

    def debits(self, vehicle):
        return [d for d in self.view.debits() if d.obu_id == vehicle.obu_id]

    async def open(self, vehicle):
        await self.until(lambda: self.barrier(vehicle) == "go", f"{vehicle.id} gets through")

    async def orders(self, vehicle):
        """C6 frames the antenna received about it."""
        answer = await self.road.request("vehicles")
        return next((v["messages"].get("C6", 0) for v in answer["vehicles"] if v["id"] == vehicle.id), 0)


@asynccontextmanager
async def running(folder, vehicles, deadline_ms):
    async with EmulatedSite(folder, deadline_ms=deadline_ms) as site:
        demo = Demo(site, vehicles)
        await demo.prepare()
        r = Running(site, demo)
        await r.until(site.works, "the site comes up")
        yield r
        assert (await r.board.request("verdict"))["ok"]
        assert await site.gateway.stop() == 0
        await site.command("ledger", "verify")


def scenario(folder, vehicles, inside, deadline_ms=2000):
    """`deadline_ms` of its lanes; a vehicle for which it was too short is dealt with once more."""

    async def run():
        async with running(folder, vehicles, deadline_ms) as r:
            await inside(r)

    asyncio.run(run())


def test_antenna_cut_in_the_middle_of_a_purchase(tmp_path):
    car = purse(201)

    async def inside(r):
        await r.road.request("pause", id=car.id, before="result")
        await r.arrive(car)
        await r.event(car, "taken")
        await r.road.request("down")
        said = await r.part("lane-1/antenna", False)
        assert said["code"] == "rsu_silent"
        assert said["zh"]
        assert said["next_step_en"]
        await r.road.request("continue", id=car.id)
        await r.road.request("up")
        await r.part("lane-1/antenna", True)
        await r.open(car)
        assert [d.amount for d in r.debits(car)] == [1425]

    scenario(tmp_path, [car], inside)


def test_relay_board_dead(tmp_path):
    car, next_car = purse(202), purse(203)

    async def inside(r):
        await r.board.request("down")
        said = await r.part("board/plaza", False)
        assert said["code"] == "barrier_fault"
        await r.arrive(car)
        await r.open(car)  # decided and durable; the arm cannot follow yet
        await r.part("lane-1/barrier", False)
        await r.board.request("up")
        await r.board.request("wait_open", lane="lane-1", count=1)
        await r.part("board/plaza", True)
        await r.leave(car)
        await r.arrive(next_car)
        await r.open(next_car)
        await r.part("lane-1/barrier", True)

    scenario(tmp_path, [car, next_car], inside)


def test_bank_gone(tmp_path):
    car = online(204)

    async def inside(r):
        await r.bank.request("down")
        said = await r.part("bank/bank-a", False)
        assert said["code"] == "bank_unavailable"
        await r.arrive(car)
        await r.open(car)
        assert [d.state for d in r.debits(car)] == ["owed"]
        await r.bank.request("up")
        await r.part("bank/bank-a", True)
        await r.until(lambda: [d.state for d in r.debits(car)] == ["funded"], "the advice is accepted")
        book = await r.bank.request("book")
        assert book["totals"]["net_fen"] == 1425

    scenario(tmp_path, [car], inside)


def test_database_locked_by_another_program(tmp_path):
    car = purse(205)

    async def inside(r):
        other = sqlite3.connect(r.site.ledger, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await r.arrive(car)
        said = await r.part("ledger", False)
        assert said["code"] == "storage_unavailable"
        assert await r.orders(car) == 0, "no card may be asked while its intent cannot be stored"
        other.rollback()
        other.close()
        await r.part("ledger", True)
        await r.open(car)
        assert [d.amount for d in r.debits(car)] == [1425]

    scenario(tmp_path, [car], inside)


@contextmanager
def small_disk(folder, megabytes):
    """A file system of its own that can really be full."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(path):
    """Take every free block."""
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(1 << 16)):
                pass
        except OSError:
            pass


def test_disk_full(tmp_path):
    paying, turned_away = purse(206), purse(207)

    async def inside(r):
        filler = r.site.folder / "filler"
        await r.road.request("pause", id=paying.id, before="result")
        await r.arrive(paying)
        await r.event(paying, "taken")
        fill(filler)
        await r.road.request("continue", id=paying.id)
        # The card has paid: its result is stored all the same, on the blocks kept in reserve.
        await r.open(paying)
        await r.leave(paying)
        await r.part("ledger", False)  # said in a file, which has room only until the next line
        fill(filler.with_suffix(".2"))
        await r.arrive(turned_away)
        said = await r.part("ledger", False)
        assert said["code"] == "storage_unavailable"
        assert await r.orders(turned_away) == 0
        filler.unlink()
        filler.with_suffix(".2").unlink(missing_ok=True)
        await r.part("ledger", True)
        await r.open(turned_away)
        assert [d.amount for d in r.debits(turned_away)] == [1425]

    with small_disk(tmp_path, 128):
        scenario(tmp_path, [paying, turned_away], inside)


def test_lists_are_built_and_switched_while_lanes_trade(tmp_path):
    """Five million entries: built beside the gateway, checked beside its loop, switched between two vehicles."""
    entries = 5_000_000
    caught = replace(purse(299), expected=Expected((("refused", "stop", "card_listed_lost"),)))

    async def inside(r):
        source = tmp_path / "five-million.csv"
        await asyncio.to_thread(write_list, source, entries, caught.card_number)
        numbers = itertools.count(300)

        async def one_car():
            result = await r.demo.drive_one(purse(next(numbers)))
            assert result.right, result.problems

        await one_car()
        # Another list altogether: the entries of the demo's own leave.
        order = ("lists", "build", str(source), "--version", "209901010000", "--confirm-drop", "2000")
        build = asyncio.create_task(r.site.command(*order))
        while not build.done():
            await one_car()
        await build
        await r.until(lambda: "209901010000" in r.parts()["lists"]["cause"], "the new lists are in force")
        await one_car()
        assert (await r.demo.drive_one(caught)).right
        versions = {r.view.value("select list_version from decision order by record_no limit 1")}
        versions.add(r.view.value("select list_version from decision order by record_no desc limit 1"))
        assert len(versions) == 2
        state = json.loads((r.site.folder / "state.json").read_text())
        print(f"{next(numbers) - 300} vehicles while {entries} entries were built and switched; {state['loop_lag_ms']}")

    scenario(tmp_path, [caught], inside, PATIENT_MS)


def write_list(path: Path, entries: int, listed: str):
    with path.open("w") as file:
        file.write("kind,key,list_type,sign\n")
        file.writelines(f"card,8801{number:016d},{number % 7 + 1},1\n" for number in range(entries))
        file.write(f"card,{listed},1,1\n")
