"""A change reads what it has inserted, whether that is written yet or not."""

import importlib
import pkgutil
import random
import sys

import pytest
from sqlalchemy import Select, bindparam, func, or_, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.sql.dml import Delete, Update

import gateway
from gateway.ledger import (
    engines,
    key_change,  # noqa: F401 - its statement is looked at
    tables,
)
from gateway.ledger.statements import Runner, Shape, Shapes
from gateway.ledger.transaction import Transaction
from hardware.bench.chain_key import KEYS

_PLATES = select(tables.subject.c.plate).where(tables.subject.c.card_number == bindparam("card"))
_ALL = select(func.count().label("n")).select_from(tables.subject)
_NEWEST_OF_CARD = _PLATES.where(tables.subject.c.id.in_(select(func.max(tables.subject.c.id))))
_EITHER = select(tables.subject.c.id).where(
    (tables.subject.c.card_number == bindparam("card")) | (tables.subject.c.plate == bindparam("plate"))
)


def written(tx):
    """How many subjects the database itself has."""
    return tx.connection.execute(text("select count(*) from subject")).scalar_one()


def subject(tx, number, **values):
    tx.insert(tables.subject, id=f"{number:032d}", **values)


def outbox(tx):
    """One waiting message with all that it refers to."""
    tx.insert(tables.subject, id="g")
    tx.insert(tables.passage, id="g", charge_point="l", service="toll", opened_at=1, clock_quality="x")
    tx.insert(tables.obligor, id="o", subject_key="k")
    tx.insert(
        tables.debit,
        id="d",
        idempotency_key="k",
        content_hash="h",
        passage_id="g",
        obligor_id="o",
        merchant="road",
        service="toll",
        day="20261123",
        funding="purse",
        payer="i",
        amount=1,
        state="held",
        hold_id=1,
        created_at=1,
        changed_at=1,
        abandoned="void",
    )


def test_what_was_inserted_is_found_by_any_of_its_values_without_being_written(tx):
    subject(tx, 1, card_number="11", plate="A")
    assert tx.find(tables.subject, id=f"{1:032d}").plate == "A"
    assert tx.find(tables.subject, card_number="11").plate == "A"
    subject(tx, 2, card_number="22", plate="B")
    assert tx.find(tables.subject, card_number="22").plate == "B"
    assert tx.find(tables.subject, card_number="22", plate="A") is None
    assert tx.find(tables.subject, id=f"{2:032d}", plate="A") is None
    assert tx.find(tables.subject, card_number="33") is None
    assert written(tx) == 0
    tx.finish()
    assert written(tx) == 2


def test_a_row_looks_the_same_before_and_after_it_is_written(tx):
    """Also where the database fills in what was not given."""
    outbox(tx)
    before = tx.find(tables.debit, id="d")
    tx.flush()
    after = tx.find(tables.debit, id="d")
    assert before == after
    assert before._fields == after._fields
    assert (after.stood_in, after.retries, after.collected, after.mandate_id) == (0, 0, 0, None)


def test_what_was_inserted_can_be_changed_before_it_is_written(tx):
    subject(tx, 1, card_number="11", plate="A")
    key = {"id": f"{1:032d}"}
    assert tx.find(tables.subject, plate="A") is not None
    assert tx.update(tables.subject, key, plate="B") == 1
    assert tx.update(tables.subject, {**key, "plate": "A"}, plate="C") == 0
    assert tx.update(tables.subject, {"id": "nobody"}, plate="C") == 0
    assert tx.find(tables.subject, plate="A") is None
    assert tx.find(tables.subject, plate="B") is not None
    assert written(tx) == 0
    tx.flush()
    assert tx.find(tables.subject, **key).plate == "B"


def test_a_change_by_other_columns_reaches_written_and_waiting_rows(tx):
    subject(tx, 1, card_number="11")
    tx.flush()
    subject(tx, 2, card_number="11")
    assert tx.update(tables.subject, {"card_number": "11"}, plate="B") == 2


def test_nothing_equals_null(tx):
    subject(tx, 1)
    assert tx.find(tables.subject, card_number=None) is None
    tx.flush()
    assert tx.find(tables.subject, card_number=None) is None


def test_two_rows_where_one_is_expected_are_an_error_waiting_or_not(tx):
    subject(tx, 1, plate="A")
    subject(tx, 2, plate="A")
    for _ in range(2):
        with pytest.raises(LookupError):
            tx.find(tables.subject, plate="A")
        tx.flush()


