"""The writer's judgement without a thread: one try a step, and a seam for every fault."""

import sqlite3

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from gateway.ledger.batches import BATCH_MAX, RETRY_S, Batches, Committer, Job, StorageUnavailable, WriterState
from gateway.ledger.engines import StorageTrouble
from hardware.bench.chain_key import KEYS
from hardware.bench.clocks import StillClock
from tests.gateway.ledger.empty import open_empty


class Crash(BaseException):
    """The power goes."""


def refusal(code):
    cause = sqlite3.OperationalError()
    cause.sqlite_errorcode = code
    return OperationalError("commit", {}, cause)


class Box:
    """A ledger file; `faults` are raised by the next commits, a `Crash` in a tuple after the commit."""

    def __init__(self, path):
        self.engine = open_empty(path)
        self.reserve = True
        self.faults = []
        self.tries = []
        self.states = []
        self.committer = Committer(self.engine, StillClock(1), keys=KEYS)
        self.commit, self.committer.commit = self.committer.commit, self._commit
        self.committer.keep_reserve = lambda: self.reserve
        self.batches = Batches(self.committer, self.states.append)
        self.batches.start()

    def _commit(self, changes):
        self.tries.append(len(changes))
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, tuple):
            self.commit(changes)
            raise fault[0]
        if fault is not None:
            raise fault
        return self.commit(changes)

    def number(self):
        with self.engine.begin() as connection:
            return connection.execute(text("select value from counter where name = 'n'")).scalar()


@pytest.fixture
def box(tmp_path):
    box = Box(tmp_path / "ledger.db")
    yield box
    box.engine.dispose()


def job(name, *, essential=False, bad=False):
    def change(tx):
        if bad:
            raise KeyError(name)
        return tx.next_number("n")

    return Job(change, essential, name)


def told(result):
    """What each caller was told, by caller."""
    return {
        answer.job.caller: answer.result if answer.error is None else getattr(answer.error, "trouble", answer.error)
        for answer in result.answers
    }


def test_a_step_commits_what_it_is_given_and_answers_in_order(box):
    result = box.batches.step([job("a"), job("b"), job("c")])
    assert told(result) == {"a": 1, "b": 2, "c": 3}
    assert (result.kept, result.pause_s, box.tries, box.number()) == (0, 0.0, [3], 3)


def test_a_step_with_nothing_to_do_tries_nothing(box):
    assert box.batches.step() == box.batches.step([])
    assert box.tries == []


def test_what_is_too_much_for_one_group_waits_for_the_next_step(box):
    result = box.batches.step([job(n) for n in range(BATCH_MAX + 2)])
    assert len(result.answers) == BATCH_MAX
    assert (result.kept, result.pause_s) == (2, 0.0)
    assert told(box.batches.step()) == {BATCH_MAX: BATCH_MAX + 1, BATCH_MAX + 1: BATCH_MAX + 2}


def test_after_a_fault_of_one_the_group_goes_one_a_step_before_anything_newer(box):
    result = box.batches.step([job("a"), job("b", bad=True), job("c")])
    assert (result.answers, result.kept, result.pause_s) == ([], 3, 0.0)
    assert told(box.batches.step([job("new")])) == {"a": 1}
    (answer,) = box.batches.step().answers
    assert isinstance(answer.error, KeyError)
    assert told(box.batches.step()) == {"c": 2}
    assert told(box.batches.step()) == {"new": 3}
    assert box.tries == [3, 1, 1, 1, 1]


def test_busy_keeps_all_in_their_order_and_says_when_to_come_again(box):
    box.faults = [refusal(sqlite3.SQLITE_BUSY)]
    result = box.batches.step([job("a"), job("b")])
    assert (result.answers, result.kept, result.pause_s) == ([], 2, RETRY_S)
    assert box.batches.state is WriterState.BUSY
    assert told(box.batches.step([job("c")])) == {"a": 1, "b": 2, "c": 3}
    assert box.states == [WriterState.WRITING, WriterState.BUSY, WriterState.WRITING]


def test_busy_while_going_one_by_one_goes_on_one_by_one(box):
    box.batches.step([job("a"), job("b", bad=True), job("c")])
    box.faults = [refusal(sqlite3.SQLITE_BUSY)]
    assert box.batches.step().kept == 3
    assert told(box.batches.step()) == {"a": 1}
    box.batches.step()
    assert told(box.batches.step()) == {"c": 2}


def test_full_refuses_the_ordinary_and_keeps_the_essential(box):
    box.reserve = False
    box.faults = [refusal(sqlite3.SQLITE_FULL), refusal(sqlite3.SQLITE_FULL)]
    result = box.batches.step([job("sale"), job("result", essential=True)])
    assert told(result) == {"sale": StorageTrouble.FULL}
    assert (result.kept, result.pause_s) == (1, RETRY_S)
    result = box.batches.step([job("sale 2"), job("result 2", essential=True)])
    assert told(result) == {"sale 2": StorageTrouble.FULL}
    assert told(box.batches.step()) == {"result": 1, "result 2": 2}
    assert box.batches.state is WriterState.FULL, "the reserve does not stand again"
    box.reserve = True
    box.batches.step()
    assert box.batches.state is WriterState.WRITING


def test_full_while_going_one_by_one_refuses_those_behind_too(box):
    box.batches.step([job("a"), job("b", bad=True), job("c", essential=True), job("d")])
    box.faults = [refusal(sqlite3.SQLITE_FULL)]
    assert told(box.batches.step()) == dict.fromkeys("abd", StorageTrouble.FULL)
    assert told(box.batches.step()) == {"c": 1}


def test_a_refusal_of_the_last_step_is_an_answer(box):
    box.faults = [refusal(sqlite3.SQLITE_BUSY)]
    result = box.batches.step([job("a", essential=True), job("b")], last=True)
    assert told(result) == dict.fromkeys("ab", StorageTrouble.BUSY)
    assert (result.kept, result.pause_s) == (0, 0.0)


def test_the_end_answers_what_is_kept(box):
    box.faults = [refusal(sqlite3.SQLITE_BUSY)]
    box.batches.step([job("a", essential=True), job("b")])
    answers = box.batches.stop()
    assert all(isinstance(answer.error, StorageUnavailable) for answer in answers)
    assert [answer.job.caller for answer in answers] == ["a", "b"]
    assert (box.batches.state, box.batches.kept) == (WriterState.STOPPED, 0)


@pytest.mark.parametrize("stored", [False, True])
def test_a_crash_goes_through_untouched_before_or_after_the_commit(box, stored):
    box.faults = [(Crash(),) if stored else Crash()]
    with pytest.raises(Crash):
        box.batches.step([job("a"), job("b")])
    assert box.number() == (2 if stored else None)


def test_the_look_after_trouble_goes_through_the_same_seam(box):
    """So that a simulation also decides about the storage's recovery."""
    box.faults = [refusal(sqlite3.SQLITE_IOERR), None, refusal(sqlite3.SQLITE_FULL)]
    box.batches.step([job("a")])
    assert box.batches.state is WriterState.UNREADABLE
    assert told(box.batches.step()) == {"a": 1}, "stored before anybody looks further"
    assert box.batches.state is WriterState.FULL
