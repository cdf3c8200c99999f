"""Migrations: they make exactly the declared tables, run once, and leave databases of the future alone."""

import re

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, UniqueConstraint, inspect, text

from gateway.ledger import engines, schema, tables
from gateway.ledger.schema import SchemaTooNew, SchemaTooOld
from gateway.model.states import MOVES


@pytest.fixture
def engine(tmp_path):
    engine = engines.open_new(tmp_path / "folder" / "ledger.db")
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


@pytest.mark.parametrize("older", ["0001", "0010"])
def test_a_database_of_before_the_first_release_is_refused_untouched(engine, older):
    schema.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text(f"update alembic_version set version_num = '{older}'"))
    with pytest.raises(SchemaTooOld, match="keep the file, and create a new ledger"):
        schema.upgrade(engine)
    assert schema.look(engine).found == older


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
