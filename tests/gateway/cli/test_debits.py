"""`etcgw debits` about one debit: everything at a glance, how it came there, and what people do about it."""

import json

import pytest

from gateway.cli import visit, words
from gateway.debit.late import LateEffect
from gateway.model.passage import PurchaseOutcome
from tests.gateway.cli.conftest import CARD, PLATE, bank_request, card_request
from tests.gateway.debit.conftest import APPROVED, PurchaseResult, charge

pytestmark = pytest.mark.slow

UNKNOWN = PurchaseResult(PurchaseOutcome.UNKNOWN, error=1)
DISPUTED = PurchaseResult(PurchaseOutcome.DISPUTED)
WHY = ("--reason", "seen on the camera")


@pytest.fixture
def act(ask, run, site):
    """`etcgw debits ... --json`, or the refusal's words."""

    def call(name, *arguments, code=0):
        if code:
            return run("debits", name, *arguments, "--config", site, code=code).stderr
        return ask("debits", name, *arguments, "--config", site)

    return call


# --- looking --------------------------------------------------------------------------------------------------------


def test_one_debit_by_record_key_and_id(act, stored):
    by_record = act("show", 4)
    ((debit_id, passage_id, attempt),) = stored(
        "select d.id, d.passage_id, a.id from debit d join attempt a on a.debit_id = d.id where idempotency_key = 'k4'"
    )
    for which in ("k4", debit_id, debit_id.upper(), passage_id, attempt):
        assert act("show", which) == by_record
    assert by_record["debit_id"] == debit_id
    assert (by_record["state"], by_record["amount_fen"], by_record["stood_in"]) == ("owed", 1500, True)
    assert (by_record["held_fen"], by_record["collected_fen"], by_record["refundable_fen"]) == (1500, 0, 0)
    assert [(a["kind"], a["state"]) for a in by_record["attempts"]] == [("sale", "unknown")]
    (decision,) = by_record["decisions"]
    assert (decision["tariff_version"], decision["list_version"]) == ("t1", "l1")
    assert decision["rules_version"]
    assert by_record["purchases"][0]["tac"] == "aabbccdd"
    assert by_record["refunds"] == by_record["items"] == []


def test_nobodys_card_and_plate_are_shown_unless_asked(act, run, site, stored):
    shown = json.dumps(act("show", 1), ensure_ascii=False)
    assert CARD not in shown
    assert PLATE not in shown
    assert act("show", 1, "--unmask")["card_number"] == CARD
    text = run("debits", "show", "1", "--config", site).stdout
    assert PLATE not in text
    assert PLATE in run("debits", "show", "1", "--config", site, "--unmask").stdout


def test_a_debit_as_text(run, site, stored):
    text = run("debits", "show", "4", "--config", site).stdout
    for part in ("owed, decided in the bank's place", "15.00 CNY", "unknown", "reversal", "AABBCCDD".lower(), "t1"):
        assert part in text
    assert "欠付" in run("--lang", "zh", "debits", "show", "4", "--config", site).stdout
    disputed = run("debits", "show", "6", "--config", site).stdout
    assert "charged_without_tac" in disputed


def test_an_unknown_debit_is_1_in_both_languages(run, act, site, stored):
    for name, more in (("show", ()), ("history", ()), ("adjust", ("--amount", 5, *WHY))):
        assert "no debit k99" in act(name, "k99", *more, code=1)
    assert "没有" in run("--lang", "zh", "debits", "show", "k99", "--config", site, code=1).stderr


def test_the_history_is_in_the_order_of_booking_and_tells_when_it_happened(act, run, site, stored):
    found = act("history", 4)
    assert [(entry["what"], entry["event"]) for entry in found["history"]] == [
        ("purchase", "intent"),
        ("purchase", "taken"),
        ("transfer", "hold"),
        ("debit", "held"),
        ("attempt", "stored"),
        ("transfer", "released"),
        ("attempt", "unknown"),
        ("debit", "owed"),
        ("decision", "owed"),
    ]
    hold = found["history"][2]
    assert hold["event_at"].startswith("1970-01-01")
    assert hold["booked_at"].startswith("2023-11-15")
    assert hold["detail"].startswith("pending: open:..")
    booked = [entry["booked_us"] for entry in found["history"]]
    assert booked == sorted(booked)
    text = run("debits", "history", "4", "--config", site).stdout
    assert "merchant:road-1" in text
    assert "转账" in run("--lang", "zh", "debits", "history", "4", "--config", site).stdout


