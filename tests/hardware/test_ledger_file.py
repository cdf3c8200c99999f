"""Somebody deletes or replaces the ledger's file under the running gateway: no sale goes into nothing.

Afterwards every account is compared with the bank's book and the cards' purses, as after any run. And nobody gets a
second gateway onto one ledger, under whatever name.
"""

import asyncio
import json
import os
import shutil
import sqlite3
import time
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.payers import mandates
from hardware.bench.demo import Demo
from hardware.bench.processes import PATIENT_MS, EmulatedSite, Program, ProgramFailed
from hardware.bench.reckoning import accounts, fares_of, on_the_cards

from .test_site_faults import Running, online, purse

pytestmark = pytest.mark.bench

SIDES = ("-wal", "-shm")


def unlink(ledger):
    ledger.unlink()


def replace_by_copy(ledger):
    """What a person does who brings back yesterday's file and forgets that the gateway runs."""
    other = ledger.with_suffix(".other")
    shutil.copyfile(ledger, other)
    other.replace(ledger)


def unlink_log(ledger):
    Path(f"{ledger}-wal").unlink()


def unlink_index(ledger):
    Path(f"{ledger}-shm").unlink()


def unlink_log_and_index(ledger):
    """What a person does who takes them for lock files that a crash has left."""
    unlink_log(ledger)
    unlink_index(ledger)


def move_folder(ledger):
    """As bad as a data disk that is unmounted: not even the folder is there any more."""
    ledger.parent.rename(ledger.parent.with_name("data.unmounted"))


@asynccontextmanager
async def site_of(folder, vehicles):
    """A site that works, with its ledger in a folder of its own."""
    text = (Path(__file__).parents[2] / "hardware/sites/demo/site.toml").read_text()
    (folder / "data").mkdir()
    text = text.replace('"ledger.db"', '"data/ledger.db"\nmark = "ledger.mark"')  # the mark stands on another disk
    site = EmulatedSite(folder, site_text=text, deadline_ms=PATIENT_MS)
    site.ledger = folder / "data" / "ledger.db"
    async with site:
        r = Running(site, Demo(site, vehicles))
        await r.demo.prepare()
        await r.until(site.works, "the site comes up")
        yield r


def rescued(ledger):
    """The copies that were rescued, oldest first."""
    found = ledger.parent.glob("ledger.db.rescued-*") if ledger.parent.exists() else ()
    return sorted(path for path in found if not path.name.endswith(("-wal", "-shm", "-journal")))


def rows(r, sql):
    """Asked of copies of what stands on the disk: opening the ledger itself would make a log and an index anew."""
    copies = rescued(r.site.ledger)
    found = copies[-1] if copies else r.site.ledger
    looked = r.site.folder / "looked-at.db"
    for end in ("", *SIDES):
        looked.with_name(looked.name + end).unlink(missing_ok=True)
    for end in ("", "-wal"):
        if (part := Path(f"{found}{end}")).exists():
            shutil.copyfile(part, looked.with_name(looked.name + end))
    with closing(sqlite3.connect(looked)) as connection:
        return connection.execute(sql).fetchall()


async def stored(r, car):
    """Its decision is in some file."""
    sql = (
        "select 1 from decision d join passage p on p.id = d.passage_id join subject s on s.id = p.id"
        f" where s.obu_id = '{car.obu_id}'"
    )

    def holds():
        try:
            return rows(r, sql)
        except sqlite3.Error:
            return False  # it was being written

    await r.until(holds, f"the decision about {car.id} is stored somewhere")


def put_back(ledger):
    """What the gateway says a person has to do."""
    if not rescued(ledger):
        return
    for end in ("", *SIDES):
        Path(f"{ledger}{end}").unlink(missing_ok=True)
    rescued(ledger)[-1].rename(ledger)


