"""The large ledger is a true one, and what is measured on it is compared with the same rows."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from drivers.clock import SystemClock
from gateway.ledger import engines
from gateway.ledger.incarnation import LedgerRefused
from gateway.ledger.verify import verify
from gateway.model.clock import to_us
from hardware.bench import large
from hardware.bench.chain_key import KEYS

DEBITS = 1_000
"""One of every kind, and every vehicle once."""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return large.grow(tmp_path_factory.mktemp("large"), DEBITS)


def test_it_agrees_with_itself(site):
    engine = engines.open_reader(site.ledger)
    found = [finding for check in verify(engine, KEYS) for finding in check.findings]
    engine.dispose()
    assert found == []
    with closing(sqlite3.connect(site.ledger)) as connection:
        states = dict(connection.execute("select state, count(*) from debit group by state"))
        first, last = connection.execute("select min(decided_at), max(decided_at) from decision").fetchone()
    assert states == {"funded": 749, "released": 250, "owed": 1}
    assert large.DAY_US < last - first < large.MONTH_US
    assert last < to_us(SystemClock().utcnow())


def test_none_is_made_in_the_place_of_another(site):
    with pytest.raises(LedgerRefused):
        large.grow(site.folder, 1)


def test_a_start_and_every_command_are_measured(site, monkeypatch):
    monkeypatch.setattr(large, "TAKES", 1)
    taken = asyncio.run(large.measure_site(site, DEBITS))
    assert set(taken) == {"start", *(command.name for command in large.commands(DEBITS))}
    assert all(one.cpu_s > 0 and one.plain_cpu_s > 0 and one.resident_mb > 1 for one in taken.values())


def test_other_rows_are_no_reference(site):
    accounts = next(command for command in large.commands(DEBITS) if command.name == "ledger accounts")
    with pytest.raises(ValueError, match="plain SQL"):
        large._take(site, replace(accounts, sql="select 1"))
