"""Verdicts on cards: every reason is found, each alone and all together, and what was not checked is told."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.cards.contents import read_card
from gateway.cards.standing import lists_in_force
from gateway.cards.verdict import Check, ListsInForce, Question, SiteFacts, judge
from gateway.model.passage import Funding
from gateway.model.states import MandateStatus, PurchaseState
from gateway.payers.mandates import IssuerPolicy, Issuers, Mandate
from gateway.payers.status_list_build import build
from gateway.payers.status_lists import DROP_BOUND
from gateway.views.cards import CardStanding, OpenPurchase
from gateway.views.mandates import Exposure
from protocols.card import commands
from protocols.codings import CHINA_TIME
from protocols.crypto import Algorithm
from tests.gateway.cards.odd_cards import (
    NUMBER,
    PLATE,
    Refusing,
    Strange,
    entry,
    in_slot,
    reads_record,
    selects_application,
    transit_card,
    user_card,
    with_file,
    with_transaction,
)

NOW = datetime(2024, 3, 1, 12, 0, tzinfo=CHINA_TIME)
ASKED = Question(NOW, CHINA_TIME, clock_trusted=True)
ISSUERS = Issuers({bytes.fromhex("B2E2CAD4"): IssuerPolicy("issuer-9901")})
NOTHING_KNOWN = CardStanding(None, None, (), 0, 0, listed=False, purchase=None)
MANDATE = Mandate("m1", MandateStatus.ACTIVE, Funding.BANK_ONLINE, "bank-1", "1", 1000, 0)


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lists")
    file = folder / "delivery.csv"
    file.write_text(f"kind,key,list_type,sign\ncard,{NUMBER},1,1\nplate,{PLATE}|0,1,1\n", encoding="utf-8")
    build(file, folder, version="L1", created_at=NOW - timedelta(hours=30), effective_at=NOW - timedelta(hours=30))
    return lists_in_force(folder, NOW, DROP_BOUND, timedelta(hours=48))


@pytest.fixture(scope="module")
def nobody(tmp_path_factory):
    """A list that bars somebody else."""
    folder = tmp_path_factory.mktemp("lists")
    file = folder / "delivery.csv"
    file.write_text("kind,key,list_type,sign\ncard,99010000000000000017,1,1\n", encoding="utf-8")
    build(file, folder, version="L1", created_at=NOW - timedelta(hours=30), effective_at=NOW - timedelta(hours=30))
    return lists_in_force(folder, NOW, DROP_BOUND, timedelta(hours=48))


@pytest.fixture
def site(nobody):
    return SiteFacts(ISSUERS, nobody, NOTHING_KNOWN)


def judged(chip, question=ASKED, site=None):
    return judge(asyncio.run(read_card(in_slot(chip))), question, site)


def codes(verdict):
    return [finding.reason.code for finding in verdict.findings]


def test_good_card_is_taken_and_every_check_was_made(site):
    verdict = judged(user_card(), replace(ASKED, psam=frozenset({Algorithm.DES3}), needs_entry=True), site)
    assert (verdict.taken, verdict.findings, verdict.not_made) == (True, (), ())


def test_without_a_site_the_checks_it_would_need_are_told():
    verdict = judged(user_card())
    assert verdict.taken
    assert set(verdict.not_made) == {
        Check.ISSUER, Check.LISTS, Check.MANDATE, Check.LIMITS, Check.KEYS, Check.PURCHASES, Check.DEBTS,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("chip", "expected"),
    [
        (user_card(expires=datetime(2024, 2, 1, tzinfo=UTC).date()), ["card_expired"]),
        (user_card(starts=datetime(2024, 4, 1, tzinfo=UTC).date()), ["card_not_yet_valid"]),
        (user_card(card_type=21), ["card_type_illegal"]),
        (user_card(balance_raw=0), ["purse_zero"]),
        (user_card(balance_raw=0x80001234), ["purse_suspicious"]),
        (user_card(plate=""), ["plate_unknown"]),
        (transit_card(), ["card_not_etc"]),
        (Strange(payments=True), ["card_blank"]),
        (Strange(payments=False), ["card_not_etc"]),
        (with_file(user_card(), commands.SFI_CARD_FILE, lambda data: data[:20]), ["card_unreadable"]),
        (Refusing(user_card(), reads_record(commands.SFI_STATIONS), 0x6581), ["card_unreadable"]),
        (Refusing(user_card(), selects_application, 0x6283), ["card_locked"]),
        (Refusing(user_card(), lambda c: c.ins == 0x5C, 0x6F00), ["card_unreadable"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_card_that_shows_its_own_fault(chip, expected):
    verdict = judged(chip)
    assert codes(verdict) == expected
    assert not verdict.taken
    assert all(finding.reason.next_step_zh for finding in verdict.findings)


def test_every_reason_is_found_not_the_first_alone(lists):
    card = user_card(
        expires=datetime(2024, 2, 1, tzinfo=UTC).date(), balance_raw=0, station=entry(plate="测B99999", status=2)
    )
    standing = replace(NOTHING_KNOWN, debts=2, debts_fen=500, listed=True)
    verdict = judged(card, replace(ASKED, needs_entry=True), SiteFacts(Issuers({}), lists, standing))
    assert set(codes(verdict)) == {
        "card_issuer_unknown", "card_expired", "card_listed_lost", "plate_recovery", "purse_zero", "no_entry",
        "debts_listed",
    }  # fmt: skip
    assert [finding.check for finding in verdict.findings] == sorted(
        (finding.check for finding in verdict.findings), key=list(Check).index
    )


def test_dates_are_judged_by_a_trusted_clock_alone():
    expired = user_card(expires=datetime(2024, 2, 1, tzinfo=UTC).date())
    verdict = judged(expired, replace(ASKED, clock_trusted=False))
    assert (verdict.taken, Check.DATES in verdict.not_made) == (True, True)


def test_last_day_of_validity_counts():
    assert judged(user_card(expires=NOW.date())).taken


def test_amount_is_asked_of_a_purse_and_not_of_a_charge_card():
    asked = replace(ASKED, amount_fen=600)
    assert codes(judged(user_card(balance_raw=599), asked)) == ["purse_too_low"]
    assert codes(judged(user_card(balance_raw=600), asked)) == []
    assert codes(judged(user_card(balance_raw=0, card_type=23), asked)) == []


def test_stale_list_is_a_note(nobody):
    stale = ListsInForce(nobody.lists, timedelta(hours=24))
    verdict = judged(user_card(), site=SiteFacts(ISSUERS, stale, NOTHING_KNOWN))
    assert (codes(verdict), verdict.taken) == (["list_stale"], True)
    assert "30.0 h" in str(verdict.findings[0].detail)
    doubted = judged(user_card(), replace(ASKED, clock_trusted=False), SiteFacts(ISSUERS, stale, NOTHING_KNOWN))
    assert codes(doubted) == []


def test_without_a_usable_list_no_card_is_taken(tmp_path):
    none = lists_in_force(tmp_path / "nowhere", NOW, DROP_BOUND, timedelta(hours=24))
    verdict = judged(user_card(), site=SiteFacts(ISSUERS, none, NOTHING_KNOWN))
    assert (codes(verdict), verdict.taken) == (["list_unavailable"], False)


@pytest.mark.parametrize(
    ("mandate", "code"),
    [
        (None, "no_mandate"),
        (replace(MANDATE, status=MandateStatus.PAUSED), "mandate_paused"),
        (replace(MANDATE, status=MandateStatus.CLOSED), "mandate_closed"),
        (MANDATE, None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_charge_card_needs_its_mandate(site, mandate, code):
    known = replace(site, standing=replace(NOTHING_KNOWN, mandate=mandate))
    verdict = judged(user_card(card_type=23), site=known)
    assert codes(verdict) == ([] if code is None else [code])


def test_used_up_limit_is_told_with_its_amounts(site):
    standing = replace(NOTHING_KNOWN, mandate=MANDATE, exposure=Exposure(300, 200, 500))
    verdict = judged(user_card(card_type=23), site=replace(site, standing=standing, limit_problem="limit_exceeded"))
    assert codes(verdict) == ["limit_exceeded"]
    assert "10.00 CNY of 10.00 CNY" in str(verdict.findings[0].detail)


@pytest.mark.parametrize(
    ("state", "code"),
    [(PurchaseState.UNKNOWN, "purchase_open"), (PurchaseState.DISPUTED, "purchase_disputed")],
    ids=str,
)
def test_open_purchase_bars_the_card(site, state, code):
    standing = replace(NOTHING_KNOWN, purchase=OpenPurchase("p1", state, 100))
    verdict = judged(user_card(), site=replace(site, standing=standing))
    assert (codes(verdict), verdict.taken) == ([code], False)


def test_debts_bar_where_the_rules_say_so(site):
    owing = replace(NOTHING_KNOWN, debts=1, debts_fen=100)
    assert codes(judged(user_card(), site=replace(site, standing=owing))) == ["payer_in_debt"]
    listed = replace(site, standing=replace(owing, listed=True))
    assert codes(judged(user_card(), site=listed)) == ["debts_listed"]
    assert judged(user_card(), site=replace(listed, debts_refused=False)).taken


def test_entry_keeps_a_card_only_from_an_exit():
    none, late = user_card(station=None), user_card(station=entry(unix_seconds=1_700_000_000))
    ahead = user_card(station=entry(unix_seconds=1_800_000_000))
    other = user_card(station=entry(plate="测B99999", vehicle_class=3))
    wanted = {
        none: ["no_entry"],
        late: ["trip_too_long"],
        ahead: ["entry_time_invalid"],
        other: ["plate_mismatch_entry", "class_mismatch_entry"],
    }
    for card, expected in wanted.items():
        assert codes(judged(card)) == expected
        assert judged(card).taken
        assert not judged(card, replace(ASKED, needs_entry=True)).taken


def test_keys_of_the_psam_must_be_those_of_the_card():
    only_3des, only_sm4 = frozenset({Algorithm.DES3}), frozenset({Algorithm.SM4})
    older, newer = user_card(), user_card(version=0x51)
    assert judged(newer, replace(ASKED, psam=only_sm4)).findings == ()
    assert codes(judged(older, replace(ASKED, psam=only_sm4))) == ["psam_keys_missing"]
    assert not judged(older, replace(ASKED, psam=only_sm4)).taken
    fallback = judged(newer, replace(ASKED, psam=only_3des))
    assert (codes(fallback), fallback.taken) == (["psam_keys_missing"], True)


@pytest.mark.parametrize(
    ("sequence", "code"), [(0xFFFF, "card_counter_full"), (0xFFF0, "card_counter_low"), (0x1000, None)]
)
def test_counter_near_its_end_is_told(sequence, code):
    verdict = judged(with_transaction(user_card(), sequence))
    assert codes(verdict) == ([] if code is None else [code])
    assert verdict.taken is (code != "card_counter_full")
