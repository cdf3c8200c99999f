"""Each rule of the verification turned red by one corrupt row, on a ledger that holds a debit of every kind."""

import asyncio
import shutil
import sqlite3
from collections import Counter

import pytest

from gateway.debit.claims import PurchaseResult
from gateway.ledger import verify as verification
from gateway.ledger.verify import CHECKS, FINDINGS_MAX
from gateway.ledger.verify_rules import RULES
from gateway.ledger.verify_seals import NAME as SEALS
from gateway.model.passage import Funding, PurchaseOutcome
from gateway.rules.loading import digest_of_body
from hardware.bench.chain_key import KEYS
from tests.gateway.debit.conftest import APPROVED, DECLINED, SILENT, Box, charge, hold_request, payer_of
from tests.gateway.ledger.in_parts import verify

pytestmark = pytest.mark.slow

KINDS = {
    "purse": (Funding.PURSE, None, None),
    "approved": (Funding.BANK_ONLINE, APPROVED, None),
    "declined": (Funding.BANK_ONLINE, DECLINED, None),
    "owed": (Funding.BANK_ONLINE, SILENT, None),
    "clearing": (Funding.ISSUER_CLEARING, None, None),
    "refused": (Funding.PURSE, None, PurchaseOutcome.NOT_TAKEN),
    "unknown": (Funding.PURSE, None, PurchaseOutcome.UNKNOWN),
}


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    """One debit of every kind; the bank has not answered the reversal of the owed one."""
    box = Box(tmp_path_factory.mktemp("verify") / "ledger.db")

    async def fill():
        async with box:
            for n, (kind, (funding, answer, purchase)) in enumerate(KINDS.items()):
                if answer is not None:
                    box.bank.answers.append(answer)
                mandate = None if funding is Funding.PURSE else f"m{n}"
                request = hold_request(kind, payer=payer_of(funding, mandate=mandate), card=f"9901{n:016d}")
                extra = {} if purchase is None else {"result": PurchaseResult(purchase)}
                await charge(box, request, **extra)

    asyncio.run(fill())
    return box.path


@pytest.fixture
def box(tmp_path, made_once):
    """The same ledger, the test's own."""
    box = Box(shutil.copy(made_once, tmp_path / "ledger.db"))
    yield box
    box.database.dispose()
    box.reader.dispose()


def plant(box, *statements):
    """Change the file behind everybody's back."""
    with sqlite3.connect(box.path) as connection:
        connection.execute("pragma foreign_keys = off")
        for statement in statements:
            changed = connection.execute(statement).rowcount
            assert changed == 1, f"must hit exactly one row: {statement}"
    connection.close()


FIRST = {
    "post": "(select min(id) from transfer where phase = 'post')",
    "purse": "(select id from debit where state = 'funded' and funding = 'purse')",
    "approved": "(select id from debit where state = 'funded' and funding = 'bank_online')",
    "clearing": "(select id from debit where state = 'released')",
    "debt": "(select id from debit where state = 'debt')",
    "owed": "(select id from debit where state = 'owed')",
    "voided": "(select id from debit where state = 'voided')",
    "held": "(select id from debit where state = 'held')",
}

REFUND = (
    "insert into refund (id, idempotency_key, content_hash, debit_id, amount, reason, target, state, created_at,"
    " changed_at) values ('{id}', '{id}', 'h', {debit}, {amount}, 'x', 'bank', 'decided', 0, 0)"
)
MANDATE = (
    "insert into mandate (id, status, funding, limit_fen, stand_in_limit_fen, imported_at)"
    " values ('{id}', 'active', 'bank_online', {limit}, 0, {imported_at})"
)
ITEM = (
    "insert into item (kind, ref, amount, state, actor, second_actor, created_at, changed_at)"
    " values ('test', 'x', 5, 'written_off', {actor}, {second}, 0, 0)"
)

