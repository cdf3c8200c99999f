"""Rows that never change: whatever is done to one of them is found, and the first bad row is named."""

import asyncio
import shutil
import sqlite3

import pytest

from gateway.ledger import chain, engines, tables, verify_chains
from gateway.ledger.verify import NOTED_HEADS
from gateway.model.passage import Funding
from hardware.bench.chain_key import BENCH_KEY, KEYS
from tests.gateway.debit.conftest import APPROVED, DECLINED, SILENT, Box, charge, hold_request, payer_of
from tests.gateway.ledger.in_parts import verify

NAMES = verify_chains.NAMES


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    """A ledger with several rows in every chain."""
    path = tmp_path_factory.mktemp("chains") / "ledger.db"
    box = Box(path)

    async def fill():
        async with box:
            for n, answer in enumerate((APPROVED, DECLINED, SILENT)):
                box.bank.answers.append(answer)
                payer = payer_of(Funding.BANK_ONLINE, mandate=f"m{n}")
                await charge(box, hold_request(f"k{n}", payer=payer, card=f"9901{n:016d}"))
            for n in range(4):
                await box.writer.submit(lambda tx, n=n: tx.note("test", f"row {n}", "noted", detail="d", actor="a"))

    asyncio.run(fill())
    return path


@pytest.fixture
def path(made_once, tmp_path):
    return shutil.copy(made_once, tmp_path / "ledger.db")


def checks_of(path, noted=()):
    reader = engines.open_reader(path)
    try:
        return {check.name: check for check in verify(reader, KEYS, noted=noted)}
    finally:
        reader.dispose()


def chains_of(path, noted=()):
    """Findings of the chains and of noted heads, by check."""
    found = checks_of(path, noted)
    return {name: found[name].findings for name in (*NAMES.values(), NOTED_HEADS) if name in found}


def only(path, name, noted=()):
    (finding,) = (finding for findings in chains_of(path, noted).values() for finding in findings)
    assert finding.check == name
    return finding


def heads_of(path):
    return {c.head.chain: c.head for c in checks_of(path).values() if c.head is not None}


def plant(path, *statements):
    """Change the file behind everybody's back."""
    with sqlite3.connect(path) as connection:
        connection.execute("pragma foreign_keys = off")
        connection.execute("pragma ignore_check_constraints = on")
        for statement in statements:
            assert connection.execute(statement).rowcount >= 1, statement
    connection.close()


def chain_again(path, name, key=BENCH_KEY):
    """What somebody does who has a key and knows how it works: all links and the head are made anew."""
    number = chain.CHAINED[name]
    columns = [column.name for column in tables.metadata.tables[name].columns if column.name != "chain"]
    with sqlite3.connect(path) as connection:
        digest, count = chain.GENESIS, 0
        for row in connection.execute(f"select {', '.join(columns)} from {name} order by {number}").fetchall():
            digest, count = chain.link(key, name, digest, row), count + 1
            place = row[columns.index(number)]
            connection.execute(f"update {name} set chain = ? where {number} = ?", (digest, place))
        connection.execute("update chain set number = ?, digest = ? where name = ?", (count, digest, name))
    connection.close()


def test_untouched_chains_hold_and_show_their_heads(path):
    assert set(chains_of(path)) == set(NAMES.values())
    assert not any(chains_of(path).values())
    heads = heads_of(path)
    with sqlite3.connect(path) as connection:
        stored = {n: (number, bytes(digest).hex()) for n, number, digest in connection.execute("select * from chain")}
    connection.close()
    assert {name: (head.number, head.digest) for name, head in heads.items()} == stored
    assert all(head.number >= 3 for head in heads.values())


COLUMNS = [
    (name, column.name)
    for name in NAMES
    for column in tables.metadata.tables[name].columns
    if column.name != chain.CHAINED[name]
]


@pytest.mark.parametrize(("name", "column"), COLUMNS, ids=lambda value: value)
def test_every_column_of_a_chained_row_is_vouched_for(path, name, column):
    number = chain.CHAINED[name]
    value = "x'00'" if column == "chain" else f"coalesce({column}, 0) + 1"
    plant(path, f"update {name} set {column} = {value} where {number} = 2")
    finding = only(path, NAMES[name])
    assert finding.row == f"{name} 2"
    assert "changed" in finding.problem


