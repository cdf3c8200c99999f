"""Migrations: they make exactly the declared tables, run once, and leave databases of the future alone."""

import re
import sqlite3
from contextlib import closing

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, UniqueConstraint, inspect, select, text

from gateway.ledger import chain, database, schema, tables, verify_chains, verify_seals
from gateway.ledger.batches import Committer
from gateway.ledger.first_seals import KeysNeeded
from gateway.ledger.schema import SchemaTooNew
from gateway.ledger.verify import verify
from gateway.model.states import MOVES
from hardware.bench.chain_key import BENCH_KEY, KEYS
from hardware.bench.clocks import StillClock


@pytest.fixture
def engine(tmp_path):
    engine = database.open_new(tmp_path / "folder" / "ledger.db")
    yield engine
    engine.dispose()


def test_upgrade_makes_what_the_tables_declare(engine):
    head = schema.upgrade(engine)
    with engine.begin() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, tables.metadata) == []
        assert context.get_current_revision() == head


def test_constraints_and_partial_indexes_are_those_declared(engine):
    """Alembic does not compare check constraints, nor the conditions of partial indexes."""
    schema.upgrade(engine)
    found = inspect(engine)
    for table in tables.metadata.sorted_tables:
        checks = {str(c.sqltext) for c in table.constraints if isinstance(c, CheckConstraint)}
        assert {c["sqltext"] for c in found.get_check_constraints(table.name)} == checks, table.name
        unique = {
            tuple(column.name for column in c.columns) for c in table.constraints if isinstance(c, UniqueConstraint)
        }
        assert {tuple(c["column_names"]) for c in found.get_unique_constraints(table.name)} == unique, table.name
        for index in table.indexes:
            where = index.dialect_options["sqlite"]["where"]
            with engine.connect() as connection:
                sql = connection.execute(
                    text("select sql from sqlite_master where name = :n"), {"n": index.name}
                ).scalar_one()
            assert (where is None) == (" WHERE " not in sql.upper()), index.name
            if where is not None:
                assert str(where) in sql


@pytest.mark.parametrize("noun", MOVES)
def test_the_database_takes_the_states_of_the_enums_and_no_other(engine, noun):
    """The text of its check, as the migrations made it, against the table of moves."""
    schema.upgrade(engine)
    checks = {c["name"]: c["sqltext"] for c in inspect(engine).get_check_constraints(noun)}
    states = ", ".join(f"'{state}'" for state in MOVES[noun] if state is not None)
    assert set(re.findall(r"'\w+'", checks[f"ck_{noun}_state_known"])) == set(states.split(", "))


def test_upgrade_twice_changes_nothing(engine):
    first = schema.upgrade(engine)
    with engine.connect() as connection:
        before = connection.execute(text("select name, sql from sqlite_master order by name")).all()
    assert schema.upgrade(engine) == first
    with engine.connect() as connection:
        assert connection.execute(text("select name, sql from sqlite_master order by name")).all() == before


def test_a_database_of_the_future_is_refused_untouched(engine):
    schema.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("update alembic_version set version_num = '9999'"))
    with pytest.raises(SchemaTooNew) as refused:
        schema.upgrade(engine)
    assert refused.value.found == "9999"
    assert "9999" in str(refused.value)
    with engine.connect() as connection:
        assert connection.execute(text("select version_num from alembic_version")).scalar_one() == "9999"


def test_a_failed_upgrade_leaves_nothing_behind(engine, monkeypatch):
    """Half a schema would be neither the old nor the new one."""
    monkeypatch.setattr(schema, "MigrationContext", _Failing)
    with pytest.raises(RuntimeError, match="power"):
        schema.upgrade(engine)
    assert inspect(engine).get_table_names() == []


class _Failing:
    """Creates a table, then fails, in the transaction of the upgrade."""

    @staticmethod
    def configure(connection):
        connection.execute(text("create table half (x)"))
        raise RuntimeError("power cut")


@pytest.mark.parametrize("pragma", ["journal_mode", "synchronous", "foreign_keys"])
def test_the_writer_is_set_for_money(engine, pragma):
    expected = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    with engine.connect() as connection:
        assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one() == expected[pragma]


def test_a_batch_takes_the_write_lock_when_it_begins(engine, tmp_path):
    schema.upgrade(engine)
    other = sqlite3.connect(tmp_path / "folder" / "ledger.db", timeout=0)
    with engine.begin(), closing(other), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")


def test_a_reader_cannot_write_and_sees_one_state_throughout(engine, tmp_path):
    schema.upgrade(engine)
    reader = database.open_reader(tmp_path / "folder" / "ledger.db")
    with reader.connect() as connection:
        assert connection.execute(text("select count(*) from counter")).scalar_one() == 0
        with engine.begin() as writing:
            writing.execute(text("insert into counter values ('n', 1)"))
        assert connection.execute(text("select count(*) from counter")).scalar_one() == 0
    with reader.connect() as connection:
        assert connection.execute(text("select count(*) from counter")).scalar_one() == 1
        with pytest.raises(Exception, match=r"readonly|query_only"):
            connection.execute(text("delete from counter"))
    reader.dispose()


def first_release(engine):
    migrate(engine, "0001")
    with engine.begin() as connection:
        for statement in FIRST_RELEASE.split(";")[:-1]:
            connection.execute(text(statement))