BODY = 'version = "a"\n[debt]\nminimum_fen = 1500\n'
CLEARED = (
    "insert into clearing_run values ('20261123', 'done', 'none', 0, 0)",
    "insert into clearing_line values"
    " (1, '20261123', 'road-1', 'bank-1', 'bank', 'toll', 1, 'closed', 1, 1500, 1500, 0, 'none', 0)",
    "insert into clearing_row values ('r1', 'attempt', 'd1', '20261123', 'road-1', 'bank-1', 'toll', 'cleared', 1500,"
    " 1500, 0, 1, 0)",
    "insert into clearing_payout values (1, 'road-1', 1500, 0)",
)
SALE = (
    "insert into sale (id, debit_id, charge_point, side, nozzle, state, amount, created_at, changed_at)"
    " values ('s1', {debit}, 'island-1', 1, 1, '{state}', {amount}, 0, 0)"
)
SOLD = "a sale of fuel is claimed for what its pump said"
SUMMED = "a cleared line is the sum of its rows, and settled and paid out once"

CORRUPTIONS = [
    (SEALS, f"update debit set merchant = 'other' where id = {FIRST['purse']}"),
    (SUMMED, CLEARED),
    (SUMMED, ("insert into clearing_line select 1, '1', 'r', 'b', 'bank', 't', 1, 'closed', 1, 0, 0, 0, 'n', 0",)),
    (
        "the shares of a cleared row add up to it",
        (*CLEARED, "insert into clearing_share values ('r1', 'road-1', 1499)"),
    ),
    ("accounts agree with their transfers", "update account set balance = balance + 1 where kind = 'merchant'"),
    ("accounts agree with their transfers", "update account set held = held + 1 where kind = 'merchant'"),
    ("accounts agree with their transfers", f"update transfer set amount = amount + 1 where id = {FIRST['post']}"),
    ("accounts agree with their transfers", f"delete from transfer where id = {FIRST['post']}"),
    ("the books sum to zero", "update account set balance = balance - 7 where kind = 'issuer'"),
    (
        "a hold ends at most once, and never for more than it held",
        f"update transfer set amount = amount + 1 where id = {FIRST['post']}",
    ),
    (
        "a hold ends at most once, and never for more than it held",
        f"update transfer set debit_id = {FIRST['held']} where id = {FIRST['post']}",
    ),
    (
        "a hold ends at most once, and never for more than it held",
        f"update transfer set phase = 'direct' where phase = 'pending' and debit_id = {FIRST['purse']}",
    ),
    ("a debit's state agrees with its hold", f"update debit set state = 'held' where id = {FIRST['purse']}"),
    ("a debit's state agrees with its hold", f"update debit set state = 'released' where id = {FIRST['held']}"),
    ("a debit's state agrees with its hold", f"update debit set state = 'voided' where id = {FIRST['purse']}"),
    ("a debit's state agrees with its hold", f"update debit set state = 'funded' where id = {FIRST['voided']}"),
    (
        "a debit has a hold of its own, for its whole amount until it is decided",
        f"update debit set hold_id = (select hold_id from debit where id = {FIRST['held']})"
        f" where id = {FIRST['purse']}",
    ),
    (
        "a debit has a hold of its own, for its whole amount until it is decided",
        f"update debit set amount = amount - 1 where id = {FIRST['held']}",
    ),
    (
        "a debit has a hold of its own, for its whole amount until it is decided",
        f"update debit set hold_id = 0 where id = {FIRST['held']}",
    ),
    (
        "a debit's money stands where its state says",
        "delete from transfer where event = 'purse_paid'",
    ),
    (
        "a debit's money stands where its state says",
        "insert into transfer"
        " (phase, event, debit_id, attempt_id, from_account, to_account, amount, event_at, booked_at, chain)"
        " select phase, event, debit_id, attempt_id, from_account, to_account, amount, 0, 0, chain from transfer"
        " where event = 'bank_approved'",
    ),
    (
        "only a debit's own funding source pays for it",
        f"update debit set funding = 'bank_online' where id = {FIRST['purse']}",
    ),
    (
        "only a debit's own funding source pays for it",
        f"update debit set payer = 'bank-2' where id = {FIRST['approved']}",
    ),
    (
        "only a debit's own funding source pays for it",
        "update transfer set from_account = (select id from account where kind = 'issuer')"
        " where event = 'bank_approved'",
    ),
    (
        "only a debit's own funding source pays for it",
        (
            "insert into account values (99, 'till', 'till-1', 0, 0, 1)",
            "update transfer set from_account = 99 where event = 'bank_approved'",
        ),
    ),
    (
        "a debit's money stands where its state says",
        f"update debit set state = 'funded' where id = {FIRST['clearing']}",
    ),
    (
        "a debit's money stands where its state says",
        f"update debit set state = 'owed' where id = {FIRST['debt']}",
    ),
    (
        "a debit's money stands where its state says",
        f"update transfer set debit_id = {FIRST['clearing']} where event = 'purse_paid'",
    ),
    (
        "what an obligor has open, owes and is due is what its debits say",
        f"update debit set amount = amount + 1 where id = {FIRST['clearing']}",
    ),
    (
        "what an obligor has open, owes and is due is what its debits say",
        f"update debit set state = 'debt' where id = {FIRST['owed']}",
    ),
    (
        "what an obligor has open, owes and is due is what its debits say",
        "insert into account (kind, owner, balance, held, version) values ('due_back', 'somebody', 5, 0, 1)",
    ),
    ("refunds are of money that came in", f"update debit set refunded = 5 where id = {FIRST['approved']}"),
    (
        "refunds are of money that came in",
        (
            f"update debit set collected = 5 where id = {FIRST['approved']}",
            REFUND.format(id="r1", amount=5, debit=FIRST["approved"]),
        ),
    ),
    (
        "refunds are of money that came in",
        (
            f"update debit set collected = 9, refunded = 10 where id = {FIRST['approved']}",
            REFUND.format(id="r1", amount=5, debit=FIRST["approved"]),
            REFUND.format(id="r2", amount=5, debit=FIRST["approved"]),
        ),
    ),
    (
        "an obligor's holds and dues keep to its limit",
        MANDATE.format(id="m3", limit=1499, imported_at=0),
    ),
    (
        "what is written off was proposed by one person and agreed to by another",
        ITEM.format(actor="'a'", second="null"),
    ),
    (
        "what is written off was proposed by one person and agreed to by another",
        ITEM.format(actor="null", second="'b'"),
    ),
    (
        "what is written off was proposed by one person and agreed to by another",
        ITEM.format(actor="'Wang'", second="' wang'"),
    ),
    (
        "what a payer did not grant was written off with its item",
        "update transfer set event = 'clearing_loss', reference = 'item/7' where event = 'purse_paid'",
    ),
    (
        "what a payer did not grant was written off with its item",
        (
            ITEM.format(actor="'a'", second="'b'"),
            "update transfer set event = 'clearing_loss', reference = 'item/' || (select max(id) from item)"
            " where event = 'purse_paid'",
        ),
    ),
    (
        "every state is the last one that the journal tells",
        f"update debit set state = 'owed' where id = {FIRST['debt']}",
    ),
    (
        "every state is the last one that the journal tells",
        "update attempt set state = 'unknown' where state = 'declined'",
    ),
    (
        "every state is the last one that the journal tells",
        REFUND.format(id="r1", amount=5, debit=FIRST["approved"]),
    ),
    ("every state is the last one that the journal tells", ITEM.format(actor="'a'", second="'b'")),
    (
        "every state is the last one that the journal tells",
        f"delete from journal where kind = 'debit' and event = 'funded' and debit_id = {FIRST['approved']}",
    ),
    ("a debit's money stands where its state says", f"update debit set collected = 0 where id = {FIRST['approved']}"),
    ("a debit's money stands where its state says", f"update debit set collected = 5 where id = {FIRST['owed']}"),
    (
        "of an erased passage nothing personal is left, and the journal tells of it",
        "update subject set erased_at = 1 where card_number = '99010000000000000002'",
    ),
    (
        "the rules on file are what their digests say",
        (
            f"insert into rules values ('a', '{digest_of_body(BODY)}', '{BODY}', 0)",
            "update rules set body = replace(body, '1500', '1501')",
        ),
    ),
    ("the rules on file are what their digests say", "insert into rules values ('a', 'b', 'no TOML', 0)"),
    ("the chain of transfers holds", "update transfer set event_at = event_at + 1 where id = 2"),
    ("the chain of decisions holds", "update decision set reason = null where record_no = 3"),
    ("the chain of the journal holds", "update journal set event = 'funded' where number = 1"),
    (
        "a debit has at most one attempt open and one approved",
        "insert into attempt (id, debit_id, channel, reference, destination, kind, state, amount, request, created_at,"
        " changed_at) select 'x', debit_id, channel, 'x', destination, kind, state, amount, request, 0, 0"
        " from attempt where state = 'unknown'",
    ),
    (
        "a debit has at most one attempt open and one approved",
        "insert into attempt (id, debit_id, channel, reference, destination, kind, state, amount, request, created_at,"
        " changed_at) select 'x', debit_id, channel, 'x', destination, kind, state, amount, request, 0, 0"
        " from attempt where state = 'approved'",
    ),
    (
        "money from the bank has an approved attempt behind it",
        "update attempt set state = 'declined' where state = 'approved'",
    ),
    (
        "money from the bank has an approved attempt behind it",
        "update attempt set amount = amount + 1 where state = 'approved'",
    ),
    (
        "money from the bank has an approved attempt behind it",
        f"update attempt set debit_id = {FIRST['owed']} where state = 'approved'",
    ),
    (
        "money from the bank has an approved attempt behind it",
        "update transfer set attempt_id = null where event = 'bank_approved'",
    ),
    (
        "whatever is disputed at a bank is on people's list, and no message waits for it",
        "update attempt set state = 'disputed' where state = 'declined'",
    ),
    (
        "whatever is disputed at a bank is on people's list, and no message waits for it",
        "update attempt set state = 'disputed' where state = 'unknown'",
    ),
    (
        "an approval is withdrawn at most once",
        tuple(
            "update transfer set event = 'approval_withdrawn', attempt_id = 'x'"
            f" where id = (select {end}(id) from transfer where phase = 'direct')"
            for end in ("min", "max")
        ),
    ),
    ("whatever is in doubt at a bank is being asked about", "delete from outbox"),
    ("whatever is in doubt at a bank is being asked about", "update outbox set done_at = 1"),
    (
        "whatever is in doubt at a bank is being asked about",
        "update attempt set state = 'stored' where state = 'declined'",
    ),
    (
        "suspense holds exactly the late approvals whose reversal is open",
        "insert into account (kind, owner, balance, held, version) values ('suspense', 'bank-1', 5, 0, 1)",
    ),
    (
        "a purchase is taken at most once for a debit, and only behind a released one",
        f"update purchase set state = 'not_taken' where debit_id = {FIRST['purse']}",
    ),
    (
        "a purchase is taken at most once for a debit, and only behind a released one",
        f"update purchase set state = 'taken' where debit_id = {FIRST['voided']}",
    ),
    (
        "a purchase is taken at most once for a debit, and only behind a released one",
        "insert into purchase (id, debit_id, attempt_no, state, written_fen, purchase_time, created_at,"
        " changed_at) select 'x', debit_id, 2, 'taken', written_fen, purchase_time, 0, 0 from purchase"
        f" where debit_id = {FIRST['purse']}",
    ),
    (SOLD, SALE.format(debit=FIRST["approved"], state="billed", amount=1)),
    (SOLD, SALE.format(debit=FIRST["held"], state="billed", amount=1)),
    (SOLD, SALE.format(debit=FIRST["purse"], state="nothing", amount="null")),
    (SOLD, SALE.format(debit=FIRST["voided"], state="open", amount="null")),
    ("record numbers have no gap", "update chain set number = number + 1 where name = 'decision'"),
    ("record numbers have no gap", "delete from decision where record_no = 3"),
    ("record numbers have no gap", "update decision set record_no = 99 where record_no = 2"),
    (
        "an open barrier has a claim or an entry behind it, or a repeat of one",
        f"update decision set release = 'go' where debit_id = {FIRST['voided']}",
    ),
    (
        "an open barrier has a claim or an entry behind it, or a repeat of one",
        f"update decision set release = 'go' where debit_id = {FIRST['held']}",
    ),
    (
        "an open barrier has a claim or an entry behind it, or a repeat of one",
        f"update decision set debit_id = null where debit_id = {FIRST['purse']}",
    ),
]