async def prove(r, vehicles):
    """Our books against the bank's book and the purses."""
    cards = [card for lane in r.site.lanes for card in (await r.site.controls[lane].request("cards"))["cards"]]
    lines = accounts(r.view, fares_of(vehicles), await r.bank.request("book"), cards) + on_the_cards(vehicles, cards)
    assert [line for line in lines if not line.agrees] == []
    assert sorted(d.obu_id for d in r.view.debits()) == sorted(v.obu_id for v in vehicles if v.expected.charged)


@pytest.mark.parametrize(
    "harm",
    [unlink, replace_by_copy, unlink_log, unlink_index, unlink_log_and_index, move_folder],
    ids=lambda harm: harm.__name__,
)
def test_no_sale_goes_into_nothing(tmp_path, harm):
    paid, asked, paying = purse(601), online(602), purse(603)
    turned_away = replace(purse(604), lane="lane-2", entry="99010101")
    cars = [paid, asked, paying, turned_away]

    async def run():
        async with site_of(tmp_path, cars) as r:
            for car in (paid, asked):
                assert (await r.demo.drive_one(car)).right
            await r.road.request("pause", id=paying.id, before="result")
            await r.arrive(paying)
            await r.event(paying, "taken")
            harm(r.site.ledger)
            # At once: the very next car must not be sold anything.
            second = r.site.controls["lane-2"]
            await second.request("arrive", vehicle=turned_away.on_the_road(int(time.time())))
            said = await r.part("ledger", False)
            assert said["code"] == "ledger_lost"
            assert said["zh"]
            await r.part("lane-2/ledger", False)
            # The card that has paid already: its result is kept, and the barrier stays down, for nobody can find it.
            await r.road.request("continue", id=paying.id)
            await stored(r, paying)
            await r.until(lambda: "start it again" in r.parts()["ledger"]["cause"], "it says what to do")
            print(r.parts()["ledger"]["cause"])
            messages = (await second.request("vehicles"))["vehicles"]
            assert [v["messages"].get("C6", 0) for v in messages if v["id"] == turned_away.id] == [0]
            lanes = (await r.board.request("state"))["lanes"]
            assert [lanes[name]["openings"] for name in ("lane-1", "lane-2")] == [2, 0]
            assert await r.site.gateway.stop() == 0
            put_back(r.site.ledger)
            await r.site.gateway.start()
            await r.open(paying)
            await r.open(turned_away)
            await prove(r, cars)
            assert (await r.board.request("verdict"))["ok"]
            assert await r.site.gateway.stop() == 0
            await r.site.command("ledger", "verify")

    asyncio.run(run())


def test_the_same_file_back_in_its_place_and_all_goes_on(tmp_path):
    paying = purse(611)

    async def run():
        async with site_of(tmp_path, [paying]) as r:
            await r.road.request("pause", id=paying.id, before="result")
            await r.arrive(paying)
            await r.event(paying, "taken")
            elsewhere = r.site.ledger.with_suffix(".moved")
            r.site.ledger.rename(elsewhere)
            await r.part("ledger", False)
            await r.road.request("continue", id=paying.id)
            await stored(r, paying)
            elsewhere.rename(r.site.ledger)
            await r.part("ledger", True)
            await r.open(paying)
            await prove(r, [paying])
            assert (await r.board.request("verdict"))["ok"]
            assert await r.site.gateway.stop() == 0
            await r.site.command("ledger", "verify")

    asyncio.run(run())


def symlink(folder):
    (folder / "alias.db").symlink_to(folder / "data" / "ledger.db")
    return "alias.db"


def hard_link(folder):
    os.link(folder / "data" / "ledger.db", folder / "data" / "second.db")
    return "data/second.db"


def deleted_lock_file(folder):
    """With the ledger itself in its place again."""
    (folder / "data" / "second.db").replace(folder / "data" / "ledger.db")
    (folder / "data" / "ledger.db.lock").unlink()
    return "data/ledger.db"


def link_to_the_folder(folder):
    (folder / "alias").symlink_to(folder / "data")
    return "alias/ledger.db"


