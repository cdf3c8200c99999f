"""The mark outside the database, and the positions given out from it."""

import errno
import json
import os
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.ledger import marks
from gateway.ledger.marks import MarkFile, MarkMissing, MarkState, MarkUnreadable, MarkUnwritable, MemoryMark
from gateway.ledger.positions import BLOCK, COUNTED_FROM_US, STAN_MAX, Positions, by_clock, pair

STATE = MarkState("a" * 32, 3, 7, 12, bytes(range(32)), {"bank-1/T0000001": 4000})
T1 = "bank-1/T0000001"
NOW_US = COUNTED_FROM_US + 5_000_000


@pytest.fixture
def path(tmp_path):
    marks.write(tmp_path / "ledger.db.mark", STATE)
    return tmp_path / "ledger.db.mark"


def test_what_was_written_is_read(path):
    assert marks.read(path) == STATE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(p.name for p in path.parent.iterdir()) == ["ledger.db.mark"]


def test_no_file_is_no_mark(tmp_path):
    with pytest.raises(MarkMissing):
        marks.read(tmp_path / "mark")


def damaged(text):
    facts = json.loads(text)
    return [
        "",
        text[:-20],
        "[]",
        "null",
        text.replace('"journal": 12', '"journal": 11'),
        text.replace("4000", "3000"),
        json.dumps({**facts, "format": 2}),
        json.dumps({k: v for k, v in facts.items() if k != "head"}),
        "x" * (marks.BYTES_MAX + 1),
    ]


@pytest.mark.parametrize("number", range(9))
def test_a_damaged_mark_is_never_half_believed(path, number):
    path.write_text(damaged(path.read_text())[number])
    with pytest.raises(MarkUnreadable):
        marks.read(path)


def test_a_mark_that_may_not_be_read(path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(MarkUnreadable, match="Input/output"):
        marks.read(path)


@pytest.mark.parametrize(("code", "full"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EIO, False)])
@pytest.mark.parametrize("call", ["write", "fsync", "open"])
def test_a_write_that_fails_leaves_the_old_one(path, monkeypatch, code, full, call):
    real = getattr(os, call)

    def fail(*arguments, **more):
        if call == "open" and not str(arguments[0]).endswith(".new"):
            return real(*arguments, **more)
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(MarkUnwritable) as error:
            marks.write(path, replace(STATE, journal=13))
    assert error.value.full is full
    assert marks.read(path) == STATE


def test_a_mark_follows_and_never_goes_back(path):
    mark = MarkFile(path, STATE.incarnation)
    mark.follow(20, b"h" * 32)
    mark.follow(15, b"o" * 32)
    assert (marks.read(path).journal, marks.read(path).head) == (20, b"h" * 32)
    mark.reserve(T1, 3000)
    assert mark.reserved(T1) == 4000
    mark.reserve(T1, 5000)
    assert MarkFile(path, STATE.incarnation).reserved(T1) == 5000
    assert mark.reserved("bank-1/T0000002") is None


@pytest.mark.parametrize("act", [lambda m: m.reserve(T1, 9000), lambda m: m.follow(99, b""), lambda m: m.begin(0)])
def test_the_mark_of_another_ledger_is_left_alone(path, act):
    with pytest.raises(MarkUnwritable, match="another ledger"):
        act(MarkFile(path, "b" * 32))
    path.unlink()
    with pytest.raises(MarkUnwritable, match="no mark"):
        act(MarkFile(path, STATE.incarnation))
    assert not path.exists()


def test_many_at_once_lose_nothing_of_each_other(path):
    """Commands write beside a running gateway: each has a mark of its own on the same file."""

    def work(number):
        mark = MarkFile(path, STATE.incarnation)
        for n in range(20):
            mark.reserve(f"bank-1/{number}", n)
            mark.follow(100 * number + n, bytes([number]) * 32)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = marks.read(path)
    assert {name: end for name, end in state.reserved.items() if name != T1} == {f"bank-1/{n}": 19 for n in range(1, 5)}
    assert (state.journal, state.head) == (419, bytes([4]) * 32)


# --- positions ------------------------------------------------------------------------------------------------------


def test_a_position_is_a_pair():
    assert pair(1) == ("000000", "000002")
    assert pair(123 * STAN_MAX + 77) == ("000123", "000078")
    assert pair(0) == ("000000", "000001")
    assert pair(STAN_MAX - 1) == ("000000", "989999")
    assert pair(STAN_MAX) == ("000001", "000001")
    assert pair(1_000_000 * STAN_MAX) == ("000000", "000001"), "after 31 years"


def test_the_end_of_a_block_is_durable_before_its_first_position():
    mark = MemoryMark(first=0)
    given = Positions(mark).take(T1, None, NOW_US)
    assert (given, mark.reserved(T1)) == (0, BLOCK)


def test_a_block_that_cannot_be_reserved_gives_nothing_out(path):
    mark = MarkFile(path, "b" * 32)
    with pytest.raises(MarkUnwritable):
        Positions(mark).take(T1, 10, NOW_US)


def test_a_start_never_uses_the_rest_of_a_block():
    """Whatever the ledger says: it may be an older copy."""
    mark = MemoryMark(first=0)
    first = Positions(mark)
    used = [first.take(T1, n or None, NOW_US) for n in range(5)]
    assert used == [0, 1, 2, 3, 4]
    assert Positions(mark).take(T1, 2, NOW_US) == BLOCK
    assert Positions(mark).take(T1, None, NOW_US) == 2 * BLOCK


def test_a_counter_that_goes_back_gives_nothing_out_twice():
    """It is set back by hand, or the change that took a number was rolled back: from here that looks the same."""
    positions = Positions(MemoryMark(first=7))
    assert [positions.take(T1, counted, NOW_US) for counted in (None, None, 8, 3)] == [7, 8, 9, 10]
    assert positions.take(T1, 20, NOW_US) == 20


def test_blocks_follow_each_other():
    mark = MemoryMark(first=0)
    positions = Positions(mark)
    assert [positions.take(T1, n or None, NOW_US) for n in range(2 * BLOCK)] == list(range(2 * BLOCK))
    assert mark.reserved(T1) == 2 * BLOCK


def test_a_terminal_nobody_knows_begins_by_the_clock_and_not_before_this_life(path):
    assert by_clock(NOW_US) == 5000
    assert by_clock(0) == 0
    mark = MarkFile(path, STATE.incarnation)
    assert Positions(mark).take("bank-1/new", None, NOW_US) == 5000
    assert Positions(mark).take("bank-1/newer", None, COUNTED_FROM_US) == STATE.first, "the clock was set back"


def test_a_counter_that_stands_at_nothing_knows_nothing(path):
    assert Positions(MarkFile(path, STATE.incarnation)).take("bank-1/new", 0, NOW_US) == 5000


def test_the_next_batch_is_another_one_and_not_behind_the_clock():
    positions = Positions(MemoryMark(first=3))
    assert pair(positions.next_batch(T1, None, NOW_US)) == ("000001", "000004"), "its trace numbers go on"
    later = Positions(MemoryMark())
    now_us = COUNTED_FROM_US + 10 * STAN_MAX * 1000
    assert later.next_batch(T1, 5, now_us) == 10 * STAN_MAX