def test_a_select_sees_what_waits_and_writes_only_what_it_could_see(tx):
    subject(tx, 1, card_number="11", plate="A")
    assert tx.rows(_PLATES, card="22") == []
    assert written(tx) == 0
    assert [row.plate for row in tx.rows(_PLATES, card="11")] == ["A"]
    assert written(tx) == 1


def lines_written(tx):
    return tx.connection.execute(text("select count(*) from clearing_line")).scalar_one()


def cleared(tx, number, version, *, run=None):
    """A line of a day cleared under these rules, with a run of its own or one that was there before."""
    if run is None:
        run = number
        tx.insert(tables.clearing_run, day=f"{run:08d}", state="running", rules_version=version, began_at=1)
    group = {"merchant": "road", "payer": "bank", "payer_kind": "bank", "service": "toll", "seq": number}
    tx.insert(tables.clearing_line, id=number, day=f"{run:08d}", state="open", rules_version="1", **group)


_run, _line = tables.clearing_run, tables.clearing_line
_LINES = (
    select(_line.c.id)
    .join_from(_run, _line, _line.c.day == _run.c.day)
    .where(or_(_run.c.rules_version == bindparam("version"), _run.c.state == bindparam("state")))
    .order_by(_line.c.id)
)


def test_a_join_along_references_writes_only_what_it_could_see(tx):
    cleared(tx, 1, "11")
    assert tx.rows(_LINES, version="22", state=None) == []
    cleared(tx, 2, "22")
    assert lines_written(tx) == 0
    assert [row.id for row in tx.rows(_LINES, version="22", state=None)] == [2]
    assert lines_written(tx) == 2
    assert tx.rows(_LINES, version="33", state=None) == []


def test_a_join_sees_a_new_row_that_belongs_to_one_written_before(tx):
    cleared(tx, 1, "11")
    tx.flush()
    cleared(tx, 2, "22")
    assert tx.rows(_LINES, version="33", state=None) == []
    cleared(tx, 3, None, run=1)
    assert [row.id for row in tx.rows(_LINES, version="11", state=None)] == [1, 3]


def test_a_join_sees_a_new_row_that_was_moved_to_one_written_before(tx):
    cleared(tx, 1, "11")
    tx.flush()
    cleared(tx, 2, "22")
    assert tx.rows(_LINES, version="33", state=None) == []
    tx.update(_line, {"id": 2}, day=f"{1:08d}")
    assert len(tx.rows(_LINES, version="11", state=None)) == 2


_VERSION = _run.c.rules_version == bindparam("version")
_OUTER = select(_run.c.day).outerjoin(_line).where(_VERSION)
_CROSS = select(_run.c.day, _line.c.id).where(_VERSION)
_ELSEWISE = select(_line.c.id).join_from(_run, _line, _line.c.merchant == _run.c.day).where(_VERSION)
_MAYBE = select(_line.c.id).join_from(_run, _line).where(or_(_VERSION, _line.c.seq > 0))
_OTHER_END = select(_line.c.id).join_from(_run, _line).where(_line.c.merchant == bindparam("version"))


@pytest.mark.parametrize("statement", [_OUTER, _CROSS, _ELSEWISE, _MAYBE, _OTHER_END])
def test_a_join_that_cannot_be_judged_has_everything_written(tx, statement):
    cleared(tx, 1, "11")
    tx.rows(statement, version="22")
    assert lines_written(tx) == 1


@pytest.mark.parametrize("statement", [_ALL, _NEWEST_OF_CARD, _EITHER])
def test_a_select_that_cannot_be_judged_has_everything_written(tx, statement):
    subject(tx, 1, card_number="11", plate="A")
    values = {name: "none" for name in Shape(statement, sqlite.dialect()).sql.count("?") * ["card"]}
    if statement is _EITHER:
        values["plate"] = "A"
    tx.rows(statement, **values)
    assert written(tx) == 1


def test_a_reference_to_a_waiting_row_has_that_row_written_first(tx):
    cleared(tx, 1, "11")
    tx.flush()
    cleared(tx, 2, "22")
    assert tx.update(tables.clearing_line, {"id": 1}, day=f"{2:08d}") == 1


def test_an_unknown_column_is_refused_at_once(tx):
    with pytest.raises(TypeError, match="colour"):
        subject(tx, 1, colour=1)
    subject(tx, 1)
    with pytest.raises(TypeError, match="colour"):
        tx.update(tables.subject, {"id": f"{1:032d}"}, colour=1)


