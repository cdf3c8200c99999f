"""`etcgw debts`: who owes since a bank refused, and what people do about it."""

import pytest

from gateway.rules.loading import shipped_rules
from tests.gateway.cli.conftest import bank_request
from tests.gateway.debit.conftest import DECLINED, charge

MARK = shipped_rules().listing.debts_fen


@pytest.fixture
def listed(drive, stored):
    """One more debt, of a payer whom it puts on the list; gives the debit's id."""

    async def scenario(box):
        request = bank_request("k9", "m9", 9, amount=MARK)
        await box.engine.hold(request, timeout_s=5)
        box.clock.now += 30
        box.bank.answers.append(DECLINED)
        decision = await charge(box, request)
        return decision.debit_id

    return drive(scenario)


def test_debts_with_who_owes_and_since_when(ask, run, site, stored, listed):
    found = ask("debts", "--config", site)
    assert [(debt["mandate_id"], debt["amount_fen"], debt["tries"]) for debt in found["debts"]] == [
        ("m9", MARK, 0),
        ("m2", 1500, 0),
    ]
    assert (found["count"], found["amount_fen"], found["payers"], found["payers_listed"]) == (2, MARK + 1500, 2, 1)
    newest, oldest = found["debts"]
    assert newest["listed_since"]
    assert oldest["listed_since"] is None
    assert newest["since_us"] > oldest["since_us"]
    ((created,),) = stored(f"select created_at from debit where id = x'{listed}'")
    assert newest["since_us"] == created + 30_000_000, "it was no debt while it was held"
    assert newest["next_try_us"] == newest["since_us"] + 3600 * 1_000_000
    assert newest["plate"] == "测A***01"
    assert ask("debts", "--config", site, "--unmask")["debts"][0]["plate"] == "测A00001"
    text = run("debts", "--config", site).stdout
    assert "m9" in text
    assert f"In all: 2 debts of {(MARK + 1500) / 100:.2f} CNY, payers: 2, listed: 1" in text
    assert "测A00001" not in text


def test_only_of_listed_payers(ask, run, site, listed):
    found = ask("debts", "--listed", "--config", site)
    assert [debt["debit_id"] for debt in found["debts"]] == [listed]
    assert (found["count"], found["payers"]) == (1, 1)


def test_a_debt_paid_at_a_till(ask, run, site, listed, stored):
    done = ask("debts", "pay", listed, "--till", "till-1", "--config", site)
    assert (done["state"], done["collected_fen"], done["retry_at"]) == ("recovered", MARK, None)
    assert stored("select owner, balance from account where kind = 'till'") == [("till-1", -MARK)]
    assert stored("select detail, actor from journal where event = 'paid_at_till'") == [("till-1", "wang")]
    assert stored("select count(*) from obligor where listed_at is not null") == [(0,)]
    again = run("debts", "pay", listed, "--till", "till-1", "--config", site, code=1)
    assert "no debt" in again.stderr


def test_a_write_off_takes_two(ask, run, site, stored, become):
    give_up = ("debts", "write-off", "3", "--reason", "car scrapped", "--config", site)
    first = run(*give_up)
    assert "somebody else" in first.stderr
    assert "debt" in first.stdout
    (debt,) = ask("debts", "--config", site)["debts"]
    assert debt["write_off_proposed_by"] == "wang"
    assert "two different people" in run(*give_up, code=1).stderr
    become("li")
    assert ask(*give_up)["state"] == "written_off"
    assert stored("select actor, second_actor, state from item where kind = 'write_off_proposed'") == [
        ("wang", "li", "written_off")
    ]
    assert ask("debts", "--config", site)["count"] == 0
    assert "no such debt" in run("debts", "--config", site).stderr


def test_a_debt_asked_again_now(ask, run, site, stored):
    done = ask("debts", "retry", "3", "--config", site)
    ((retry_at, journalled),) = stored(
        "select d.retry_at, j.at from debit d join journal j on j.debit_id = d.id where j.event = 'retry_asked'"
    )
    assert retry_at == journalled
    assert done["retry_at"]
    assert "is no debt" in run("debts", "retry", "1", "--config", site, code=1).stderr
    assert "within seconds" in run("debts", "retry", "3", "--config", site).stderr


def test_a_debt_that_nobody_knows(run, site, stored):
    for name, more in (("pay", ("--till", "t")), ("retry", ()), ("write-off", ("--reason", "x"))):
        result = run("debts", name, "k99", *more, "--config", site, code=1)
        assert "no debit k99" in result.stderr
