"""What a B5 says of a purchase, by the ways of its antenna's maker."""

from dataclasses import replace

import pytest

from gateway.model.passage import PurchaseOutcome
from gateway.points.etc.purchase_result import INCOMPLETE, Ordered, result_of
from gateway.points.etc.rsu_errors import PROFILE_OF_DIALECT, PROFILES, ResultFields
from protocols.rsu.messages import DebitResult

PURSE = Ordered("20261123100000", 1500, stored_value=True)
CHARGE = replace(PURSE, stored_value=False)
SUCCESS = DebitResult(
    obu_id=bytes(4),
    error=0,
    terminal=bytes.fromhex("019900000001"),
    trans_time_bcd=PURSE.purchase_time,
    trans_type=9,
    algorithm=0,
    key_version=1,
    tac=b"TAC1",
    card_serial=41,
    psam_serial=7,
    balance_raw=48_500,
)
V3, BJ, SPARSE = PROFILES["pcrsu-v3"], PROFILES["l-bj"], PROFILES["l-bj-sparse"]
BALANCE_BEFORE, SERIAL_BEFORE = PROFILES["pcrsu-v3-balance-before"], PROFILES["pcrsu-v3-serial-before"]


def test_a_success_tells_everything_that_is_compared():
    result = result_of(SUCCESS, PURSE, V3)
    assert (result.outcome, result.reason) == (PurchaseOutcome.TAKEN, None)
    assert (result.balance_after, result.card_serial, result.psam_serial) == (48_500, 41, 7)
    assert (result.terminal, result.tac, result.tac_source) == ("019900000001", b"TAC1", "b5")


@pytest.mark.parametrize(
    "without",
    [{"tac": None}, {"tac": bytes(4)}, {"card_serial": None}, {"psam_serial": None}, {"balance_raw": None}],
    ids=str,
)
@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_a_success_without_its_proof_is_disputed_in_every_profile(without, profile):
    result = result_of(replace(SUCCESS, **without), PURSE, profile)
    assert (result.outcome, result.reason) == (PurchaseOutcome.DISPUTED, INCOMPLETE)


def test_without_a_profile_that_says_so_nothing_stands_for_not_told():
    """Zero is a serial, and all ones a balance: they are compared like any other."""
    for name in (*PROFILE_OF_DIALECT.values(), "pcrsu-v3.5"):
        result = result_of(
            replace(SUCCESS, card_serial=0, psam_serial=0, balance_raw=0xFFFFFFFF), CHARGE, PROFILES[name]
        )
        assert PROFILES[name].result == ResultFields()
        assert result.outcome is PurchaseOutcome.TAKEN
        assert (result.card_serial, result.psam_serial, result.balance_after) == (0, 0, 0xFFFFFFFF)


def test_an_antenna_that_tells_the_balance_before():
    assert result_of(replace(SUCCESS, balance_raw=50_000), PURSE, BALANCE_BEFORE).balance_after == 48_500
    assert result_of(replace(SUCCESS, balance_raw=100), CHARGE, BALANCE_BEFORE).balance_after == (1 << 32) - 1400


def test_an_antenna_that_tells_the_serial_of_the_cards_first_answer():
    assert result_of(SUCCESS, PURSE, SERIAL_BEFORE).card_serial == 42
    assert result_of(replace(SUCCESS, card_serial=0xFFFF), PURSE, SERIAL_BEFORE).card_serial == 0


def test_an_antenna_that_leaves_out_what_it_could_not_read():
    result = result_of(replace(SUCCESS, balance_raw=0xFFFFFFFF, psam_serial=0), CHARGE, SPARSE)
    assert (result.outcome, result.balance_after, result.psam_serial) == (PurchaseOutcome.TAKEN, None, None)
    assert result_of(SUCCESS, CHARGE, SPARSE).balance_after == 48_500
    assert result_of(SUCCESS, CHARGE, SPARSE).psam_serial == 7
    assert result_of(replace(SUCCESS, psam_serial=0), PURSE, SPARSE).psam_serial == 0, "not of a stored-value card"


def test_a_result_fetched_once_more_may_know_no_psam_serial():
    zero = replace(SUCCESS, psam_serial=0)
    assert result_of(zero, PURSE, BJ, fetched=True).psam_serial is None
    assert result_of(zero, PURSE, BJ).psam_serial == 0
    assert result_of(SUCCESS, PURSE, BJ, fetched=True).psam_serial == 7


def test_a_failure_tells_what_the_antenna_sent_with_it():
    lost = replace(SUCCESS, error=0x01, tac=bytes(4), card_serial=0, balance_raw=0xFFFFFFFF)
    result = result_of(lost, PURSE, V3)
    assert (result.outcome, result.reason) == (PurchaseOutcome.UNKNOWN, "purchase_unknown")
    assert (result.card_serial, result.tac, result.tac_source) == (None, None, None)
    assert result_of(replace(lost, card_serial=42), PURSE, V3).card_serial == 42
    assert result_of(replace(lost, error=0x07), PURSE, V3).outcome is PurchaseOutcome.DISPUTED
