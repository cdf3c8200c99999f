"""`etcgw psam` and `etcgw tac` on emulated PSAMs, for people and programs."""

import asyncio
import json
import sqlite3
from contextlib import closing
from datetime import date

import pytest

from gateway.cli import psam as psam_command
from gateway.cli import tac as tac_command
from hardware.bench.chip_slot import ChipSlot
from hardware.emulators.psam import Psam
from hardware.emulators.test_keys import ROOTS
from protocols.card.psam import KeyKind
from protocols.crypto import Algorithm, Trade, diversify, tac
from tests.gateway.cli.test_json_shapes import compare, merged, shape

TERMINAL = "019900000001"
REGION, INNER = bytes.fromhex("B2E2CAD4B2E2CAD4"), bytes.fromhex("2301220100000001")
TIME = "20240301113015"
ONLY_3DES = frozenset({Algorithm.DES3})


@pytest.fixture
def lay(monkeypatch):
    """Lay a PSAM in the reader."""

    def lay(**facts):
        chip = Psam(mode="bench", **facts)
        slot = ChipSlot("reader 01", chip)

        def on_card(reader, wait_s, work):
            return asyncio.run(work(slot))

        monkeypatch.setattr(psam_command, "on_card", on_card)
        monkeypatch.setattr(tac_command, "on_card", on_card)
        return chip

    return lay


def test_what_a_psam_holds(run, ask, lay):
    chip = lay(key_type=4, long_application_file=True)
    found = ask("psam", "info", "--unmask")
    assert (found["terminal"], found["serial"]) == (TERMINAL, "99010000000000000017")
    assert (found["algorithms"], found["authorised"], found["sm4_key_index"]) == (["3DES", "SM4"], True, "40")
    assert {"use": "tac", "algorithm": "3DES", "state": "present"} in found["keys"]
    assert (found["starts"], found["expires"]) == ("2024-01-01", "2034-01-01")
    assert chip.terminal_serial == 0
    lay(algorithms=ONLY_3DES, authorisation_needed=True)
    locked = ask("psam", "info")
    assert (locked["authorised"], locked["algorithms"]) == (False, ["3DES"])
    assert "00000000" not in locked["serial"]
    compare("psam-info", merged(shape(found), shape(locked)))
    assert "未授权" in run("psam", "info", "--lang", "zh").stdout


def states(found):
    return {
        one["check"]: None if not one["made"] else (one["reason"] or {"code": "passed"})["code"]
        for one in found["checks"]
    }


def test_a_psam_in_order_spends_nothing(run, ask, lay):
    chip = lay()
    found = ask("psam", "check", "--region", "测试")
    assert (found["works"], found["spent"]) == (True, False)
    assert states(found) == {
        "dates": "passed",
        "region": "passed",
        "authorised": "passed",
        "keys": "passed",
        "counter": None,
    }
    assert chip.terminal_serial == 0
    shown = run("psam", "check", "--lang", "zh").stdout
    assert "未消耗终端交易序号" in shown
    spent = ask("psam", "check", "--region", "测试", "--spend-one")
    assert (chip.terminal_serial, states(spent)["counter"], spent["spent"]) == (1, "passed", True)


@pytest.mark.parametrize(
    ("facts", "arguments", "wanted"),
    [
        ({"expires": date(2024, 6, 1)}, (), ("dates", "psam_expired", 1)),
        ({"starts": date(2090, 1, 1), "expires": date(2099, 1, 1)}, (), ("dates", "psam_not_yet_valid", 1)),
        ({}, ("--region", "广东"), ("region", "psam_region_wrong", 1)),
        ({"authorisation_needed": True}, (), ("authorised", "psam_not_authorised", 1)),
        ({"authorisation_needed": True}, ("--spend-one",), ("counter", "psam_not_authorised", 1)),
        ({"algorithms": ONLY_3DES}, (), ("keys", "psam_keys_missing", 0)),
        ({"algorithms": frozenset({Algorithm.SM4})}, ("--spend-one",), ("counter", "psam_keys_missing", 0)),
        ({"terminal_serial": 0xFFFFFFFF}, ("--spend-one",), ("counter", "psam_counter_full", 1)),
        ({"terminal_serial": 0xFFFFFF00}, ("--spend-one",), ("counter", "psam_counter_low", 0)),
    ],
)
def test_each_check_is_told(ask, lay, facts, arguments, wanted):
    check, reason, code = wanted
    lay(**facts)
    found = ask("psam", "check", *arguments, code=code)
    assert states(found)[check] == reason
    assert found["works"] == (code == 0)
    if reason == "psam_expired":
        lay()
        del found["error"]  # only of a refusal
        compare("psam-check", merged(shape(ask("psam", "check")), shape(found)))


def test_a_sites_regions_count(ask, lay, site):
    lay(network="4401")
    assert states(ask("psam", "check", "--config", site, code=1))["region"] == "psam_region_wrong"
    lay()
    assert states(ask("psam", "check", "--config", site))["region"] == "passed"


