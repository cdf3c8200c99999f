"""Imports in short transactions: whoever looks in between finds every credential where one of the two files had it."""

import random

import pytest
from sqlalchemy import select

from gateway.ledger import engines, pace, schema, tables
from gateway.ledger.batches import Committer
from gateway.ledger.pace import Pace
from gateway.ledger.verify import verify
from gateway.payers import fuel_terms, mandate_import
from gateway.payers.fuel_terms import NO_TERMS, FuelTerms
from gateway.payers.mandate_import import UNIT_ROWS_MAX, ImportOvertaken, bring_in, compare, is_under_way
from gateway.payers.mandates import COLUMNS, MandateImportError, read_csv
from hardware.bench.chain_key import KEYS
from hardware.bench.clocks import StillClock

pytestmark = pytest.mark.slow


class Desk:
    """A ledger, and imports into it."""

    def __init__(self, path):
        engine = engines.open_new(path)
        schema.upgrade(engine)
        self.engine = engine
        self.reader = engines.open_reader(path)
        self.committer = Committer(engine, StillClock(1_700_000_000_000_000), keys=KEYS)
        self.between = lambda: None
        """Called after every transaction."""
        self.rows_at_once = []

    def commit(self, change):
        result = self.committer.commit([change])[0]
        self.between()
        return result

    def bring(self, lines, commit=None):
        mandates, credentials = read_csv([",".join(COLUMNS), *lines])
        return bring_in(
            self.reader,
            commit or self.commit,
            mandates,
            credentials,
            name="file.csv",
            pace=Pace(),
            show=lambda _: None,
            tell=lambda *_: None,
        )

    def payers(self):
        """Agreement number and plate by credential: what a lane finds."""
        m, c = tables.mandate, tables.credential
        with self.reader.connect() as connection:
            rows = connection.execute(select(c.c.kind, c.c.key, m.c.contract_ref, c.c.plate).join_from(c, m))
            return {(row.kind, row.key): (row.contract_ref, row.plate) for row in rows}

    def said(self):
        with self.reader.connect() as connection:
            return is_under_way(connection)

    def findings(self):
        return [finding for check in verify(self.reader, KEYS) for finding in check.findings]


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path / "ledger.db")
    yield desk
    desk.reader.dispose()
    desk.engine.dispose()


def line(mandate, contract, card, plate=""):
    return f"m{mandate},active,bank_online,bank-1,62179901{contract:08d},,0,{card:020d},,{plate},{'0' if plate else ''}"


def some_file(chance):
    """Mandates with cards that come, go, change hands and plates; agreements that do the same."""
    lines = []
    cards = chance.sample(range(40), 25)
    for mandate in chance.sample(range(12), 9):
        contract = chance.randrange(6)
        for _ in range(chance.randrange(1, 4)):
            if cards:
                card = cards.pop()
                lines.append(line(mandate, contract, card, chance.choice(["", f"测A{card:05d}", f"测B{card:05d}"])))
    return lines


@pytest.mark.parametrize("unit_rows", [1, UNIT_ROWS_MAX])
def test_at_every_moment_a_credential_is_as_in_the_old_file_or_the_new_or_nobodys(desk, monkeypatch, unit_rows):
    monkeypatch.setattr(pace, "FIRST_ROWS", 1)
    monkeypatch.setattr(mandate_import, "UNIT_ROWS_MAX", unit_rows)
    chance = random.Random(7)
    for _ in range(25):
        lines = some_file(chance)
        old, seen = desk.payers(), []
        desk.between = lambda seen=seen: seen.append(desk.payers())
        desk.bring(lines)
        new = desk.payers()
        for payers in seen:
            strange = {name: found for name, found in payers.items() if found not in (old.get(name), new.get(name))}
            assert strange == {}
        mandates, credentials = read_csv([",".join(COLUMNS), *lines])
        assert {c.name: mandates[c.mandate_id].contract_ref for c in credentials} == {
            name: contract for name, (contract, _) in new.items()
        }
        assert not desk.said()
    assert desk.findings() == []


def test_a_card_that_passes_to_a_new_mandate_is_never_nobodys(desk, monkeypatch):
    monkeypatch.setattr(pace, "FIRST_ROWS", 1)
    desk.bring([line(1, 1, 10), line(1, 1, 11)])
    seen = []
    desk.between = lambda: seen.append(("card", f"{11:020d}") in desk.payers())
    desk.bring([line(1, 1, 10), line(2, 2, 11)])
    assert all(seen)


def test_the_longest_transaction_is_bounded_by_rows_whatever_is_imported(desk, monkeypatch):
    """Also where one mandate has a fleet of cards."""
    monkeypatch.setattr(pace, "FIRST_ROWS", 100)
    written = []
    apply = mandate_import._apply

    def counted(tx, units):
        written.append(sum(unit.rows for unit in units))
        apply(tx, units)

    monkeypatch.setattr(mandate_import, "_apply", counted)
    desk.bring([line(n, n, n) for n in range(700)])
    desk.bring([line(9, 9, n) for n in range(700)])
    desk.bring([line(10, 10, n) for n in range(700)])
    assert max(written) < 100 + UNIT_ROWS_MAX
    assert sum(written) > 3000