# --- refunds and corrections ----------------------------------------------------------------------------------------


def test_a_refund_is_decided_once_and_its_key_is_shown(act, run, site, stored):
    first = act("refund", 2, "--amount", 500, "--reason", "wrong class")
    assert (first["target"], first["state"], first["replayed"]) == ("bank", "decided", False)
    again = act("refund", 2, "--amount", 500, "--reason", "wrong class")
    assert again == {**first, "replayed": True}
    other = act("refund", 2, "--amount", 500, "--reason", "wrong class", "--key", "r2")
    assert (other["key"], other["replayed"]) == ("r2", False)
    assert "above what was collected" in act("refund", 2, "--amount", 501, *WHY, code=1)
    assert "with other content" in act("refund", 2, "--amount", 400, "--key", "r2", "--reason", "wrong class", code=1)
    shown = act("show", 2)
    assert (shown["refunded_fen"], shown["refundable_fen"]) == (1000, 500)
    assert [refund["key"] for refund in shown["refunds"]] == [first["key"], "r2"]
    assert stored("select distinct actor from journal where kind = 'refund'") == [("wang",)]
    text = run("debits", "show", "2", "--config", site).stdout
    assert "wrong class" in text
    assert (
        "nothing was done again"
        in run(
            "debits", "refund", "2", "--amount", "500", "--key", "r2", "--reason", "wrong class", "--config", site
        ).stderr
    )


def test_a_refund_at_a_till_is_paid_at_once_or_later(act, stored):
    paid = act("refund", 1, "--amount", 500, "--till", "till-1", *WHY)
    assert (paid["target"], paid["state"]) == ("till", "paid")
    assert act("refund", 1, "--amount", 500, "--till", "till-1", *WHY)["replayed"]
    later = act("refund", 1, "--amount", 200, "--target", "till", *WHY)
    assert (later["target"], later["state"]) == ("till", "decided")
    done = act("pay-refund", later["refund_id"], "--till", "till-2")
    assert (done["state"], done["till"]) == ("paid", "till-2")
    assert "paid before" in act("pay-refund", later["refund_id"], "--till", "till-2", code=1)
    assert "no such refund" in act("pay-refund", "0" * 32, "--till", "till-2", code=1)
    assert stored("select owner, balance from account where kind = 'till' order by owner") == [
        ("till-1", 500),
        ("till-2", 200),
    ]


def test_a_running_gateway_tells_the_bank_of_a_refund(act, drive, stored):
    act("refund", 2, "--amount", 500, *WHY)

    async def tell(box):
        from gateway.outbox.collector import Collector

        await Collector("bank-1", box.engine, box.queries, clock=box.clock).round()
        box.bank.answers.extend([APPROVED, APPROVED])
        await box.drain(3)
        return [message for message in box.bank.heard if message.startswith("refund")]

    assert len(drive(tell)) == 1
    assert [refund["state"] for refund in act("show", 2)["refunds"]] == ["paid"]


def test_an_unpaid_claim_is_put_right(act, run, site, stored, drive):
    found = act("adjust", 3, "--amount", 1000, *WHY)
    assert (found["state"], found["amount_fen"]) == ("debt", 1000)
    assert stored("select detail, actor from journal where event = 'adjusted'") == [
        ("1500 -> 1000 fen: seen on the camera", "wang")
    ]
    assert "settled" in act("adjust", 1, "--amount", 1000, *WHY, code=1)
    assert "has yet to say" in act("adjust", 4, "--amount", 1000, *WHY, code=1)
    run("debits", "adjust", "3", "--amount", "0", *WHY, "--config", site, code=2)
    run("debits", "adjust", "3", "--amount", "5", "--reason", " ", "--config", site, code=2)


# --- what is stuck --------------------------------------------------------------------------------------------------


@pytest.fixture
def stuck(drive):
    """A debit whose purchase ended so."""

    def make(result, key="k9", **more):
        async def scenario(box):
            decision = await charge(box, card_request(key, card="99010000000000000009", **more), result=result)
            return decision.debit_id

        return drive(scenario)

    return make


