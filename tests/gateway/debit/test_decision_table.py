"""The decision table over every input, against the design's table written down a second time."""

import itertools

import pytest

from gateway.model.passage import (
    BankOutcome,
    DeclinePolicy,
    Funding,
    Money,
    PassageOutcome,
    PurchaseOutcome,
    Release,
    decide,
)
from gateway.model.reasons import REASONS

# Left to right: purchase, funding, bank, and where the row depends on it the policy; then release, money, how it reads
# and why. A star stands for anything. The first row that fits counts.
TABLE = """
    not_taken  *               *         *                   stop       void         refused  purchase_refused
    unknown    *               *         *                   stop       hold_stays   unknown  purchase_unknown
    disputed   *               *         *                   attendant  hold_stays   unknown  purchase_disputed
    none       purse           *         *                   impossible
    none       issuer_clearing *         *                   impossible
    taken      cash            *         *                   impossible
    none       cash            *         *                   go         till_pays    paid     -
    *          purse           *         *                   go         issuer_pays  paid     -
    *          issuer_clearing *         *                   go         keep_open    paid     -
    *          bank_online     approved  *                   go         bank_pays    paid     -
    *          bank_online     declined  release_as_debt     go         debt         debt     bank_declined
    *          bank_online     declined  hold_for_attendant  attendant  debt         debt     bank_declined
    *          bank_online     *         stand_in_allowed    go         owed         owed     bank_silent
    *          bank_online     *         *                   attendant  owed         owed     stand_in_limit
"""
ROWS = [line.split() for line in TABLE.strip().splitlines()]


def expected(*facts):
    for row in ROWS:
        if all(cell == "*" or cell in fact for cell, fact in zip(row, facts, strict=False)):
            return row[4:]
    raise AssertionError(facts)


INPUTS = list(itertools.product(PurchaseOutcome, Funding, [*BankOutcome, None], DeclinePolicy, [True, False]))


@pytest.mark.parametrize(("purchase", "funding", "bank", "policy", "allowed"), INPUTS)
def test_every_input(purchase, funding, bank, policy, allowed):
    policies = {policy.value, *(["stand_in_allowed"] if allowed else [])}
    wanted = expected({purchase.value}, {funding.value}, {"" if bank is None else bank.value}, policies)

    def run():
        return decide(purchase, funding, bank, decline_policy=policy, stand_in_allowed=allowed)

    if wanted == ["impossible"]:
        with pytest.raises(ValueError, match=" a purchase on a card"):
            run()
        return
    verdict = run()
    found = [verdict.release, verdict.money, verdict.outcome, "-" if verdict.reason is None else verdict.reason]
    assert [str(f) for f in found] == wanted


def test_every_row_of_the_table_is_reached():
    reached = set()
    for purchase, funding, bank, policy, allowed in INPUTS:
        policies = {policy.value, *(["stand_in_allowed"] if allowed else [])}
        reached.add(tuple(expected({purchase.value}, {funding.value}, {"" if bank is None else bank.value}, policies)))
    assert reached == {tuple(row[4:]) for row in ROWS}


def test_an_open_barrier_always_has_money_behind_it_and_a_closed_one_a_reason():
    for purchase, funding, bank, policy, allowed in INPUTS:
        if (purchase is PurchaseOutcome.NONE and funding in (Funding.PURSE, Funding.ISSUER_CLEARING)) or (
            purchase is PurchaseOutcome.TAKEN and funding is Funding.CASH
        ):
            continue
        verdict = decide(purchase, funding, bank, decline_policy=policy, stand_in_allowed=allowed)
        if verdict.release is Release.GO:
            assert verdict.money not in (Money.VOID, Money.HOLD_STAYS, Money.NONE)
            assert purchase in (PurchaseOutcome.TAKEN, PurchaseOutcome.NONE)
        else:
            assert verdict.reason in REASONS
            assert verdict.outcome is not PassageOutcome.PAID
        if purchase is PurchaseOutcome.TAKEN:
            assert verdict.money is not Money.VOID, "the evidence stands"
