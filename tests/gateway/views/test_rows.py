"""A row becomes a value with the types its class declares."""

from dataclasses import dataclass

import pytest
from sqlalchemy import create_engine, text

from gateway.model.passage import Funding, PassageOutcome
from gateway.views.rows import IDS_PER_QUERY, by_pages, view_of


@dataclass(frozen=True, slots=True)
class Seen:
    lane: str
    amount_fen: int
    created_us: int | None
    outcome: PassageOutcome
    funding: Funding | None
    stood_in: bool
    said: str


def row(**columns):
    sql = ", ".join(f":{name} as {name}" for name in columns)
    with create_engine("sqlite://").connect() as connection:
        return connection.execute(text(f"select {sql}"), columns).one()


COLUMNS = {"charge_point": "a", "amount": 5, "created_at": None, "outcome": "paid", "funding": None, "stood_in": 1}


def test_names_units_and_types():
    seen = view_of(Seen, row(**COLUMNS), said="x")
    assert seen == Seen("a", 5, None, PassageOutcome.PAID, None, True, "x")
    assert (type(seen.outcome), type(seen.stood_in)) == (PassageOutcome, bool)


def test_a_column_of_the_fields_own_name_comes_first():
    assert view_of(Seen, row(**COLUMNS, lane="b", amount_fen=6), said="x").amount_fen == 6


def test_a_missing_column_and_an_unknown_code_are_faults():
    with pytest.raises(KeyError, match="said"):
        view_of(Seen, row(**COLUMNS))
    with pytest.raises(ValueError, match="lost"):
        view_of(Seen, row(**{**COLUMNS, "outcome": "lost"}), said="x")


def test_identifiers_by_pages():
    ids = [str(n) for n in range(2 * IDS_PER_QUERY + 1)]
    pages = list(by_pages(ids))
    assert [len(page) for page in pages] == [IDS_PER_QUERY, IDS_PER_QUERY, 1]
    assert [one for page in pages for one in page] == ids
    assert list(by_pages([])) == []
