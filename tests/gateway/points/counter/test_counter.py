"""A counter in every case but the pulled card: who pays, who is turned away and why, and devices that lie."""

import pytest

from drivers.errors import DeviceTimeout, LinkLost
from gateway.model.passage import Funding
from hardware.emulators.chip import Reaction
from protocols.crypto import Algorithm
from tests.gateway.points import plaza as bench
from tests.gateway.points.counter.desk import (
    PRICE,
    TERMINAL,
    Desk,
    Fault,
    buy_elsewhere,
    charge_card,
    psam_new,
    purchases,
    stored_value,
)
from tests.gateway.points.plaza import APPROVED, CLEARING, DECLINED, GOOD, LISTED_CARD, PAUSED

plaza_made_once, play = bench.plaza_made_once, bench.play


def pay_once(play, card, *, amount=PRICE, prepare=lambda plaza: None, psam=None, **changes):
    """(what the counter said, the plaza's decisions, the card) of one customer."""
    seen = {}

    async def story(plaza):
        prepare(plaza)
        desk = Desk(plaza, psam=psam, **changes)
        seen["end"] = await desk.pay(card, amount)
        seen["outcomes"] = plaza.outcomes()
        seen["held"] = plaza.rows("select count(*) from debit where state = 'held'")[0][0]

    play(story)
    return seen


def approving(plaza):
    plaza.bank.answers.append(APPROVED)


# --- who pays ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0x10, 0x40, 0x50])
@pytest.mark.parametrize("length", [43, 50])
def test_cards_of_all_versions_pay_with_the_keys_they_have(play, version, length):
    card = stored_value(version=version, length=length)
    assert pay_once(play, card)["outcomes"] == [("paid", "go", None)]
    assert purchases(card) == [(PRICE, TERMINAL)]


def test_a_card_for_both_pays_with_3des_where_its_sm4_key_is_missing(play):
    card = stored_value(version=0x50, algorithms=frozenset({Algorithm.DES3}))
    assert pay_once(play, card)["outcomes"] == [("paid", "go", None)]


def test_a_charge_card_is_charged_to_its_mandate_and_the_bank(play):
    card = charge_card(GOOD)
    seen = pay_once(play, card, prepare=approving)
    assert seen["outcomes"] == [("paid", "go", None)]
    assert seen["end"].decision.funding is Funding.BANK_ONLINE
    assert purchases(card) == [(PRICE, TERMINAL)]


def test_a_charge_card_writes_zero_where_the_site_says_so(play):
    card = charge_card(GOOD)
    assert pay_once(play, card, prepare=approving, charge_card_purchase="zero")["outcomes"] == [("paid", "go", None)]
    assert purchases(card) == [(0, TERMINAL)]


@pytest.mark.parametrize(("policy", "release"), [("release_as_debt", "go"), ("hold_for_attendant", "attendant")])
def test_a_bank_that_declines_leaves_a_debt(play, policy, release):
    def prepare(plaza):
        plaza.bank.answers.append(DECLINED)

    seen = pay_once(play, charge_card(GOOD), prepare=prepare, bank_declines=policy)
    assert seen["outcomes"] == [("debt", release, "bank_declined")]


def test_an_issuer_collects_later(play):
    seen = pay_once(play, charge_card(CLEARING))
    assert seen["end"].decision.funding is Funding.ISSUER_CLEARING


# --- who is turned away -----------------------------------------------------------------------------------------------

REFUSED = {
    "purse_too_low": stored_value(balance=PRICE - 1),
    "purse_zero": stored_value(balance=0),
    "purse_suspicious": stored_value(balance=1 << 31),
    "card_listed_in_debt": stored_value(LISTED_CARD),
    "mandate_paused": charge_card(PAUSED),
}


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_a_card_that_may_not_pay_is_told_why_and_asked_nothing(play, number):
    reason, card = list(REFUSED.items())[number]
    seen = pay_once(play, card)
    assert seen["outcomes"][0][0] == "refused"
    assert seen["end"].decision.reason == reason
    assert purchases(card) == []