@pytest.mark.parametrize("result", [UNKNOWN, DISPUTED], ids=["unknown", "disputed"])
@pytest.mark.parametrize(
    "said", [("--taken", "funded", "paid"), ("--not-taken", "voided", "refused")], ids=["taken", "not-taken"]
)
def test_a_person_ends_a_purchase(act, run, site, stuck, stored, result, said):  # noqa: PLR0917 - fixtures
    word, state, outcome = said
    debit_id = stuck(result)
    found = act("resolve", debit_id, word, *WHY)
    assert found["state"] == state
    shown = act("show", debit_id)
    newest = shown["decisions"][-1]
    assert (newest["record_no"], newest["outcome"], newest["recovered"]) == (found["record_no"], outcome, True)
    assert (newest["occasion"], newest["barrier_moved"]) == ("person", False)
    assert (newest["by"], newest["why"]) == ("wang", WHY[1])
    told = run("passages", "show", str(found["record_no"]), "--config", site).stdout
    assert f"nothing moved at the lane: wang: {WHY[1]}" in " ".join(told.split())
    assert stored("select count(*) from rules where version = ?", newest["rules_version"]) == [(1,)]
    said = [entry for entry in act("history", debit_id)["history"] if entry["what"] == "person"]
    assert [(entry["actor"], entry["detail"]) for entry in said] == [("wang", WHY[1])]
    assert all(item["state"] == "corrected" for item in shown["items"] if item["kind"] == "disputed_purchase")
    assert "settled" in act("resolve", debit_id, word, *WHY, code=1)


@pytest.mark.usefixtures("stored")
def test_a_bank_debit_that_was_taken_is_owed_within_the_mandates_own_limit(act, drive, run, site):
    run("mandates", "import", site.parent / "mandates.csv", "--config", site)

    async def scenario(box):
        decision = await charge(box, bank_request("k9", "m1", 9), result=UNKNOWN)
        return decision.debit_id

    debit_id = drive(scenario)
    assert act("resolve", debit_id, "--taken", *WHY)["state"] == "owed"
    newest = act("show", debit_id)["decisions"][-1]
    assert (newest["release"], newest["reason"]["code"]) == ("go", "bank_silent")


def test_a_person_who_asked_the_bank_ends_an_attempt(act, run, site, stored):
    ((attempt,),) = stored("select id from attempt where state = 'unknown'")
    word = ("resolve", 4, "--attempt", attempt, "--posted", "--source", "call of the 16th", *WHY)
    found = act(*word)
    assert (found["state"], found["collected_fen"], found["effect"]) == ("funded", 1500, "settled")
    assert stored("select detail, actor from journal where event = 'said_posted'") == [
        ("call of the 16th: seen on the camera", "wang")
    ]
    assert "known already" in act(*word, code=1)
    wrong = ("resolve", 2, "--attempt", attempt, "--not-posted", "--source", "x", *WHY)
    assert "no such attempt" in act(*wrong, code=1)


def test_a_word_on_two_things_or_half_a_word_is_wrong_usage(run, site, stored):
    for words_said in (
        (),
        ("--taken", "--attempt", "a", "--posted", "--source", "x"),
        ("--attempt", "a", "--posted"),
        ("--posted", "--source", "x"),
        ("--attempt", "a", "--source", "x"),
    ):
        run("debits", "resolve", "4", *words_said, *WHY, "--config", site, code=2)


def test_what_a_person_says_waits_for_a_ledger_in_use_and_never_makes_one(run, act, site, ledger, ledger_in_use):
    with ledger_in_use():
        assert "another process" in act("refund", 2, "--amount", 5, *WHY, code=3)
    (site.parent / "ledger.db").unlink()
    act("pay-refund", "0" * 32, "--till", "t", code=3)
    assert not (site.parent / "ledger.db").exists()


def test_every_effect_and_state_has_words():
    assert {effect.name.lower() for effect in LateEffect} == words.LATE_EFFECTS.keys()
    assert {"bank", "issuer", "till"} == words.REFUND_TARGETS.keys()
    assert visit.WHAT.keys() >= {"debit", "attempt", "refund", "item", "person"}
