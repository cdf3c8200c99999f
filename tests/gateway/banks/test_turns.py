"""Answers about one message are booked in the order in which they came in."""

import pytest

from gateway.banks.channel import BankAnswer
from gateway.banks.pos import PosLateAnswer
from gateway.banks.turns import Turns
from gateway.model.delivery import Delivery


def names(terminal, stan):
    return PosLateAnswer(terminal, stan, BankAnswer(Delivery.ANSWERED)).may_mean


def test_what_comes_behind_an_answer_is_booked_behind_it():
    turns, booked = Turns(), []
    with turns.asking("T1/000001/000001"):
        turns.in_turn(names("T1", "000001"), lambda: booked.append("second"))
        turns.in_turn(names(None, "000001"), lambda: booked.append("third"))
        booked.append("first")
    assert booked == ["first", "second", "third"]


def test_other_messages_do_not_wait():
    turns, booked = Turns(), []
    with turns.asking("T1/000001/000001"):
        turns.in_turn(names("T2", "000001"), lambda: booked.append("other terminal"))
        turns.in_turn(names("T1", "000002"), lambda: booked.append("other trace number"))
        turns.in_turn(names(None, "000002"), lambda: booked.append("no terminal"))
        assert booked == ["other terminal", "other trace number", "no terminal"]
    turns.in_turn(names("T1", "000001"), lambda: booked.append("over"))
    assert booked[-1] == "over"


def test_where_nothing_was_heard_there_is_nothing_to_wait_behind():
    turns, booked = Turns(), []
    with turns.asking("T1/000001/000001") as nothing_heard:
        turns.in_turn(names("T1", "000001"), lambda: booked.append("by another way"))
        nothing_heard()
        booked.append("silence")
        turns.in_turn(names("T1", "000001"), lambda: booked.append("later"))
    assert booked == ["by another way", "silence", "later"]


def test_an_asker_that_fails_keeps_nobody_waiting():
    turns, booked = Turns(), []

    def asks_in_vain():
        with turns.asking("T1/000001/000001"):
            turns.in_turn(names("T1", "000001"), lambda: booked.append("second"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        asks_in_vain()
    assert booked == ["second"]


def test_what_waits_is_kept_when_the_same_message_is_asked_again():
    turns, booked = Turns(), []
    with turns.asking("t1/000001/000001"):
        turns.in_turn(names("t1", "000001"), lambda: booked.append("an answer"))
        with turns.asking("t1/000001/000001"):
            assert booked == []
    assert booked == ["an answer"]