def red(reader):
    return {check.name for check in verify(reader, KEYS) if not check.ok}


def test_a_ledger_with_every_kind_of_debit_is_clean(box):
    checks = verify(box.reader, KEYS)
    assert [f for c in checks for f in c.findings] == []
    looked_at = {check.name: check.rows for check in checks}
    unlooked = {name for name, rows in looked_at.items() if rows == 0}
    assert unlooked == {
        "suspense holds exactly the late approvals whose reversal is open",
        "whatever is disputed at a bank is on people's list, and no message waits for it",
        "an approval is withdrawn at most once",
        "the rules on file are what their digests say",
        "refunds are of money that came in",
        "an obligor's holds and dues keep to its limit",
        "a cleared line is the sum of its rows, and settled and paid out once",
        "the shares of a cleared row add up to it",
        SOLD,
        "what a payer did not grant was written off with its item",
        "what is written off was proposed by one person and agreed to by another",
        "of an erased passage nothing personal is left, and the journal tells of it",
    }


@pytest.mark.parametrize(("name", "corruption"), CORRUPTIONS)
def test_a_corrupt_row_turns_its_rule_red(box, name, corruption):
    plant(box, *([corruption] if isinstance(corruption, str) else corruption))
    assert name in red(box.reader)


def test_every_rule_has_been_turned_red():
    assert {name for name, _ in CORRUPTIONS} == set(CHECKS)