def test_names_nobody_knows_are_usage(run, lay):
    lay()
    run("psam", "info", "--profile", "none", code=2)
    run("psam", "check", "--region", "nowhere", code=2)


# --- TAC --------------------------------------------------------------------------------------------------------------


OPTIONS = {
    "--card": "99012301220100000001",
    "--amount": "3000",
    "--terminal": TERMINAL,
    "--serial": "2",
    "--time": TIME,
    "--tac": "F48A6336",
    "--region": "测试",
}


def options(**changes):
    given = OPTIONS | {f"--{name}": value for name, value in changes.items()}
    return [word for name, value in given.items() if value is not None for word in (name, value)]


def test_a_tac_by_options(run, ask, lay):
    lay()
    found = ask("tac", "verify", *options())
    assert (found["right"], found["amount_fen"]) == (True, 3000)
    assert "23012201" not in json.dumps(found)
    wrong = ask("tac", "verify", *options(serial="3"), code=1)
    assert (wrong["right"], wrong["error"]["code"]) == (False, "tac_wrong")
    del wrong["error"]  # only of a refusal
    compare("tac-verify", merged(shape(found), shape(wrong)))
    assert "正确" in run("tac", "verify", *options(), "--lang", "zh").stdout
    run("tac", "verify", *options(card="2301220100000001"))


def test_a_psam_without_tac_keys_says_so(run, lay):
    lay()
    shown = run("tac", "verify", *options(), "--sm4", code=1)
    assert "no SM4 tac key" in shown.stderr
    lay(algorithms=frozenset({Algorithm.SM4}))
    assert "no 3DES tac key" in run("tac", "verify", *options(), code=1).stderr


@pytest.mark.parametrize(
    "changes",
    [
        {"serial": None},
        {"card": "1"},
        {"tac": "F48A63"},
        {"tac": "zz"},
        {"time": "20240301"},
        {"card": "2301220100000001", "region": None},
        {"passage": "1"},
    ],
)
def test_facts_that_cannot_be(run, lay, changes):
    lay()
    run("tac", "verify", *options(**changes), code=2)


def test_a_tac_of_the_ledger(ask, lay, site, ledger):
    lay()
    paid = next(one for one in ask("passages", "--config", site)["passages"] if one["outcome"] == "paid")
    which = ("--passage", str(paid["record_no"]), "--config", site, "--region", "测试")
    assert ask("tac", "verify", *which, code=1)["error"]["code"] == "no_tac"
    shown = ask("passages", "show", which[1], "--config", site, "--unmask")
    card, purchase = bytes.fromhex(shown["card_number"][4:]), shown["purchases"][0]
    leaf = diversify(ROOTS[KeyKind.TAC, Algorithm.DES3], (REGION, card), Algorithm.DES3)
    trade = Trade(purchase["written_fen"], 9, bytes.fromhex(TERMINAL))
    made = tac(leaf, trade, 7, bytes.fromhex(purchase["purchase_time"]), Algorithm.DES3)
    with closing(sqlite3.connect(ledger)) as books, books:
        proof = (TERMINAL, made.hex(), purchase["purchase_time"])
        books.execute("update purchase set terminal=?, psam_serial=7, tac=?, algorithm=0 where purchase_time=?", proof)
    found = ask("tac", "verify", *which)
    assert (found["right"], found["amount_fen"], found["terminal_serial"]) == (True, purchase["written_fen"], 7)
    lay(network="4401", algorithms=frozenset({Algorithm.SM4}))
    assert ask("tac", "verify", *which, code=1)["error"]["code"] == "device_refused"


def test_the_tac_that_a_card_makes_is_right(ask, lay):
    lay()
    leaf = diversify(ROOTS[KeyKind.TAC, Algorithm.DES3], (REGION, INNER), Algorithm.DES3)
    made = tac(leaf, Trade(0, 9, bytes.fromhex(TERMINAL)), 7, bytes.fromhex(TIME), Algorithm.DES3)
    assert ask("tac", "verify", *options(amount="0", serial="7", tac=made.hex()))["right"]


# --- a real card service ----------------------------------------------------------------------------------------------


@pytest.fixture(name="slot")
def first_slot(pcsc):
    return pcsc.slots[0]


def test_a_psam_behind_a_real_card_service(slot, ask):
    chip = Psam(mode="bench", t0=True, long_application_file=True)
    slot.insert(chip)
    found = ask("psam", "info", "--reader", slot.reader)
    assert (found["reader"], found["terminal"], found["sm4_key_index"]) == (slot.reader, TERMINAL, "40")
    assert ask("psam", "check", "--reader", slot.reader, "--region", "测试", "--spend-one")["works"]
    assert ask("tac", "verify", *options(), "--reader", slot.reader)["right"]
    assert chip.terminal_serial == 1
    slot.remove()
    ask("psam", "info", "--reader", slot.reader, code=3)
