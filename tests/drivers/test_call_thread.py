"""A thread for calls that may hang: answers in order, deadlines that are kept, nothing given to the wrong caller."""

import asyncio
import threading

import pytest

from drivers.call_thread import CallThread, NotBegun, Overdue
from hardware.bench.waiting import STUCK_S

SOON_S = 0.05


class Hanging:
    """A call that comes back when it is told to."""

    def __init__(self):
        self.begun, self.let_go = threading.Event(), threading.Event()

    def __call__(self):
        self.begun.set()
        assert self.let_go.wait(STUCK_S)
        return "late"


@pytest.fixture
def hanging():
    call = Hanging()
    yield call
    call.let_go.set()


def test_results_and_errors_come_back_to_the_loop():
    async def ask():
        thread = CallThread("t")
        assert await thread.call(lambda: 7, STUCK_S) == 7
        with pytest.raises(ZeroDivisionError):
            await thread.call(lambda: 1 / 0, STUCK_S)
        assert await thread.call(threading.current_thread, STUCK_S) is not threading.current_thread()
        await thread.end(lambda: None, STUCK_S)
        assert thread.ended.is_set()

    asyncio.run(ask())


def test_a_call_that_hangs_is_overdue_and_those_behind_it_never_begin(hanging):
    changed = []

    async def ask():
        thread = CallThread("t", lambda: changed.append(thread.overdue))
        await thread.call(lambda: None, STUCK_S)  # it runs
        with pytest.raises(Overdue):
            await thread.call(hanging, SOON_S, "long one")
        assert thread.overdue == "long one"
        with pytest.raises(NotBegun):
            await thread.call(lambda: changed.append("never"), SOON_S)
        await thread.end(lambda: changed.append("last"), SOON_S)
        assert not thread.ended.is_set()
        hanging.let_go.set()
        await thread.ended.wait()
        assert thread.overdue is None

    asyncio.run(ask())
    assert [one for one in changed if one is not None] == ["last"]
    assert None in changed


def test_a_call_that_comes_back_late_frees_the_thread(hanging):
    async def ask():
        back = asyncio.Event()
        thread = CallThread("t", back.set)
        await thread.call(lambda: None, STUCK_S)
        with pytest.raises(Overdue):
            await thread.call(hanging, SOON_S)
        hanging.let_go.set()
        await back.wait()
        assert thread.overdue is None
        assert await thread.call(lambda: "mine", STUCK_S) == "mine"
        await thread.end(lambda: None, STUCK_S)

    asyncio.run(ask())


def test_a_caller_who_is_cancelled_leaves_his_answer_to_nobody(hanging, caplog):
    async def ask():
        thread = CallThread("t")
        gives_up = asyncio.create_task(thread.call(hanging, STUCK_S, "long one"))
        await asyncio.to_thread(hanging.begun.wait, STUCK_S)
        gives_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gives_up
        with pytest.raises(NotBegun):
            await thread.call(lambda: None, SOON_S)
        assert thread.overdue == "long one"
        following = asyncio.create_task(thread.call(lambda: "mine", STUCK_S))
        hanging.let_go.set()
        assert await following == "mine"
        await thread.end(lambda: None, STUCK_S)

    asyncio.run(ask())
    assert "t: a long one was given up while it was under way; its outcome is unknown" in caplog.text


def test_the_end_waits_for_a_call_that_is_late(hanging):
    """What comes after it, a close and a reset, would disturb whoever opens the card next."""

    async def ask():
        thread = CallThread("t")
        await thread.call(lambda: None, STUCK_S)
        with pytest.raises(Overdue):
            await thread.call(hanging, SOON_S)
        ending = asyncio.create_task(thread.end(lambda: None, STUCK_S))
        await asyncio.sleep(0)
        assert not ending.done()
        hanging.let_go.set()
        await ending
        assert thread.ended.is_set()

    asyncio.run(ask())


def test_a_last_call_that_hangs_is_told_as_overdue(hanging):
    async def ask():
        thread = CallThread("t")
        await thread.end(hanging, SOON_S)
        assert thread.overdue == "end"
        hanging.let_go.set()
        await thread.ended.wait()

    asyncio.run(ask())