def test_the_kind_of_a_value_counts_too(path):
    plant(path, "update journal set detail = '' where number = 3 and detail is null")
    assert only(path, NAMES["journal"]).row == "journal 3"


@pytest.mark.parametrize("name", NAMES)
def test_a_row_taken_out_is_named(path, name):
    plant(path, f"delete from {name} where {chain.CHAINED[name]} = 2")
    finding = only(path, NAMES[name])
    assert finding.row == f"{name} 2"
    assert "missing" in finding.problem


@pytest.mark.parametrize("name", NAMES)
def test_the_first_row_taken_out_is_named(path, name):
    plant(path, f"delete from {name} where {chain.CHAINED[name]} = 1")
    assert only(path, NAMES[name]).row == f"{name} 1"


@pytest.mark.parametrize("name", NAMES)
def test_rows_cut_off_at_the_end_are_told_by_the_head(path, name):
    number = heads_of(path)[name].number
    plant(path, f"delete from {name} where {chain.CHAINED[name]} >= {number - 1}")
    finding = only(path, NAMES[name])
    assert finding.row == f"{name} {number - 1}"
    assert f"says {number} rows" in finding.problem


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_chain_taken_out_is_told_by_the_head(path, name):
    plant(path, f"delete from {name}")
    assert only(path, NAMES[name]).row == f"{name} 1"


@pytest.mark.parametrize(
    "head", ["digest = x'00' where name = 'journal'", "number = number + 1 where name = 'journal'"]
)
def test_a_head_that_was_changed_is_told(path, head):
    plant(path, f"update chain set {head}")
    assert "head" in only(path, NAMES["journal"]).problem


def test_a_head_taken_out_is_told(path):
    plant(path, "delete from chain where name = 'journal'")
    assert only(path, NAMES["journal"]).row == "journal 1"


def test_a_row_put_in_is_told(path):
    number = heads_of(path)["journal"].number + 1
    plant(path, f"insert into journal select {number}, kind, ref, debit_id, event, detail, actor, at, chain, content"
          " from journal where number = 1")  # fmt: skip
    assert only(path, NAMES["journal"]).row == f"journal {number}"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("act", ["update", "delete"])
def test_a_chain_made_anew_is_told_by_a_head_noted_before(path, name, act):
    noted = [head.digest for head in heads_of(path).values()]
    assert not any(chains_of(path, noted).values())
    number, last = chain.CHAINED[name], heads_of(path)[name].number
    when = {"journal": "at", "transfer": "booked_at", "decision": "decided_at"}[name]
    plant(
        path,
        f"update {name} set {when} = 7 where {number} = 2"
        if act == "update"
        else f"delete from {name} where {number} = {last}",
    )
    chain_again(path, name)
    assert not any(chains_of(path).values()), "nothing in the file itself can show it"
    lost = only(path, NOTED_HEADS, noted)
    assert heads_of(path)[name].digest not in noted
    assert lost.row in noted


def test_an_older_head_still_stands_after_more_was_written(path):
    noted = [head.digest.upper() for head in heads_of(path).values()]
    box = Box(path)
    box.clock.now += 100

    async def more():
        async with box:
            await charge(box, hold_request("later"))

    asyncio.run(more())
    assert set(noted).isdisjoint(head.digest.upper() for name, head in heads_of(path).items() if name != "journal")
    found = checks_of(path, noted)[NOTED_HEADS]
    assert found.ok
    assert found.rows == 3


def test_behind_a_broken_row_no_noted_head_is_believed(path):
    noted = [heads_of(path)["journal"].digest]
    plant(path, "update journal set event = 'other' where number = 2")
    found = chains_of(path, noted)
    assert found[NAMES["journal"]]
    assert found[NOTED_HEADS]


def test_an_empty_ledger_is_whole(tmp_path):
    box = Box(tmp_path / "ledger.db")
    box.open()
    found = checks_of(tmp_path / "ledger.db")
    assert all(found[name].ok for name in NAMES.values())
    assert {name: found[of].rows for name, of in NAMES.items() if found[of].rows} == {"journal": 3}, (
        "its key, its making, their seal"
    )
    box.database.dispose()
    box.reader.dispose()
