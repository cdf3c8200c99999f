"""An older, emptied or lost ledger undoes nobody's payment: real processes, and the bank's book as the judge.

Every time the gateway must refuse to start, say why, and send the bank nothing; after an adoption it goes on with pairs
of batch and STAN that were never used, and what was lost stands on people's list with exactly its amount.
"""

import asyncio
import json
import sqlite3
from collections import Counter
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from gateway.clearing.doubts import run_and_settle
from gateway.clearing.imports import import_file
from gateway.cli.clearing import terms_of
from gateway.cli.store import committing
from gateway.config import load
from gateway.ledger import engines
from hardware.bench.demo import Demo
from hardware.bench.processes import PATIENT_MS, EmulatedSite, ProgramFailed

from .test_site_faults import CHARGED, Running, online

pytestmark = pytest.mark.bench

BEIJING = timezone(timedelta(hours=8))
LANES = ("lane-1", "lane-2")
CLASSES = (1, 2, 3, 11)
"""Of lane-1, with four different fares."""


def cars(first, count):
    """Vehicles whose bank is asked, with different fares."""
    return [replace(online(first + n), vehicle_class=CLASSES[n % len(CLASSES)], expected=CHARGED) for n in range(count)]


@asynccontextmanager
async def site_with(folder, vehicles):
    async with EmulatedSite(folder, radio_ms=40, bank_ms=20, deadline_ms=PATIENT_MS) as site:
        r = Running(site, Demo(site, vehicles))
        await r.demo.prepare()
        await r.until(site.works, "the site comes up")
        yield r


async def pay(r, vehicles):
    for car in vehicles:
        assert (await r.demo.drive_one(car)).right, car.id


async def stop(r):
    assert await r.site.gateway.stop() == 0


async def refused(r, code):
    """A start that says what is wrong, in the log, in the state file and to `status`, and sends nothing."""
    before = await heard(r)
    with pytest.raises(ProgramFailed, match="ended with 3"):
        await r.site.gateway.start()
    state = json.loads((r.site.folder / "state.json").read_text())
    assert state["running"] is False
    assert state["parts"]["ledger"]["code"] == code
    assert state["parts"]["ledger"]["zh"]
    assert await heard(r) == before


async def heard(r):
    """Money messages that the bank received."""
    return [m for m in (await r.bank.request("requests"))["requests"] if m["mti"][:2] != "08"]


async def postings(r):
    """What the bank's book holds: contract, kind, keys, amount."""
    accounts = (await r.bank.request("book"))["accounts"]
    return [{**p, "contract": contract} for contract, a in accounts.items() for p in a["postings"]]


async def adopt(r):
    return json.loads(await r.site.command("ledger", "adopt", "--reason", "drill", "--json"))


async def go_on(r):
    await r.site.gateway.start()
    await r.until(r.site.works, "it sells again")


