"""The desk of a running gateway: what people do, each told by the kernel whose it is."""

import asyncio
import json
import os
import socket
import stat
from contextlib import asynccontextmanager, suppress

import pytest

from gateway.acts import desk as desks
from gateway.acts.actor import Actor, Role, of_account, of_this_process
from gateway.acts.acts import (
    ACT,
    Adjust,
    AuthorisePump,
    ChangeLimits,
    ExplainItem,
    PayDebt,
    PayRefund,
    Refund,
    ResolveAttempt,
    ResolvePurchase,
    RetryDebt,
    SettleSale,
    Terms,
    WriteOffDebt,
    WriteOffItem,
)
from gateway.acts.desk import Desk, reachable
from gateway.rules.loading import shipped_rules
from tests import accounts
from tests.gateway.debit.conftest import APPROVED, DECLINED, Box, claim_request, rules_of

TERMS = Terms(shipped_rules(), lambda: None)
CLERKS = {Role.CLERK: ["nogroup"]}


@asynccontextmanager
async def opened(box, path, groups=None, terms=TERMS):
    """The desk of a ledger, with people before it."""
    task = asyncio.create_task(Desk(path, groups or {}, box.writer.submit, terms).run())
    while not path.is_socket():
        assert not task.done()
        await asyncio.sleep(0)
    try:
        yield path
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def connected(path):
    """The kernel notes whose it is when it connects."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with reachable(path) as short:
        client.connect(short)
    client.setblocking(False)
    return client


async def say(client, data):
    """What the desk answers to these bytes."""
    reader, writer = await asyncio.open_unix_connection(sock=client)
    try:
        writer.write(data)
        return json.loads(await reader.readline())
    finally:
        writer.close()


async def ask(path, act):
    return await say(connected(path), act.model_dump_json().encode() + b"\n")


async def indebted(box, amount=1500):
    return (await box.charge(claim_request(amount=amount), DECLINED)).debit_id


@pytest.fixture
def live(tmp_path):
    """Run a story with a box on a ledger."""

    def run(story, rules=None):
        async def whole():
            async with Box(tmp_path / "ledger.db", rules=rules) as box:
                found = await story(box)
                box.check()
                return found

        return asyncio.run(whole())

    return run


def test_an_act_is_done_and_journalled_with_the_account_that_asked(live, tmp_path):
    async def story(box):
        debit_id = await indebted(box)
        async with opened(box, tmp_path / "desk") as path:
            answer = await ask(path, PayDebt(debit=debit_id, till="till-1"))
        assert answer["done"]["state"] == "recovered"
        assert not path.exists(), "a gateway that has ended takes nothing"
        return box.rows("select actor, detail from journal where event = 'paid_at_till'")

    assert live(story) == [(of_this_process().name, "till-1")]


def test_what_is_refused_has_its_code_and_changes_nothing(live, tmp_path):
    async def story(box):
        async with opened(box, tmp_path / "desk") as path:
            return await ask(path, PayDebt(debit="nobody", till="till-1")), box.rows("select * from transfer")

    answer, transfers = live(story)
    assert (answer["refused"], transfers) == ("debit_unknown", [])


@accounts.needed
def test_another_account_may_do_what_the_groups_of_a_role_may(live, open_folder):
    async def story(box):
        debit_id = await indebted(box)
        told = []
        for groups in ({Role.CASHIER: ["root"]}, CLERKS):
            async with opened(box, open_folder / "desk", groups) as path:
                with accounts.as_another():
                    client = connected(path)
                act = WriteOffDebt(debit=debit_id, reason="scrapped")
                told.append(await say(client, act.model_dump_json().encode() + b"\n"))
        return told, box.rows("select actor from item where kind = 'write_off_proposed'")

    (refused, done), proposed = live(story)
    assert refused["refused"] == "not_your_role"
    assert done["done"]["proposed"] is True
    assert proposed == [(of_account(accounts.NOBODY, accounts.NOBODY).name,)]


@accounts.needed
def test_two_accounts_agree_and_one_does_not_agree_with_itself(live, open_folder):
    async def story(box):
        debit_id = await indebted(box)
        act = WriteOffDebt(debit=debit_id, reason="scrapped").model_dump_json().encode() + b"\n"
        async with opened(box, open_folder / "desk", CLERKS) as path:
            first, again = await say(connected(path), act), await say(connected(path), act)
            with accounts.as_another():
                client = connected(path)
            return first, again, await say(client, act)

    first, again, second = live(story)
    assert first["done"]["proposed"] is True
    assert again["refused"] == "item_needs_second"
    assert second["done"]["state"] == "written_off"


def test_a_large_refund_waits_for_another_person(live, tmp_path):
    """And what the two agree on is that amount: another one is proposed anew."""
    above = rules_of("[refund]\nsecond_person_above_fen = 1000\n")

    async def story(box):
        debit_id = (await box.charge(claim_request(amount=2500), APPROVED)).debit_id
        terms = Terms(above, lambda: None)

        async def refund(name, fen):
            act = Refund(debit=debit_id, amount_fen=fen, reason="wrong class", key=f"k{fen}")
            actor = Actor(os.geteuid(), name, frozenset())
            return (await box.writer.submit(lambda tx: act.do(tx, actor, terms)))["refund"]["state"]

        asked = [await refund(*by) for by in (("wang", 1000), ("wang", 1001), ("li", 1002), ("wang", 1002))]
        found = box.rows("select amount from refund order by amount"), box.balance("due_back")
        return asked, found, box.rows("select state, actor, second_actor from item where kind = 'refund_proposed'")

    asked, found, items = live(story, above)
    assert asked == ["decided", "proposed", "proposed", "decided"]
    assert found == ([(1000,), (1002,)], 2002)
    assert items == [("corrected", "li", "wang")]


EVERY_ACT = [
    Refund(debit="7", amount_fen=500, reason="wrong class", at_till=True, till="t1"),
    PayRefund(refund_id="a" * 32, till="t1"),
    Adjust(debit="7", amount_fen=0, reason="误收"),
    ResolvePurchase(debit="7", taken=False, reason="seen"),
    ResolveAttempt(debit="7", attempt_id="b" * 32, posted=True, source="call", reason="asked"),
    PayDebt(debit="7", till="t1"),
    RetryDebt(debit="7"),
    WriteOffDebt(debit="7", reason="scrapped"),
    AuthorisePump(charge_point="island-1", side=2, reason="pays at the till"),
    SettleSale(sale_id="c" * 32, volume_ml=10_000, amount_fen=7850, reason="the display"),
    ExplainItem(item_id=3, reason="a test"),
    WriteOffItem(item_id=3, reason="not worth it"),
    ChangeLimits(mandate_id="m1", service="*", changes={"per_day_fen": None}, exposure=(None,)),
]


@pytest.mark.parametrize("act", EVERY_ACT, ids=lambda act: act.act)
def test_every_act_comes_over_the_wire_as_it_was_asked(act):
    assert ACT.validate_json(act.model_dump_json()) == act


def test_no_act_is_left_out_of_that():
    assert {act.act for act in EVERY_ACT} == set(ACT.json_schema()["discriminator"]["mapping"])


BAD = {
    "no JSON": b"refund please\n",
    "no act": b"{}\n",
    "unknown act": b'{"act": "give_all"}\n',
    "more than asked": b'{"act": "pay_debt", "debit": "1", "till": "t", "actor": "li"}\n',
    "a text for a number": b'{"act": "refund", "debit": "1", "amount_fen": "5", "reason": "x"}\n',
    "2 to the 63": b'{"act": "refund", "debit": "1", "amount_fen": 9223372036854775808, "reason": "x"}\n',
    "too long": b'{"act": "' + b"x" * (2 * desks.LINE_BYTES_MAX) + b'"}\n',
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_what_is_no_act_is_told_so_and_the_next_one_is_served(live, tmp_path, data):
    async def story(box):
        debit_id = await indebted(box)
        async with opened(box, tmp_path / "desk") as path:
            return await say(connected(path), data), await ask(path, PayDebt(debit=debit_id, till="t"))

    bad, good = live(story)
    assert bad.keys() == {"failed"}
    assert good["done"]["state"] == "recovered"


def test_who_says_nothing_keeps_nobody_waiting(live, tmp_path, monkeypatch):
    monkeypatch.setattr(desks, "AT_ONCE_MAX", 1)
    monkeypatch.setattr(desks, "ASKED_WITHIN_S", 0.2)

    async def story(box):
        debit_id = await indebted(box)
        async with opened(box, tmp_path / "desk") as path:
            with connected(path):
                return await ask(path, PayDebt(debit=debit_id, till="t"))

    assert live(story)["done"]["state"] == "recovered"


@pytest.mark.parametrize(("groups", "mode"), [({}, 0o600), ({Role.CLERK: []}, 0o600), (CLERKS, 0o666)])
def test_only_where_a_group_has_a_role_may_others_come(live, tmp_path, groups, mode):
    async def story(box):
        async with opened(box, tmp_path / "desk", groups) as path:
            return stat.S_IMODE(path.stat().st_mode)

    assert live(story) == mode


def test_what_a_killed_gateway_left_is_taken_away_and_a_file_is_not(live, tmp_path):
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with reachable(tmp_path / "desk") as short:
        left.bind(short)
    left.close()
    (tmp_path / "file").write_text("mine")

    async def story(box):
        async with opened(box, tmp_path / "desk"):
            pass
        with pytest.raises(OSError, match="in use"):
            await Desk(tmp_path / "file", {}, box.writer.submit, TERMS).run()

    live(story)
    assert (tmp_path / "file").read_text() == "mine"


def test_an_account_without_a_name_is_told_by_its_number():
    actor = of_account(2_000_000_000, 2_000_000_000)
    assert (actor.name, actor.groups, actor.is_owner) == ("#2000000000", frozenset(), False)
