"""`etcgw card verdict`: by the card alone, and by a site with its lists, mandates and ledger."""

import pytest

from hardware.emulators.psam import Psam
from protocols.crypto import Algorithm
from tests.gateway.cards.odd_cards import PLATE, user_card
from tests.gateway.cli.conftest import CARD
from tests.gateway.cli.conftest import PLATE as SITE_PLATE


def known_card(number=CARD, **facts):
    """A card of the site's own ledger."""
    return user_card(inner_number=number[4:], **{"plate": SITE_PLATE, "card_type": 23, "station": None} | facts)


@pytest.fixture
def known_site(run, site, ledger):
    """The site of a test with its mandates."""
    run("mandates", "import", site.parent / "mandates.csv", "--config", site)
    return site


def reasons(found, *, refuses=True):
    return [finding["reason"]["code"] for finding in found["findings"] if finding["refuses"] is refuses]


def test_a_good_card_is_taken_and_what_was_not_checked_is_said(run, ask, desk):
    desk(user_card(station=None))
    found = ask("card", "verdict")
    assert found["taken"]
    assert found["clock"] == "trusted"
    assert {"issuer", "lists", "mandate", "keys"} <= set(found["not_checked"])
    assert "Not checked: issuer" in run("card", "verdict").stdout


def test_refused_card_is_exit_1_with_every_reason_in_both_languages(run, ask, desk):
    desk(user_card(balance_raw=0, station=None))
    asked = ("card", "verdict", "--at", "2035-01-01", "--exit")
    found = ask(*asked, code=1)
    assert reasons(found) == ["card_expired", "purse_zero", "no_entry"]
    assert found["error"]["code"] == "card_refused"
    assert [finding["special_event"]["number"] for finding in found["findings"]] == [21, 28, 129]
    told = run(*asked, code=1)
    assert "card has expired [card_expired]: valid until 2034-01-01" in told.stdout
    assert "卡片已过期" in run(*asked, "--lang", "zh", code=1).stdout
    assert PLATE not in told.stdout


def test_the_amount_is_asked_of_the_purse(ask, desk):
    desk(user_card(balance_raw=100, station=None))
    assert reasons(ask("card", "verdict", "--amount", "101", code=1)) == ["purse_too_low"]
    ask("card", "verdict", "--amount", "100")


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("99010000000000000001", []),
        ("99010000000000000002", ["mandate_paused"]),
        ("99010000000000000017", ["card_listed_in_debt", "no_mandate"]),
        ("99010000000000000005", ["no_mandate"]),
    ],
)
def test_the_site_is_asked(ask, desk, known_site, number, expected):
    plate = {"99010000000000000002": "测A00002"}.get(number, SITE_PLATE)
    desk(known_card(number, plate=plate))
    found = ask("card", "verdict", "--config", known_site, code=1 if expected else 0)
    assert reasons(found) == expected
    assert found["list"]["version"] == "L1"
    assert found["not_checked"] == ["keys"]


def test_debts_and_open_purchases_stand_in_the_ledger(ask, desk, known_site, sql):
    desk(known_card("99010000000000000003", plate=""))
    found = ask("card", "verdict", "--config", known_site, code=1)
    assert "payer_in_debt" in reasons(found, refuses=False)
    sql("update purchase set state = 'unknown'")
    assert "purchase_open" in reasons(ask("card", "verdict", "--config", known_site, code=1))


def test_used_up_limit_is_told(ask, desk, known_site, sql):
    sql("update mandate set limit_fen = 0 where id = 'm1'")
    desk(known_card())
    assert reasons(ask("card", "verdict", "--config", known_site, "--amount", "1", code=1)) == ["limit_exceeded"]


def test_a_site_without_a_ledger_is_judged_as_far_as_it_goes(ask, desk, site):
    desk(user_card(station=None))
    found = ask("card", "verdict", "--config", site)
    assert found["not_checked"] == ["mandate", "limits", "keys", "purchases", "debts"]


def test_a_dump_is_judged_like_its_card(ask, dump):
    file = dump(user_card(balance_raw=0, station=None))
    assert reasons(ask("card", "verdict", "--from", file, code=1)) == ["purse_zero"]


def test_the_psam_of_the_terminal_is_asked_for_its_keys(ask, desk):
    newer = user_card(version=0x51, station=None)
    desk(newer, terminal=Psam(mode="bench", algorithms=frozenset({Algorithm.DES3})))
    assert "psam_keys_missing" in reasons(ask("card", "verdict", "--psam", "terminal"), refuses=False)
    desk(newer, terminal=Psam(mode="bench"))
    found = ask("card", "verdict", "--psam", "terminal")
    assert "psam_keys_missing" not in reasons(found, refuses=False)
    assert "keys" not in found["not_checked"]
