"""Readers and cards over a real card service: listed, watched, and asked byte by byte."""

import json
import os
import signal

import pytest

from hardware.emulators.card import make_card
from hardware.emulators.virtual_reader import ATR
from tests.programs import program

SELECT, BALANCE = "00A40000021001", "805C000204"


@pytest.fixture
def card():
    return make_card(plate="测A12345", balance_raw=12_345)


def test_readers_are_listed_with_what_lies_in_them(ask, run, pcsc, card):
    pcsc.slots[0].insert(card)
    found = ask("readers")["readers"]
    assert [one["name"] for one in found] == [slot.reader for slot in pcsc.slots]
    assert found[0] == {
        "index": 0,
        "name": pcsc.slots[0].reader,
        "card": True,
        "kind": "contact",
        "atr": ATR.hex().upper(),
        "in_use": False,
        "mute": False,
    }
    assert (found[1]["card"], found[1]["atr"]) == (False, None)
    shown = run("readers").stdout
    assert all(slot.reader in shown for slot in pcsc.slots)
    assert "接触式卡" in run("--lang", "zh", "readers").stdout


def test_commands_go_as_they_are_and_their_answers_are_told(ask, run, pcsc, card):
    pcsc.slots[0].insert(card)
    found = ask("card", "apdu", SELECT, BALANCE, "--reader", "0")["exchanges"]
    assert [(one["command"], one["sw"], one["expected"]) for one in found] == [
        (SELECT, "9000", True),
        (BALANCE, "9000", True),
    ]
    assert found[1]["data"] == (12_345).to_bytes(4, "big").hex().upper()
    shown = run("--lang", "zh", "card", "apdu", SELECT, BALANCE, "--reader", "bench a 00 00").stdout
    assert "< 00 00 30 39" in shown
    assert "9000 成功" in shown


def test_an_answer_that_is_not_expected_ends_it_with_the_cure(ask, run, pcsc, card):
    pcsc.slots[0].insert(card)
    told = ask("card", "apdu", "00B0950032", BALANCE, "--reader", "0", code=1)
    assert told["error"]["code"] == "status_unexpected"
    assert told["error"]["next"]
    assert [one["sw"] for one in told["exchanges"]] == ["6A82"]
    ask("card", "apdu", "00B0950032", "--expect", "6Axx", "--reader", "0")
    assert "--expect" in run("card", "apdu", BALANCE, "--expect", "90", code=2).stderr
    assert "HEX" in run("card", "apdu", "80 5C zz", code=2).stderr


def test_the_driver_follows_up_only_where_it_is_told_to(ask, pcsc):
    pcsc.slots[0].insert(make_card(plate="测A12345", balance_raw=1, t0=True))
    plain = ask("card", "apdu", SELECT, "--expect", "61XX", "--reader", "0")["exchanges"]
    assert plain[0]["data"] == ""
    followed = ask("card", "apdu", SELECT, "--follow", "--reader", "0")["exchanges"]
    assert followed[0]["sw"] == "9000"
    assert followed[0]["data"].startswith("6F")


def test_a_reader_that_is_not_there_or_empty_is_told_with_what_is(ask, pcsc):
    absent = ask("card", "apdu", SELECT, "--reader", "Gemalto", code=3)["error"]
    assert "Bench A 00 00" in absent["text"]
    assert ask("card", "apdu", SELECT, "--reader", "0", code=3)["error"]["next"]
    several = ask("card", "apdu", SELECT, code=3)["error"]
    assert "--reader" in several["next"]


def test_what_happens_at_the_readers_is_told_as_it_happens(pcsc, card):
    def told(event, reader):
        while True:
            line = json.loads(watching.stdout.readline())
            if (line["event"], line["reader"]) == (event, reader):
                return line

    reader = pcsc.slots[2].reader
    with program("gateway.cli.main", "card", "watch", "--json", env=os.environ) as watching:
        told("service_up", None)
        told("reader_added", reader)
        pcsc.slots[2].insert(card)
        assert told("card_in", reader)["atr"] == ATR.hex().upper()
        pcsc.slots[2].remove()
        told("card_out", reader)
        pcsc.kill()
        told("service_lost", None)
        pcsc.restart()
        told("service_up", None)
        pcsc.slots[2].insert(card)
        told("card_in", reader)
        watching.send_signal(signal.SIGINT)
        assert watching.wait() == 0
