"""A large import of mandates beside a running gateway: cars are sold to between its first slice and its last."""

import asyncio
import sqlite3
from contextlib import closing

import pytest

from hardware.bench.scenario import mandate_lines

from .test_site_faults import online, purse, scenario

pytestmark = pytest.mark.bench

MANDATES = 30_000
"""Several seconds of writing on any machine this runs on: many cars."""

CARS_BETWEEN = 3


def many_more():
    return [f"x{n},active,issuer_clearing,,,,0,9902{n:016d},,,," for n in range(MANDATES)]


def rows(r, sql):
    with closing(sqlite3.connect(f"file:{r.site.ledger}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def events(r):
    """Numbers in the journal of begin and end of the second import: the first is the site's own."""
    return dict(rows(r, "select event, number from journal where kind = 'mandates' and ref = 'import 2'"))


def test_cars_go_on_being_sold_to_while_mandates_are_imported(tmp_path):
    cars = [purse(n) if n % 2 else online(n) for n in range(300, 360)]

    async def inside(r):
        file = r.site.folder / "many.csv"
        file.write_text("\n".join([*mandate_lines(cars), *many_more()]) + "\n")
        importing = asyncio.create_task(r.site.command("mandates", "import", str(file)))
        await r.until(lambda: "begun" in events(r), "the import begins")
        driven = []
        for car in cars:
            if importing.done():
                break
            assert (await r.demo.drive_one(car)).right, car.id
            driven.append(car)
        await importing
        begun, ended = (events(r)[event] for event in ("begun", "ended"))
        # Numbers of one chain are in the order of the commits: what stands between the two was committed between them.
        paid = rows(r, f"select debit_id from journal where event = 'funded' and number > {begun} and number < {ended}")
        assert len(paid) >= CARS_BETWEEN
        assert [[debit.state for debit in r.debits(car)] for car in driven] == [["funded"]] * len(driven)
        assert rows(r, "select count(*) from mandate where id like 'x%'") == [(MANDATES,)]

    scenario(tmp_path, cars, inside, deadline_ms=2000)


def test_an_import_that_was_killed_is_told_at_the_next_start_and_finished_by_the_next_command(tmp_path):
    car = online(361)

    async def inside(r):
        file = r.site.folder / "many.csv"
        file.write_text("\n".join([*mandate_lines([car]), *many_more()]) + "\n")
        importing = asyncio.create_task(r.site.command("mandates", "import", str(file)))
        await r.until(lambda: rows(r, "select count(*) from mandate where id like 'x%'") > [(0,)], "it writes")
        importing.cancel()  # kills the process
        await asyncio.gather(importing, return_exceptions=True)
        assert "ended" not in events(r)
        assert (await r.demo.drive_one(car)).right
        assert await r.site.gateway.stop() == 0
        await r.site.gateway.start()
        await r.until(r.site.works, "it sells again")
        assert "was cut short" in (r.site.folder / "gateway.log").read_text()
        await r.site.command("ledger", "verify")
        await r.site.command("mandates", "import", str(file))
        assert rows(r, "select count(*) from mandate where id like 'x%'") == [(MANDATES,)]
        assert rows(r, "select count(distinct value) from counter where name like 'mandate_import%'") == [(1,)]

    scenario(tmp_path, [car], inside)
