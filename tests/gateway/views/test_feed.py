"""The feed: everything once, in order, a page at a time, straight from an index."""

import sqlite3
from contextlib import closing

import pytest

from gateway.ledger import engines
from gateway.views import feed

MASKED = {"unmask": False}


def read_all(ask, limit):
    """Every row, asked for as a reader goes on; and how many pages it took."""
    rows, after, pages = [], 0, 0
    while True:
        page = ask(after, limit)
        rows += page.rows
        pages, after = pages + 1, page.last
        if not page.more:
            return rows, pages


@pytest.mark.parametrize("limit", [1, 3, 8, feed.PAGE_MAX])
def test_every_decision_once_and_in_order_whatever_the_page(connection, limit):
    rows, pages = read_all(lambda after, n: feed.records_after(connection, after, n, **MASKED), limit)
    assert [row.decision.record_no for row in rows] == list(range(1, 9))
    assert pages == -(-8 // limit)
    assert [row.decision.outcome for row in rows][-2:] == ["refused", "repeat"]
    assert rows[0].who.plate == "测A***01"
    assert rows[0].decision.timing.own_us == 400_000


@pytest.mark.parametrize("limit", [7, feed.PAGE_MAX])
def test_every_row_of_the_journal_once_and_in_order(connection, limit):
    rows, _ = read_all(lambda after, n: feed.journal_after(connection, after, n), limit)
    (count,) = connection.exec_driver_sql("select count(*) from journal").one()
    assert [row.number for row in rows] == list(range(1, count + 1))
    assert ("debit", "held") in {(row.kind, row.event) for row in rows}


def test_a_reader_that_knows_all_is_told_where_to_go_on(connection):
    page = feed.records_after(connection, 8, **MASKED)
    assert (page.rows, page.last, page.head, page.more) == ((), 8, 8, False)


def test_an_older_ledger_than_the_reader_has_seen_shows(connection):
    page = feed.records_after(connection, 20, **MASKED)
    assert (page.rows, page.last, page.more) == ((), 20, False)
    assert page.head < page.last


def test_plates_and_numbers_in_full_only_where_asked(connection):
    assert feed.records_after(connection, 0, 1, unmask=True).rows[0].who.plate == "测A00001"


def test_a_missing_number_is_no_page(ledger_made_once, tmp_path):
    broken = tmp_path / "broken.db"
    with closing(sqlite3.connect(ledger_made_once)) as whole, closing(sqlite3.connect(broken)) as copy:
        whole.backup(copy)
        with copy:
            copy.execute("delete from decision where record_no = 3")
            copy.execute("delete from journal where number = 1")
    engine = engines.open_reader(broken)
    with engine.connect() as connection:
        assert feed.records_after(connection, 3, **MASKED).last == 8
        with pytest.raises(feed.Gap, match="number 3 is missing"):
            feed.records_after(connection, 0, **MASKED)
        with pytest.raises(feed.Gap, match="number 1 is missing"):
            feed.journal_after(connection, 0)
    engine.dispose()


@pytest.mark.parametrize(("after", "limit"), [(0, 0), (0, feed.PAGE_MAX + 1), (-1, 1)])
def test_a_page_is_bounded(connection, after, limit):
    with pytest.raises(ValueError, match="a page has"):
        feed.records_after(connection, after, limit, **MASKED)


def test_pages_come_from_an_index_without_a_scan_or_a_sort(plan):
    records, journal = plan(feed.records_query(5, 10)), plan(feed.journal_query(5, 10))
    assert records[0] == "SEARCH decision USING INTEGER PRIMARY KEY (rowid>?)"
    assert journal == ["SEARCH journal USING INTEGER PRIMARY KEY (rowid>?)"]
    assert not [step for step in records if step.startswith("SCAN")]