def another_file_in_its_place(folder):
    """The first gateway still holds what stood there before."""
    replace_by_copy(folder / "data" / "ledger.db")
    return "data/ledger.db"


def test_a_second_gateway_is_refused(tmp_path):
    """One way after the other."""

    async def refused(r, way):
        text = r.site.site_file.read_text().replace('"data/ledger.db"', f'"{way(tmp_path)}"')
        second_file = tmp_path / f"{way.__name__}.toml"
        second_file.write_text(text.replace('"state.json"', '"state-2.json"'))
        arguments = ["-m", "gateway.cli.main", "run", "--config", str(second_file)]
        second = Program(way.__name__, arguments, tmp_path)
        try:
            with pytest.raises(ProgramFailed, match="ended with 3"):
                await second.start()
        finally:
            await second.kill()
        assert "another gateway holds" in second.log.read_text()

    async def run():
        async with site_of(tmp_path, []) as r:
            for way in (symlink, link_to_the_folder, hard_link, another_file_in_its_place, deleted_lock_file):
                await refused(r, way)
            assert await r.site.gateway.stop() == 0

    asyncio.run(run())


def test_a_command_does_not_write_into_what_stands_in_the_ledgers_place(tmp_path):
    """The log beside it is the running gateway's, and SQLite would apply it to the other file."""

    async def run():
        async with site_of(tmp_path, []) as r:
            replace_by_copy(r.site.ledger)
            before = r.site.ledger.read_bytes()
            for command in (
                ("mandates", "import", str(tmp_path / "no-mandates.csv"), "--allow-empty"),
                ("ledger", "backup", "copy.db"),
            ):
                with pytest.raises(ProgramFailed, match="not the ledger that the running gateway holds"):
                    await r.site.command(*command)
            assert r.site.ledger.read_bytes() == before
            assert await r.site.gateway.stop() == 0

    (tmp_path / "no-mandates.csv").write_text(",".join(mandates.COLUMNS) + "\n")
    asyncio.run(run())


def test_an_orderly_stop_leaves_one_whole_file(tmp_path):
    cars = [purse(621), online(622)]

    async def run():
        async with site_of(tmp_path, cars) as r:
            for car in cars:
                assert (await r.demo.drive_one(car)).right
            assert await r.site.gateway.stop() == 0
            alone = tmp_path / "alone.db"
            shutil.copyfile(r.site.ledger, alone)
            with closing(sqlite3.connect(f"file:{alone}?immutable=1", uri=True)) as connection:
                assert connection.execute("select count(*) from decision").fetchone() == (2,)
                states = connection.execute("select state from debit").fetchall()
                assert states == [("funded",), ("funded",)]

    asyncio.run(run())


def test_a_backup_under_traffic_is_whole(tmp_path):
    cars = [purse(630 + number) for number in range(6)]

    async def run():
        async with site_of(tmp_path, cars) as r:
            assert (await r.demo.drive_one(cars[0])).right
            copying = asyncio.create_task(r.site.command("ledger", "backup", str(tmp_path / "copy.db"), "--json"))
            for car in cars[1:]:
                assert (await r.demo.drive_one(car)).right
            copied = json.loads(await copying)
            assert await r.site.gateway.stop() == 0
            copy = tmp_path / "copy.db"
            assert copy.stat().st_mode & 0o777 == 0o600
            # The site's mark has gone on since the copy was made, so the copy alone would rightly be called too old.
            text = r.site.site_file.read_text().replace('"data/ledger.db"', '"copy.db"')
            r.site.site_file.write_text(text.replace('"ledger.mark"', '"copy.mark"'))
            verified = json.loads(await r.site.command("ledger", "verify", "--json", "--head", copied["journal_head"]))
            assert verified["heads"]["journal"] == {
                "number": copied["journal_number"],
                "digest": copied["journal_head"],
            }
            assert verified["heads"]["decision"]["number"] >= 1

    asyncio.run(run())
