"""JSON of every command that reads: its keys and the kinds of their values are stored beside this test.

Whoever adds a key writes the files anew with `WRITE_SHAPES=1 pytest` on this module, and shows with them what changed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gateway.cards.odd_cards import user_card, with_transaction
from tests.gateway.cli.conftest import with_fuel
from tests.gateway.cli.test_help import LEAVES
from tests.protocols.rsu.samples import vector

SHAPES = Path(__file__).with_name("shapes")
KINDS = {bool: "boolean", int: "integer", float: "number", str: "text", type(None): "null"}

READS = {
    "check-config": [["check-config"]],
    "check-config-parameters": [["check-config", "--parameters"]],
    "passages": [["passages"]],
    "passages-show": [["passages", "show", str(number)] for number in range(1, 9)],
    "debits": [["debits"]],
    "debits-show": [["debits", "show", str(number)] for number in range(1, 7)],
    "debits-history": [["debits", "history", str(number)] for number in range(1, 5)],
    "debts": [["debts"]],
    "clearing-items": [["clearing", "items"]],
    "mandates-list": [["mandates", "list"]],
    "mandates-show": [["mandates", "show", "m1"], ["mandates", "show", "m3"]],
    "lists-show": [["lists", "show"]],
    "lists-lookup": [["lists", "lookup", "card", f"990100000000000000{number}"] for number in (17, 18)],
    "ledger-accounts": [["ledger", "accounts"], ["ledger", "accounts", "--obligors"]],
    "ledger-verify": [["ledger", "verify"]],
    "rules-show": [["rules", "show"]],
    "privacy-erase": [["privacy", "erase", "--older-than", "1", "--dry-run"]],
}
AWAY_FROM_A_SITE = {
    "rsu-decode": [["rsu", "decode", vector(name).raw.hex()] for name in ("v3-b4-183", "v3-b2-37", "v3-c4-01")],
    "rsu-dialects": [["rsu", "dialects"]],
    "pump-decode": [["pump", "decode", "5034030400078501020800002547000199940101054EB403FA"]],
}
ELSEWHERE = {
    "card-apdu", "card-batch", "card-compare", "card-read", "card-verdict", "card-watch", "readers",
    "clearing-show", "pump-authorise", "pump-show", "pump-watch", "pumps", "rules-check", "rules-diff", "sales-receipt",
    "sales-reconcile", "sales-show", "status", "psam-check", "psam-info", "tac-verify", "tag-read", "tag-verdict",
}  # fmt: skip
"""Commands whose shapes a test of their own compares."""
ACTS = {
    "card-purchase", "card-recover",
    "clearing-explain", "clearing-report", "clearing-run", "clearing-write-off", "debits-adjust", "debits-pay-refund",
    "debits-refund", "debits-resolve", "debts-pay", "debts-retry", "debts-write-off", "init", "ledger-adopt",
    "ledger-backup", "ledger-create", "ledger-key", "ledger-restore", "lists-build", "lists-roll-back",
    "mandates-import", "mandates-limit", "run", "sales-settle",
}  # fmt: skip


def shape(value):
    """Keys of a value and the kinds of what stands under them: JSON itself, with kinds in the place of values."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in sorted(value.items())}
    if isinstance(value, list):
        return [merged(*map(shape, value))] if value else []
    return KINDS[type(value)]


def merged(first, *others):
    """One shape that all of these fit."""
    for other in others:
        first = _of_both(first, other)
    return first


def _of_both(one, other):
    if one == other or (other in ([], "null") and not isinstance(one, str)):
        return one
    if one in ([], "null") and not isinstance(other, str):
        return other
    if isinstance(one, dict) and isinstance(other, dict):
        assert one.keys() == other.keys(), one.keys() ^ other.keys()
        return {key: _of_both(one[key], other[key]) for key in one}
    if isinstance(one, list) and isinstance(other, list):
        return [_of_both(one[0], other[0])]
    if isinstance(one, str) and isinstance(other, str) and "any" not in (one, other):
        return "|".join(sorted({*one.split("|"), *other.split("|")}))
    return "any"


def compare(name, found):
    file = SHAPES / f"{name}.json"
    if "WRITE_SHAPES" in os.environ:
        SHAPES.mkdir(exist_ok=True)
        file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert found == json.loads(file.read_text(encoding="utf-8")), name


@pytest.fixture
def full_site(site, ledger, run):
    file = site.parent / "mandates.csv"
    file.write_text(with_fuel(file.read_text("utf-8"), "92,1,2,3,4,5,6"), "utf-8")
    run("mandates", "import", file, "--config", site)
    return site


@pytest.mark.parametrize("name", READS)
def test_what_a_command_reads(ask, full_site, name):
    compare(name, merged(*(shape(ask(*arguments, "--config", full_site)) for arguments in READS[name])))


@pytest.mark.parametrize("name", AWAY_FROM_A_SITE)
def test_what_needs_no_site(ask, name):
    compare(name, merged(*(shape(ask(*arguments)) for arguments in AWAY_FROM_A_SITE[name])))


def test_rules(ask, full_site):
    file = full_site.parent / "rules.toml"
    file.write_text('version = "x"\n[deadline]\nkept_back_ms = 300\n', encoding="utf-8")
    compare("rules-check", shape(ask("rules", "check", file)))
    compare("rules-diff", shape(ask("rules", "diff", file, "--config", full_site)))
    file.write_text("x = 1", encoding="utf-8")
    compare("rules-check-wrong", shape(ask("rules", "check", file, code=2)))


def test_clearing(run, ask, full_site):
    run("clearing", "run", "20231115", "--config", full_site, code=1)
    compare("clearing-show", shape(ask("clearing", "show", "20231115", "--config", full_site)))


def test_cards(ask, desk, dump, full_site):
    golden = dump(user_card())
    charged = with_transaction(user_card(version=0x51))
    desk(charged)
    compare("card-read", merged(shape(ask("card", "read", "--holder")), shape(ask("card", "read", "--unmask"))))
    compare("card-verdict", shape(ask("card", "verdict", "--config", full_site, "--exit", code=1)))
    compare("card-compare", shape(ask("card", "compare", golden, code=1)))


def test_status(ask, full_site):
    """Of a gateway that runs, and of one that has stopped."""
    command = [sys.executable, "-m", "gateway.cli.main", "run", "--config", str(full_site)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as gateway:
        try:
            assert gateway.stdout.readline() == "ready\n"
            running = ask("status", "--config", full_site)
        finally:
            gateway.terminate()
    stopped = ask("status", "--config", full_site, code=3)
    assert shape(stopped.pop("error")) == {"code": "text", "next": "text", "text": "text"}
    assert running.keys() == stopped.keys()
    # What the parts of a site are, and whether one has a fault already, is not the command's.
    for state in (running, stopped):
        state["parts"] = [{key: None for key in part} for part in state["parts"].values()][:1]
        for counted in ("outbox", "restarts", "recovered_at_start", "loop_lag_ms"):
            state[counted] = {}
    compare("status", shape(running))


def test_every_command_is_compared_or_acts():
    known = {name for name in READS | AWAY_FROM_A_SITE} | ELSEWHERE | ACTS
    assert {"-".join(path) for path in LEAVES} <= known


def test_a_shape_tells_what_differs():
    assert shape({"a": [1, None], "b": [{"c": 1.5}], "d": []}) == {
        "a": ["integer|null"],
        "b": [{"c": "number"}],
        "d": [],
    }
    with pytest.raises(AssertionError):
        merged({"a": "text"}, {"b": "text"})