def rows(r, sql):
    with closing(sqlite3.connect(f"file:{r.site.ledger}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(sql)]


def unlink(r, *sides):
    """Files beside the ledger."""
    for side in sides:
        Path(f"{r.site.ledger}{side}").unlink()


async def no_pair_came_twice(r):
    """With other content; and no payment was taken back."""
    told = Counter((m["terminal"], m["batch"], m["stan"]) for m in await heard(r) if m["mti"] == "0200")
    assert [keys for keys, count in told.items() if count > 1] == []
    assert [p for p in await postings(r) if p["kind"] == "reversal"] == []


def the_days(day):
    """The bank's files of the day of the drill, and of those around it."""
    date = datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC)
    return [f"{date + timedelta(days=n):%Y%m%d}" for n in (-1, 0, 1, 2)]


async def day_end(r, day):
    """The bank's files of these days come in, and the day is cleared."""
    site = load(r.site.site_file)
    terms = terms_of(site)
    for one in the_days(day):
        path = r.site.folder / f"bank-{one}.csv"
        await r.bank.request("day_file", day=one, path=str(path))
        with committing(site) as (commit, _):
            import_file(path, "bank-a", one, commit, terms)
    after = datetime.strptime(the_days(day)[-1], "%Y%m%d").replace(tzinfo=UTC) + timedelta(days=1)
    reader = engines.open_reader(site.storage.ledger)
    try:
        for one in the_days(day):
            with committing(site) as (commit, _):
                end = run_and_settle(one, reader, commit, terms, today=after.date())
    finally:
        reader.dispose()
    return end


def the_ledger_of(r, groups, posted):
    """The drill's ledger, a line a vehicle group: what the bank has, what our books have, what stands on the list."""
    ours = Counter()
    for row in rows(
        r, "select d.contract_ref, a.amount from attempt a join debit d on d.id = a.debit_id where a.state = 'approved'"
    ):
        ours[row["contract_ref"]] += row["amount"]
    keys = {f"bank-a/{p['terminal']}/{p['batch']}/{p['stan']}": p["contract"] for p in posted}
    listed = Counter()
    for row in rows(r, "select ref, amount from item where kind = 'missing_here' and state = 'open'"):
        listed[keys[row["ref"]]] -= row["amount"]
    bank = Counter()
    for p in posted:
        bank[p["contract"]] += p["amount_fen"]
    found = {}
    for name, vehicles in groups.items():
        contracts = [v.contract_ref for v in vehicles]
        for contract in contracts:
            assert bank[contract] == ours[contract] + listed[contract], (name, contract)
        found[name] = (len(vehicles), *(sum(side[c] for c in contracts) for side in (bank, ours, listed)))
    return found


def printed(found):
    lines = [f"{'sales':<28}{'number':>8}{'bank fen':>12}{'ours fen':>12}{'on the list':>14}"]
    lines += [f"{name:<28}{n:>8}{bank:>12}{ours:>12}{listed:>14}" for name, (n, bank, ours, listed) in found.items()]
    return "\n".join(lines)


# --- the restore drill --------------------------------------------------------------------------------------------


def test_the_restore_drill(tmp_path, capsys):
    before, under, lost, after = cars(701, 8), cars(711, 2), cars(721, 20), cars(781, 8)

    async def run():
        async with site_with(tmp_path, [*before, *under, *lost, *after]) as r:
            backup = r.site.folder / "backup.db"
            await pay(r, before)
            await asyncio.gather(pay(r, under), r.site.command("ledger", "backup", str(backup)))
            await pay(r, lost)
            day = f"{datetime.now(BEIJING):%Y%m%d}"
            await stop(r)
            await r.site.command("ledger", "restore", str(backup))
            await refused(r, "ledger_behind")
            with pytest.raises(ProgramFailed, match="ended with 1"):
                await r.site.command("ledger", "verify")
            adopted = await adopt(r)
            assert adopted["why"] == "ledger_behind"
            assert adopted["life"] == 2
            await go_on(r)
            await pay(r, after)
            await stop(r)
            await no_pair_came_twice(r)
            await day_end(r, day)
            groups = {"before the backup": before, "while it was made": under, "lost": lost, "after": after}
            posted = await postings(r)
            found = the_ledger_of(r, groups, posted)
            with capsys.disabled():
                print(f"\n{printed(found)}")
            paid = sum(car.fare_fen for car in lost)
            assert found["lost"] == (len(lost), paid, 0, paid)
            for name in ("before the backup", "after"):
                _, bank, ours, listed = found[name]
                assert (bank, listed) == (ours, 0), name
                assert bank == sum(car.fare_fen for car in groups[name])
            books = rows(
                r,
                "select (select sum(amount) from transfer where event = 'bank_approved') as approved,"
                " (select sum(amount) from transfer where event = 'settlement') as settled,"
                " (select -balance from account where kind = 'bank') as left_over",
            )[0]
            assert books["approved"] == sum(ours for _, _, ours, _ in found.values())
            assert books["settled"] + books["left_over"] == books["approved"]
            await r.site.command("ledger", "verify")

    asyncio.run(run())


# --- other ways to lose it ----------------------------------------------------------------------------------------


async def gone_on(r, vehicles, lost, more):
    """After an adoption: no pair twice, and what was lost is on the list with exactly its amount."""
    day = f"{datetime.now(BEIJING):%Y%m%d}"
    await go_on(r)
    await pay(r, more)
    await stop(r)
    await no_pair_came_twice(r)
    await day_end(r, day)
    found = the_ledger_of(r, {"kept": vehicles, "lost": lost, "after": more}, await postings(r))
    assert found["lost"][3] == sum(car.fare_fen for car in lost)
    await r.site.command("ledger", "verify")


def test_an_empty_ledger_in_its_place(tmp_path):
    """What a gateway does that makes a new one where the old one was not found: it cannot."""
    lost, more = cars(801, 5), cars(811, 4)

    async def run():
        async with site_with(tmp_path, [*lost, *more]) as r:
            await pay(r, lost)
            await stop(r)
            r.site.ledger.rename(r.site.folder / "lost.db")
            await refused(r, "ledger_gone")
            assert not r.site.ledger.exists()
            with pytest.raises(ProgramFailed, match="there is a mark"):
                await r.site.command("ledger", "create")
            assert (await adopt(r))["why"] == "ledger_gone"
            await r.site.command("mandates", "import", str(r.site.folder / "mandates.csv"))
            await gone_on(r, [], lost, more)

    asyncio.run(run())


def test_a_log_that_was_deleted_after_a_crash(tmp_path):
    kept, lost, more = cars(821, 3), cars(831, 4), cars(841, 3)

    async def run():
        async with site_with(tmp_path, [*kept, *lost, *more]) as r:
            await pay(r, kept)
            await stop(r)  # from here on it stands in the file itself
            await go_on(r)
            await pay(r, lost)
            await r.until(lambda: marked(r) == newest(r), "the mark has followed")
            await r.site.gateway.kill()
            unlink(r, "-wal", "-shm")
            await refused(r, "ledger_behind")
            await adopt(r)
            await gone_on(r, kept, lost, more)

    asyncio.run(run())


def marked(r):
    return json.loads(Path(f"{r.site.ledger}.mark").read_text())["journal"]


def newest(r):
    return rows(r, "select max(number) as n from journal")[0]["n"]


def test_a_kill_alone_is_none_of_this(tmp_path):
    """The mark trails, so what a crash leaves behind never looks like a loss."""
    before, after = cars(851, 2), cars(861, 2)

    async def run():
        async with site_with(tmp_path, [*before, *after]) as r:
            await pay(r, before)
            for _ in range(3):
                await r.site.gateway.kill()
                await go_on(r)
            await pay(r, after)
            await stop(r)
            await no_pair_came_twice(r)

    asyncio.run(run())


def test_a_wrong_path_makes_no_ledger(tmp_path):
    """A data disk that did not mount."""
    lost = cars(871, 2)

    async def run():
        async with site_with(tmp_path, lost) as r:
            await pay(r, lost)
            await stop(r)
            text = r.site.site_file.read_text()
            r.site.site_file.write_text(text.replace('ledger = "ledger.db"', 'ledger = "not-mounted/ledger.db"'))
            assert r.site.site_file.read_text() != text
            await refused(r, "ledger_missing")
            assert not (r.site.folder / "not-mounted").exists()
            with pytest.raises(ProgramFailed, match="there is no ledger"):
                await r.site.command("mandates", "import", str(r.site.folder / "mandates.csv"))

    asyncio.run(run())


def test_a_mark_that_was_deleted(tmp_path):
    kept, more = cars(881, 3), cars(891, 3)

    async def run():
        async with site_with(tmp_path, [*kept, *more]) as r:
            await pay(r, kept)
            await stop(r)
            unlink(r, ".mark")
            await refused(r, "mark_missing")
            with pytest.raises(ProgramFailed, match="there is a ledger"):
                await r.site.command("ledger", "create")
            assert (await adopt(r))["why"] == "mark_missing"
            await gone_on(r, kept, [], more)

    asyncio.run(run())


def test_the_whole_folder_deleted_and_created_anew_at_once(tmp_path):
    """Neither ledger nor mark is left to know which numbers were used: the clock does."""
    lost, more = cars(901, 4), cars(911, 4)

    async def run():
        async with site_with(tmp_path, [*lost, *more]) as r:
            await pay(r, lost)
            await stop(r)
            for left in r.site.folder.glob("ledger.db*"):
                left.unlink()
            await r.site.command("ledger", "create", "--reason", "all was lost")
            await r.site.command("mandates", "import", str(r.site.folder / "mandates.csv"))
            await gone_on(r, [], lost, more)

    asyncio.run(run())