@pytest.mark.parametrize(
    "statements",
    [
        (f"insert into rules values ('a', '{digest_of_body(BODY)}', '{BODY}', 0)",),
        (MANDATE.format(id="m3", limit=1500, imported_at=0),),
        (MANDATE.format(id="m3", limit=0, imported_at=1 << 60),),
        (MANDATE.format(id="m1", limit=0, imported_at=0),),
    ],
    ids=["rules", "limit kept", "limit lowered since", "nothing open"],
)
def test_what_is_in_order_turns_nothing_red(box, statements):
    plant(box, *statements)
    assert red(box.reader) == {SEALS}, "what is put in behind the gateway's back is in order and still nobody's"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_no_rule_reads_a_whole_table_again_for_each_row_of_another(box, rule):
    """That is hours on the ledger of a busy month. Items are few: people work them off."""
    with box.reader.connect() as connection:
        plan = list(connection.exec_driver_sql(f"explain query plan {rule.bad}"))
    # A second scan beside one is the inner loop of a join that no index serves; so is an index of a kind alone.
    scans = Counter(parent for _, parent, _, detail in plan if detail.startswith("SCAN") and detail.split()[1] != "i")
    assert max(scans.values(), default=0) <= 1, [row[3] for row in plan]
    assert not any("AUTOMATIC" in row[3] and "(kind=?)" in row[3] for row in plan), [row[3] for row in plan]
    above = {number: (parent, detail) for number, parent, _, detail in plan}
    for number in (n for n, (_, detail) in above.items() if detail.startswith("SCAN") and detail != "SCAN i"):
        inside = number
        while inside:
            inside, detail = above[inside]
            assert not detail.startswith("CORRELATED"), [row[3] for row in plan]


def test_findings_name_the_row_and_are_bounded(box):
    with sqlite3.connect(box.path) as connection:
        for n in range(FINDINGS_MAX + 5):
            connection.execute("insert into account values (?, 'suspense', ?, 5, 0, 1)", (1000 + n, f"bank-{n + 7}"))
    connection.close()
    check = next(c for c in verify(box.reader, KEYS) if c.name.startswith("suspense"))
    assert len(check.findings) == FINDINGS_MAX
    assert check.more == 5
    assert check.findings[0].row.startswith("suspense:bank-")
    assert "5 fen" in check.findings[0].problem


def test_all_rules_look_at_one_state(box):
    """What is written while the rules run is not seen by the later ones."""
    told = []

    def meanwhile(name):
        told.append(name)
        if len(told) == 2:
            plant(box, "update chain set number = number + 1 where name = 'decision'")

    assert [c.name for c in verification.verify(box.reader, KEYS, meanwhile) if not c.ok] == []
    assert tuple(told) == CHECKS
    assert red(box.reader) == {"record numbers have no gap", "the chain of decisions holds", SEALS}