def test_the_same_amount_at_once_is_paid_twice_only_on_purpose(play):
    async def story(plaza):
        card = stored_value()
        desk = Desk(plaza)
        await desk.pay(card)
        again = await desk.pay(card)
        assert (again.decision.outcome, again.decision.reason) == ("refused", "paid_lately")
        assert (await desk.pay(card, again=True)).decision.outcome == "paid"
        assert (await desk.pay(card, PRICE + 1)).decision.outcome == "paid"
        assert len(purchases(card)) == 3
        await plaza.settle(60)
        assert (await desk.pay(card)).decision.outcome == "paid"

    play(story)


def test_a_bill_is_paid_once_whoever_pays_it(play):
    async def story(plaza):
        first, second = stored_value(1), stored_value(2)
        desk = Desk(plaza)
        paid = await desk.pay(first, reference="bill 7")
        once_more = await desk.pay(second, reference="bill 7")
        assert (paid.earlier, once_more.earlier) == (False, True)
        assert once_more.decision == paid.decision
        assert purchases(second) == []
        other = await desk.pay(second, reference="bill 8")
        assert (other.decision.outcome, other.earlier) == ("paid", False)

    play(story)


def test_a_bill_that_a_card_could_not_pay_is_paid_by_the_next(play):
    async def story(plaza):
        desk = Desk(plaza)
        poor, rich = stored_value(1, balance=1), stored_value(2)
        assert (await desk.pay(poor, reference="bill 7")).decision.outcome == "refused"
        assert (await desk.pay(rich, reference="bill 7")).decision.outcome == "paid"

    play(story)


# --- devices that fail or lie -----------------------------------------------------------------------------------------


def test_a_mute_card_at_the_debit_is_unknown_until_it_is_shown_again(play):
    async def story(plaza):
        card = stored_value()
        desk = Desk(plaza)
        at = await debit_at(desk)
        first = await desk.pay(card, fault=Fault(at, after=True, error=DeviceTimeout))
        assert (first.decision.outcome, first.decision.reason) == ("unknown", "purchase_unknown")
        other = await desk.pay(stored_value(2))
        assert other.decision.outcome == "paid"
        second = await desk.pay(card)
        assert (second.decision.outcome, second.earlier) == ("paid", True)
        assert plaza.rows("select tac_source from purchase order by created_at") == [("54",), ("5a",), ("54",)]

    play(story)


async def debit_at(desk):
    """Number of the command that debits, from a sale as it should be."""
    await desk.pay(stored_value(99))
    return next(n for n, command in enumerate(desk.slot().commands, 1) if command[:2] == b"\x80\x54")


@pytest.mark.parametrize("done", [True, False])
def test_a_debit_that_is_answered_with_an_error_is_believed_by_its_proof_alone(play, done):
    """A status word that no table knows says nothing: the card is asked at once what it did."""

    class Liar:
        def __init__(self, card):
            self.card = card

        def __getattr__(self, name):
            return getattr(self.card, name)

        def react(self, command):
            if command[:2] != b"\x80\x54":
                return self.card.react(command)
            if done:
                self.card.process(command)
            return Reaction(b"\x6f\x00")

    card = stored_value()
    seen = pay_once(play, Liar(card))
    assert seen["outcomes"] == ([("paid", "go", None)] if done else [("refused", "stop", "purchase_refused")])
    assert len(purchases(card)) == done
    assert seen["held"] == 0


def test_a_card_whose_mac2_is_wrong_is_disputed_and_keeps_its_evidence(play):
    class Fake:
        def __init__(self, card):
            self.card = card

        def __getattr__(self, name):
            return getattr(self.card, name)

        def react(self, command):
            answer = self.card.process(command)
            if command[:2] == b"\x80\x54":
                answer = answer[:4] + bytes(byte ^ 0xFF for byte in answer[4:8]) + answer[8:]
            return Reaction(answer)

    async def story(plaza):
        desk = Desk(plaza)
        card = stored_value()
        first = await desk.pay(Fake(card))
        assert (first.decision.outcome, first.decision.release, first.decision.reason) == (
            "unknown",
            "attendant",
            "mac2_failed",
        )
        assert plaza.rows("select kind from item") == [("disputed_purchase",)]
        assert plaza.rows("select state, tac is not null from purchase") == [("disputed", 1)]
        second = await desk.pay(card)
        assert (second.decision.outcome, second.decision.reason) == ("refused", "mac2_failed")
        assert len(purchases(card)) == 1

    play(story)


