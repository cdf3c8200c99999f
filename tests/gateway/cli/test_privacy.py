"""`etcgw privacy erase` on a ledger that the debit engine wrote: settled are records 1, 2 and 7.

Record 3 is a debt, 4 owed, and about 6 somebody must still find out why the card gave no proof.
"""

import pytest

CARD, PLATE = "99010000000000000001", "测A00001"
KEPT = {"debit_open": 2, "item_open": 1}


@pytest.fixture
def erase(ask, site, ledger):
    """Erase as somebody; gives what was told."""

    def call(*arguments, code=0):
        return ask("privacy", "erase", "--config", site, *arguments, code=code)

    return call


def test_by_age(erase, ask, site):
    found = erase("--older-than", "30")
    assert found["dry_run"] is False
    assert found["passages"] == 3
    assert found["kept"] == KEPT
    assert found["log_emptied"] is True
    assert ask("ledger", "verify", "--config", site)["ok"]
    shown = ask("passages", "--config", site, "--unmask")["passages"]
    assert {p["record_no"] for p in shown if p["plate"] is not None} == {3, 4, 6}


def test_a_dry_run_changes_nothing(erase, ask, run, site):
    before = (site.parent / "ledger.db").read_bytes()
    found = erase("--older-than", "30", "--dry-run")
    assert (found["dry_run"], found["passages"], found["kept"]) == (True, 3, KEPT)
    assert (site.parent / "ledger.db").read_bytes() == before
    assert "nothing was erased" in run("privacy", "erase", "--config", site, "--older-than", "1", "--dry-run").stderr


@pytest.mark.parametrize(
    ("arguments", "passages"),
    [
        (["--card", CARD], 1),
        (["--plate", PLATE], 3),
        (["--plate", PLATE.lower()], 3),
        (["--plate", "测A99999"], 0),
        (["--passage", "2"], 1),
        (["--passage", "3"], 0),
    ],
    ids=str,
)
def test_by_card_plate_or_record(erase, arguments, passages):
    assert erase(*arguments)["passages"] == passages


def test_by_passage_id(erase, ask, site):
    passage_id = ask("passages", "show", "2", "--config", site)["passage_id"]
    assert erase("--passage", passage_id)["passages"] == 1


def test_a_passage_that_is_not_there(run, erase, site):
    for wanted in ("99", "ab" * 16, "x"):
        result = run("privacy", "erase", "--config", site, "--passage", wanted, code=1)
        assert f"no passage {wanted}" in result.stderr


def test_erased_passages_are_still_shown_without_anybody(run, erase, ask, site):
    erase("--older-than", "30")
    assert run("passages", "--config", site).stdout
    assert ask("passages", "show", "2", "--config", site, "--unmask")
    assert CARD not in run("passages", "show", "2", "--config", site, "--unmask").stdout


def test_as_text(run, site, ledger):
    text = run("privacy", "erase", "--config", site, "--older-than", "30").stdout
    assert "Passages" in text
    assert "2: its money is not settled" in text
    again = run("--lang", "zh", "privacy", "erase", "--config", site, "--older-than", "30").stdout
    assert "款项未结清" in again


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--older-than", "30", "--card", CARD],
        ["--older-than", "0"],
    ],
    ids=" ".join,
)
def test_wrong_usage(run, site, ledger, arguments):
    run("privacy", "erase", "--config", site, *arguments, code=2)


def test_the_actor_stands_in_the_journal(erase, sql):
    erase("--card", CARD)
    assert sql("select actor from journal where event = 'erased'") == [("wang",)]


def test_without_a_ledger(run, site):
    run("privacy", "erase", "--config", site, "--older-than", "30", code=3)