def test_a_row_without_its_number_is_refused(tx):
    with pytest.raises(ValueError, match="number"):
        tx.insert(tables.account, kind="open", owner="o", balance=0, held=0, version=0)


def test_a_refusal_of_the_database_is_known_as_one(tx):
    subject(tx, 1)
    tx.flush()
    subject(tx, 1)
    with pytest.raises(IntegrityError):
        tx.flush()
    with pytest.raises(IntegrityError):
        tx.update(tables.subject, {"id": f"{1:032d}"}, id=None)
    tx.connection.execute(text("drop table timing"))
    with pytest.raises(OperationalError):
        tx.find(tables.timing, record_no=1)


def test_a_number_that_is_new_and_one_that_is_known_are_both_kept(engine):
    for expected in (1, 3):
        with engine.begin() as connection:
            tx = Transaction(connection, 7, KEYS, random.Random(7))
            assert (tx.next_number("n"), tx.next_number("n")) == (expected, expected + 1)
            tx.note("test", "x", "begun")
            tx.finish()
    with engine.connect() as connection:
        assert connection.execute(text("select value from counter where name = 'n'")).scalar_one() == 4
        head = connection.execute(text("select number, digest from chain where name = 'journal'")).one()
        newest = connection.execute(text("select number, chain from journal order by number desc limit 1")).one()
    assert tuple(head) == tuple(newest)
    assert head.number == 5, "the key, and twice a note and what was sealed"


def statements_of_the_code():
    """Every statement that stands in a module of the gateway as a constant."""
    for found in pkgutil.walk_packages(gateway.__path__, "gateway."):
        if ".migrations" not in found.name:  # those run in Alembic alone
            importlib.import_module(found.name)
    for name, module in sorted(sys.modules.items()):
        if name.startswith("gateway."):
            for constant, value in vars(module).items():
                if isinstance(value, Select | Update | Delete):
                    yield f"{name}.{constant}", value


WHOLE_TABLE = {
    "gateway.banks.pos._HIGHEST",
    "gateway.debit.adoption._OPEN_CLAIMS",
    "gateway.debit.adoption._OPEN_REFUNDS",
    "gateway.debit.recovery._OPEN_DEBITS",
    "gateway.debit.recovery._QUEUED",
    "gateway.ledger.backup._NEWEST",
    "gateway.ledger.clock_readings._LATEST",
    "gateway.ledger.key_change._TIMES_IN_FORCE",
    "gateway.ledger.life._NEWEST",
    "gateway.ledger.transaction._HEADS",
    "gateway.points.fuel.book._GREY_OF_PAYER",
    "gateway.points.fuel.book._HELD_FOR_NOTHING",
}
"""On purpose: what an adoption must know of a whole ledger; all that waits or is held (an index of those alone), once
at start-up; the journal, once for a new key; the newest row of a copy's journal, of a ledger's few lives; the few
readings of its clocks; the heads of the few chains; the few sales that are grey (an index of those alone)."""


def test_no_statement_walks_through_a_table(engine):
    """A ledger holds millions of rows: whatever a change asks for, an index answers."""
    walks, seen = set(), 0
    with engine.connect() as connection:
        for name, statement in statements_of_the_code():
            sql = Shape(statement, engine.dialect).sql
            plan = connection.exec_driver_sql(f"explain query plan {sql}", (None,) * sql.count("?")).all()
            seen += 1
            if any(step[-1].startswith("SCAN") for step in plan):
                walks.add(name)
    assert walks == WHOLE_TABLE
    assert seen > 10


def test_a_ledger_opened_again_finds_its_statements_compiled(engine, tmp_path):
    again = engines.open_writer(tmp_path / "ledger.db")
    with engine.connect() as connection:
        first = Runner(connection).shape(_PLATES)
        assert Runner(connection).shape(_PLATES) is first
    with again.connect() as connection:
        assert Runner(connection).shape(_PLATES) is first
    again.dispose()


def test_statements_made_of_data_do_not_pile_up(tx, monkeypatch):
    monkeypatch.setattr("gateway.ledger.statements.SHAPES_MAX", 5)
    shapes = Shapes(tx.connection.dialect)
    for i in range(20):
        shapes.of(select(tables.subject).where(tables.subject.c.plate == str(i)))
    assert len(shapes._known) <= 5


def test_every_statement_can_be_written_for_another_database():
    for _, statement in statements_of_the_code():
        shape = Shape(statement, postgresql.dialect())
        assert "?" not in shape.sql
        assert isinstance(shape.arguments({}), dict)