def test_a_ledger_of_the_first_release_keeps_its_rows_and_gets_its_chains(engine):
    """Every row of the first release is still there, chained and sealed, and the new shape is the declared one."""
    first_release(engine)
    head = schema.upgrade(engine, KEYS)
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, tables.metadata) == []
        assert context.get_current_revision() == head
        debit = connection.execute(text("select service, day, collected, refunded, state from debit")).one()
        assert tuple(debit) == ("toll", "20231115", 1425, 0, "funded")
        item = connection.execute(text("select kind, ref, debit_id, state, amount, changed_at from item")).one()
        assert tuple(item) == ("charged_without_tac", "d", "d", "open", 0, 5)
        begun = connection.execute(text("select number from journal where kind = 'chain_key'")).scalar_one()
        for name, number in chain.CHAINED.items():
            table = tables.metadata.tables[name]
            digest, last = chain.GENESIS, 0
            for row in connection.execute(select(table).order_by(table.c[number])).mappings():
                values = [row[c.name] for c in table.columns if c.name not in ("chain", "content")]
                if name == "journal" and row[number] >= begun:
                    digest = chain.link(BENCH_KEY, name, digest, [*values, row["content"]])
                else:
                    digest = chain.unkeyed_link(digest, values)
                assert row["chain"] == digest
                last += 1
                assert row[number] == last
            found = connection.execute(select(tables.chain).where(tables.chain.c.name == name)).one()
            assert (found.number, found.digest) == (last, digest)
        assert connection.execute(text("select count(*) from counter where name = 'record_no'")).scalar_one() == 0
        assert connection.execute(text("select count(*) from subject where length(salt) = 16")).scalar_one() == 1


def proofs(engine):
    """Findings of the chains and the seals."""
    names = (*verify_chains.NAMES.values(), verify_seals.NAME)
    return [finding for check in verify(engine, KEYS) if check.name in names for finding in check.findings]


def test_what_was_sealed_at_the_upgrade_is_vouched_for_from_then_on(engine):
    first_release(engine)
    schema.upgrade(engine, KEYS)
    assert proofs(engine) == []
    Committer(engine, StillClock(9), keys=KEYS).commit([lambda tx: tx.note("test", "x", "noted")])
    assert proofs(engine) == []
    with engine.begin() as connection:
        connection.execute(text("update debit set payer = 'other'"))
    (finding,) = proofs(engine)
    assert (finding.table, finding.row, finding.column) == ("debit", "debit d", "payer")


@pytest.mark.parametrize("name", ["transfer", "decision"])
def test_rows_of_before_the_key_are_vouched_for_by_the_heads_it_notes(engine, name):
    """Their links can be made anew by everybody; the head that was noted cannot."""
    first_release(engine)
    schema.upgrade(engine, KEYS)
    table, number = tables.metadata.tables[name], chain.CHAINED[name]
    when = {"transfer": "booked_at", "decision": "decided_at"}[name]
    with engine.begin() as connection:
        connection.execute(text(f"update {name} set {when} = 8 where {number} = 1"))
        digest = chain.GENESIS
        for row in connection.execute(select(table).order_by(table.c[number])).mappings().all():
            digest = chain.unkeyed_link(digest, [row[c.name] for c in table.columns if c.name != "chain"])
            connection.execute(table.update().where(table.c[number] == row[number]).values(chain=digest))
        connection.execute(tables.chain.update().where(tables.chain.c.name == name).values(digest=digest))
    (finding,) = proofs(engine)
    assert finding.table == name
    assert "head that the journal has noted" in finding.problem


def test_a_ledger_with_rows_is_not_brought_here_without_a_key(engine):
    first_release(engine)
    with pytest.raises(KeysNeeded):
        schema.upgrade(engine)
    assert schema.look(engine).found == "0001", "all or nothing"
    schema.upgrade(engine, KEYS)


def test_the_migrations_alone_make_what_the_tables_declare(engine):
    migrate(engine, "head")
    test_upgrade_makes_what_the_tables_declare(engine)
    test_constraints_and_partial_indexes_are_those_declared(engine)


def migrate(engine, revision):
    """What an older version would have done to a new file."""
    with database.without_foreign_keys(engine) as connection:
        command.upgrade(schema._config(connection), revision)


FIRST_RELEASE = """
    insert into counter values ('record_no', 1);
    insert into subject (id) values ('s');
    insert into passage (id, charge_point, service, subject_id, opened_at, clock_quality)
        values ('p', 'lane-1', 'toll', 's', 0, 'trusted');
    insert into obligor (id) values ('o');
    insert into account values (1, 'open', 'o', 0, 0, 3), (2, 'merchant', 'road', 1425, 0, 1),
        (3, 'issuer', '9901', -1425, 0, 1);
    insert into debit (id, idempotency_key, content_hash, passage_id, obligor_id, merchant, funding, payer, amount,
        state, hold_id, created_at, changed_at)
        values ('d', 'k', 'h', 'p', 'o', 'road', 'purse', '9901', 1425, 'funded', 1, 1700000000000000, 5);
    insert into transfer values (1, 'pending', 'hold', 'd', null, 1, 2, 1425, null, 3, 3),
        (2, 'post', 'released', 'd', null, 1, 2, 1425, 1, 4, 4),
        (3, 'direct', 'purse_paid', 'd', null, 3, 1, 1425, null, 5, 5);
    insert into decision (record_no, passage_id, debit_id, charge_point, barrier, outcome, amount, recovered,
        decided_at) values (1, 'p', 'd', 'lane-1', 'open', 'paid', 1425, 0, 5);
    insert into item values (1, 'charged_without_tac', 'd', 'open', 'note', 5);
"""
