"""A real gateway serves, somebody changes its ledger's file while it is down, and `etcgw ledger verify` names what."""

import asyncio
import json
import sqlite3
import sys
from contextlib import closing

import pytest

from hardware.bench.demo import Demo
from hardware.bench.processes import EmulatedSite
from tests.hardware.test_site_faults import Running, online, purse

pytestmark = [pytest.mark.bench, pytest.mark.timeout(300)]

FIRST = "(select id from debit order by hold_id limit 1)"
CHANGES = {
    # A refund goes to the account that stands here: to the second car's, not to the one that paid.
    ("debit", "contract_ref"): "update debit set contract_ref = (select max(contract_ref) from debit)"
    " where contract_ref = (select min(contract_ref) from debit)",
    ("debit", "merchant"): f"update debit set merchant = 'another' where id = {FIRST}",
    ("debit", "obligor_id"): f"update debit set obligor_id = (select max(id) from obligor) where id = {FIRST}",
    ("debit", "day"): f"update debit set day = '20200101' where id = {FIRST}",
    (
        "pos_attempt",
        "stan",
    ): "update pos_attempt set stan = '999999' where attempt_id = (select min(attempt_id) from pos_attempt)",
    ("attempt", "request"): "update attempt set request = x'00'",
    ("attempt", None): "delete from attempt",
    ("purchase", "tac"): "update purchase set tac = '00000000'",
    ("purchase", None): "delete from purchase",
    ("subject", "plate"): "update subject set plate = '测A99999'",
    ("credential", "mandate_id"): "update credential set mandate_id = (select max(id) from mandate)",
    ("mandate", "stand_in_limit_fen"): "update mandate set stand_in_limit_fen = 1000000000",
    ("counter", "value"): "update counter set value = 0",
}
"""By what verification must name: the row and, unless it is gone, the column."""


def verified(site):
    """Exit status and answer of `etcgw ledger verify`, a process of its own."""

    async def run():
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.cli.main", "ledger", "verify", "--json"),
            *("--config", str(site.site_file)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        out, _ = await process.communicate()
        return process.returncode, json.loads(out)

    return run()


def named(answer):
    return {(f["table"], f["column"]) for check in answer["checks"] for f in check["findings"]}


def changed(ledger, statement):
    with closing(sqlite3.connect(ledger, isolation_level=None)) as connection:
        connection.execute("pragma foreign_keys=off")
        return connection.execute(statement).rowcount


def test_whatever_was_done_to_the_file_is_named(tmp_path):
    cars = [online(401), online(402), purse(403)]

    async def inside():
        async with EmulatedSite(tmp_path) as site:
            demo = Demo(site, cars)
            await demo.prepare()
            r = Running(site, demo)
            await r.until(site.works, "the site comes up")
            for car in cars:
                await r.arrive(car)
                await r.open(car)
                await r.leave(car)
            assert await site.gateway.stop() == 0
            code, answer = await verified(site)
            assert (code, answer["ok"]) == (0, True)
            with closing(sqlite3.connect(site.ledger)) as whole, closing(sqlite3.connect(tmp_path / "kept.db")) as kept:
                whole.backup(kept)
            missed = []
            for wanted, statement in CHANGES.items():
                assert changed(site.ledger, statement) > 0, statement
                code, answer = await verified(site)
                if code != 1 or wanted not in named(answer):
                    missed.append((wanted, named(answer)))
                with (
                    closing(sqlite3.connect(tmp_path / "kept.db")) as kept,
                    closing(sqlite3.connect(site.ledger)) as it,
                ):
                    kept.backup(it)
            assert missed == []
            code, _ = await verified(site)
            assert code == 0

    asyncio.run(inside())