def test_a_psam_that_is_lost_after_the_debit_leaves_a_sale_that_is_marked(play):
    async def story(plaza):
        desk = Desk(plaza)
        await desk.pay(stored_value(5))
        last = len(desk.slot("psam").commands)
        await desk.close_psam()
        card = stored_value()
        paid = await desk.pay(card, psam_fault=Fault(last, after=False, error=LinkLost))
        assert (paid.decision.outcome, len(purchases(card))) == ("paid", 1)
        assert plaza.rows("select kind from item") == [("mac2_unchecked",)]
        assert (await desk.pay(stored_value(6))).decision.outcome == "paid", "the PSAM was opened anew"

    play(story)


def test_a_psam_whose_counter_stands_still_sells_nothing_twice(play):
    async def story(plaza):
        psam = psam_new(serial_step=0)
        desk = Desk(plaza, psam=psam)
        assert (await desk.pay(stored_value(1))).decision.outcome == "paid"
        stuck = await desk.pay(stored_value(2))
        assert (stuck.decision.outcome, stuck.decision.reason) == ("refused", "psam_operation_failed")

    play(story)


@pytest.mark.parametrize(
    ("psam", "reason"),
    [
        (psam_new(authorisation_needed=True), "psam_not_authorised"),
        (psam_new(algorithms=frozenset({Algorithm.SM4}), key_type=4), "psam_keys_missing"),
        (None, "psam_operation_failed"),
    ],
    ids=["not authorised", "other keys", "missing"],
)
def test_a_psam_that_does_not_work_refuses_and_the_card_is_not_asked(play, psam, reason):
    async def story(plaza):
        desk = Desk(plaza)
        desk.readers.chips["psam"] = psam
        card = stored_value()
        refused = await desk.pay(card)
        assert (refused.decision.outcome, refused.decision.reason) == ("refused", reason)
        assert purchases(card) == []

    play(story)


def test_a_card_is_settled_without_a_psam(play):
    async def story(plaza):
        card = stored_value()
        desk = Desk(plaza)
        at = await debit_at(desk)
        await desk.pay(card, fault=Fault(at, after=True))
        await desk.close_psam()
        desk.readers.chips["psam"] = None
        assert (await desk.settle(card)).outcome == "paid"
        assert await desk.settle(card) is None

    play(story)


def test_a_card_that_paid_elsewhere_in_between_is_charged_for_that_alone(play):
    """The number of our purchase is another one's now: ours never happened, although the card proves a purchase."""

    async def story(plaza):
        card = stored_value()
        desk = Desk(plaza)
        at = await debit_at(desk)
        first = await desk.pay(card, fault=Fault(at, after=False))
        assert first.decision.outcome == "unknown"
        buy_elsewhere(card, 300, terminal="019900000077")
        await plaza.settle(6)
        second = await desk.pay(card)
        assert (second.decision.outcome, second.earlier) == ("paid", False)
        assert purchases(card) == [(300, "019900000077"), (PRICE, TERMINAL)]
        assert plaza.rows("select p.state from purchase p order by created_at")[1:] == [("not_taken",), ("taken",)]

    play(story)


def test_a_psam_that_is_missing_is_told_until_it_is_there(play):
    async def story(plaza):
        desk = Desk(plaza)
        desk.readers.chips["psam"] = None
        await desk.pay(stored_value(1))
        desk.readers.chips["psam"] = desk.psam
        assert (await desk.pay(stored_value(2))).decision.outcome == "paid"
        told = [(works, code) for part, works, _, code in desk.told if part == "desk-0/psam"]
        assert told[0] == (False, "psam_operation_failed")
        assert told[-1] == (True, None)

    play(story)