def test_what_was_cut_short_is_said_and_finished_by_the_same_file(desk, monkeypatch):
    monkeypatch.setattr(pace, "FIRST_ROWS", 10)
    old, new = [line(n, n, n) for n in range(50)], [line(n, n + 1, n) for n in range(20, 90)]
    desk.bring(old)
    left = [4]

    def commit(change):
        if not left[0]:
            raise InterruptedError
        left[0] -= 1
        return desk.commit(change)

    with pytest.raises(InterruptedError):
        desk.bring(new, commit)
    assert desk.said()
    assert desk.findings() == []
    rest = desk.bring(new)
    assert 0 < rest.added < 70, "what was written stays"
    assert not desk.said()
    mandates, credentials = read_csv([",".join(COLUMNS), *new])
    with desk.reader.connect() as connection:
        assert compare(connection, mandates, credentials).changes.none
    assert desk.findings() == []


def test_an_import_cut_short_at_its_very_end_is_ended_by_the_same_file(desk, monkeypatch):
    desk.bring([line(1, 1, 1)])
    monkeypatch.setattr(mandate_import, "_end", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        desk.bring([line(2, 2, 2)])
    monkeypatch.undo()
    assert desk.said()
    assert desk.bring([line(2, 2, 2)]).none
    assert not desk.said()


def test_of_two_imports_at_once_the_later_one_holds_and_the_other_says_so(desk, monkeypatch):
    monkeypatch.setattr(pace, "FIRST_ROWS", 10)
    other = [line(n, n, n) for n in range(30, 60)]
    calls = iter(range(100))

    def commit(change):
        if next(calls) == 3:
            desk.bring(other)
        return desk.commit(change)

    with pytest.raises(ImportOvertaken):
        desk.bring([line(n, n, n) for n in range(50)], commit)
    assert len(desk.payers()) == 30
    assert not desk.said()
    assert desk.findings() == []


def test_begin_and_end_stand_in_the_journal_with_the_numbers(desk):
    desk.bring([line(1, 1, 1), line(2, 2, 2)])
    desk.bring([line(1, 1, 1)])
    j = tables.journal
    with desk.reader.connect() as connection:
        rows = connection.execute(select(j.c.ref, j.c.event, j.c.detail).where(j.c.kind == "mandates")).all()
    assert [tuple(row) for row in rows] == [
        ("import 1", "begun", "file.csv: 2 added, 0 changed, 0 removed"),
        ("import 1", "ended", None),
        ("import 2", "begun", "file.csv: 0 added, 0 changed, 1 removed"),
        ("import 2", "ended", None),
    ]


# --- what a file may say --------------------------------------------------------------------------------------------

FULL = {
    "mandate_id": "m1",
    "status": "active",
    "funding": "bank_online",
    "channel": "bank-1",
    "contract_ref": "6217990100000001",
    "limit_fen": "100000",
    "stand_in_limit_fen": "5000",
    "card_number": "99010000000000000001",
    "contract": "B2E2CAD4990100010000000000000017",
    "plate": "测A00001",
    "plate_colour": "0",
}


@pytest.mark.parametrize(
    ("column", "value", "cure"),
    [
        ("limit_fen", str(2**63), "at most 15 digits"),
        ("limit_fen", "9" * 16, "at most 15 digits"),
        ("limit_fen", "9" * 5000, "at most 15 digits"),
        ("limit_fen", "١٠٠", "digits from 0 to 9"),
        ("limit_fen", "-1", "digits from 0 to 9"),
        ("stand_in_limit_fen", str(2**64), "at most 15 digits"),
        ("stand_in_limit_fen", "५", "digits from 0 to 9"),
        ("card_number", "٩" * 20, "20 digits from 0 to 9"),
        ("card_number", "9901\t00000000000001", "take it out"),
        ("contract_ref", "6" * 400, "1 to 64 digits"),
        ("contract_ref", "６２１７", "digits from 0 to 9"),
        ("contract_ref", "AGR-17", "digits from 0 to 9"),
        ("contract_ref", "6217\t9901", "take it out"),
        ("contract_ref", "\t6217", "take it out"),
        ("contract", "B" * 400, "32 hex digits"),
        ("contract", "٠" * 32, "32 hex digits"),
        ("plate_colour", "٠", "known are"),
        ("plate", "测A00001" * 10, "at most 16"),
        ("plate", "测A\x1b[2J", "take it out"),
        ("mandate_id", "m" * 65, "at most 64"),
        ("mandate_id", "m1\u202e", "take it out"),
        ("channel", "bank\x9b1", "take it out"),
    ],
)
def test_a_value_that_nothing_can_hold_is_refused_with_line_column_and_cure(column, value, cure):
    lines = [",".join(COLUMNS), ",".join((FULL | {column: value})[name] for name in COLUMNS)]
    with pytest.raises(MandateImportError) as refused:
        read_csv(lines)
    told = str(refused.value.lines[0])
    assert told.startswith(f"line 2, column {column}: ")
    assert cure in told
    assert len(told) < 300


@pytest.mark.parametrize("line", ["m1,active", ",".join(FULL.values()) + ",more"])
def test_a_line_with_other_columns_than_the_header_is_refused(line):
    with pytest.raises(MandateImportError, match="line 2: other columns"):
        read_csv([",".join(COLUMNS), line])


def test_the_largest_values_there_may_be_are_taken():
    full = FULL | {"limit_fen": "9" * 15, "contract_ref": "6" * 64, "mandate_id": "m" * 64}
    mandates, credentials = read_csv([",".join(COLUMNS), ",".join(full[name] for name in COLUMNS)])
    assert [m.limit_fen for m in mandates.values()] == [10**15 - 1]
    assert len(credentials) == 3


# --- fuel terms -----------------------------------------------------------------------------------------------------


def terms(**values):
    """Fuel terms of a file with one line, as it is read."""
    columns = (*COLUMNS, *values)
    mandates, _ = read_csv([",".join(columns), ",".join((FULL | values)[name] for name in columns)])
    return mandates["m1"].fuel


def test_a_file_may_state_any_of_the_fuel_terms_or_none():
    assert terms() == NO_TERMS
    assert terms(**dict.fromkeys(fuel_terms.COLUMNS, "")) == NO_TERMS
    assert terms(fuel_grades="95; 92;95") == FuelTerms(grades=("92", "95"))
    assert terms(fuel_sale_litres="60", fuel_day_litres="0.5", fuel_month_litres="999999999.125") == FuelTerms(
        per_sale_ml=60_000, per_day_ml=500, per_month_ml=999_999_999_125
    )
    assert terms(fuel_sale_fen="1", fuel_day_fen="0", fuel_month_fen="3") == FuelTerms(
        per_sale_fen=1, per_day_fen=0, per_month_fen=3
    )


@pytest.mark.parametrize(
    ("column", "value", "cure"),
    [
        ("fuel_sale_litres", "60.1234", "3 after it"),
        ("fuel_sale_litres", "1234567890", "9 before the point"),
        ("fuel_day_litres", ".5", "volume in litres"),
        ("fuel_day_litres", "-1", "volume in litres"),
        ("fuel_month_litres", "60L", "volume in litres"),
        ("fuel_month_litres", "\uff16\uff10", "digits from 0 to 9"),
        ("fuel_sale_fen", "200.00", "whole fen"),
        ("fuel_grades", ";", "or nothing"),
        ("fuel_grades", "92;;95", "; between them"),
        ("fuel_grades", "9" * 21, "at most 20"),
        ("fuel_grades", ";".join(str(n) for n in range(90)), "at most 200"),
    ],
)
def test_a_fuel_term_that_is_none_is_refused_with_line_column_and_cure(column, value, cure):
    with pytest.raises(MandateImportError) as refused:
        terms(**{column: value})
    told = str(refused.value.lines[0])
    assert told.startswith(f"line 2, column {column}: ")
    assert cure in told


def test_a_misspelt_fuel_column_is_refused_and_other_columns_are_nobodys():
    with pytest.raises(MandateImportError, match="column fuel_day_liters is not known"):
        terms(fuel_day_liters="60")
    assert terms(remark="x") == NO_TERMS


def test_fuel_terms_pass_through_the_ledger_and_are_sealed(desk):
    head = ",".join((*COLUMNS, *fuel_terms.COLUMNS))

    def bring(*stated):
        lines = [f"{line(n, n, n)},{each}" for n, each in enumerate(stated)]
        mandates, credentials = read_csv([head, *lines])
        with desk.reader.connect() as connection:
            changes = compare(connection, mandates, credentials).changes
        desk.commit(lambda tx: mandate_import.put_all(tx, mandates, credentials))
        with desk.reader.connect() as connection:
            assert compare(connection, mandates, credentials).changes.none
            found = [fuel_terms.terms_of(connection, f"m{n}") for n in range(len(stated))]
        assert found == [mandates[f"m{n}"].fuel for n in range(len(stated))]
        assert desk.findings() == []
        return changes.added, changes.changed, changes.removed

    assert bring("92;95,1,0.002,3,0.004,5,0.006", ",,,,,,", ",,60,,,,") == (3, 0, 0)
    assert bring(",,,,,,", "98,,,,,,", ",,61,,,,") == (0, 3, 0)
    assert bring(",,,,,,") == (0, 0, 2)
