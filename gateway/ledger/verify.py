"""Does the ledger agree with itself? Read only, over one snapshot of the database.

The sum over all accounts is zero by construction, so it proves little; the checks that bite compare each account with
its transfers, each debit with its money, and each decision with the row before it. What the world outside says (bank's
book, purses) is compared where that world can be asked: on the bench and at the day's end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text

FINDINGS_MAX = 20
"""Bad rows named per check; the count goes on."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One row that breaks a rule."""

    check: str
    row: str
    problem: str


@dataclass(frozen=True, slots=True)
class Check:
    """What was checked and what was found."""

    name: str
    rows: int
    findings: tuple[Finding, ...]
    more: int = 0

    @property
    def ok(self) -> bool:
        return not self.findings


@dataclass(frozen=True, slots=True)
class _Rule:
    """A query that returns bad rows only, as (row, problem), and one that counts what was looked at."""

    name: str
    count: str
    bad: str


_RULES = (
    _Rule(
        "accounts agree with their transfers",
        "select count(*) from account",
        """
        with moved as (
            select to_account as id, amount as posted, 0 as held from transfer where phase in ('post', 'direct')
            union all
            select from_account, -amount, 0 from transfer where phase in ('post', 'direct')
            union all
            select t.from_account, 0, t.amount from transfer t
            where t.phase = 'pending' and not exists (select 1 from transfer r where r.pending_id = t.id)
        ), summed as (select id, sum(posted) as posted, sum(held) as held from moved group by id)
        select a.kind || ':' || a.owner,
               'balance ' || a.balance || ' fen, transfers say ' || coalesce(s.posted, 0)
               || '; held ' || a.held || ', open holds say ' || coalesce(s.held, 0)
        from account a left join summed s on s.id = a.id
        where a.balance <> coalesce(s.posted, 0) or a.held <> coalesce(s.held, 0)
        """,
    ),
    _Rule(
        "the books sum to zero",
        "select 1",
        "select 'all accounts', 'sum is ' || sum(balance) || ' fen' from account having coalesce(sum(balance), 0) <> 0",
    ),
    _Rule(
        "a hold ends at most once, and never for more than it held",
        "select count(*) from transfer where phase in ('post', 'void')",
        """
        select 'transfer ' || r.id, 'ends hold ' || p.id || ' of ' || p.amount || ' fen with ' || r.amount
        from transfer r join transfer p on p.id = r.pending_id
        where p.phase <> 'pending' or r.amount > p.amount or r.debit_id <> p.debit_id
        """,
    ),
    _Rule(
        "a debit's state agrees with its hold",
        "select count(*) from debit",
        """
        select 'debit ' || d.id, 'state ' || d.state || ', hold ' || coalesce(r.phase, 'still pending')
        from debit d left join transfer r on r.pending_id = d.hold_id
        where (d.state = 'held') <> (r.id is null)
           or (d.state = 'voided') <> (coalesce(r.phase, '') = 'void')
        """,
    ),
    _Rule(
        "a debit has a hold of its own, for its whole amount",
        "select count(*) from debit",
        """
        select 'debit ' || d.id, 'of ' || d.amount || ' fen; hold ' || d.hold_id || ' is '
               || coalesce(t.phase || ' of ' || t.amount || ' fen for debit ' || t.debit_id, 'missing')
        from debit d left join transfer t on t.id = d.hold_id
        where t.id is null or t.phase <> 'pending' or t.amount <> d.amount or t.debit_id <> d.id
        """,
    ),
    _Rule(
        "a debit is paid exactly once, by its one funding source",
        "select count(*) from debit where state in ('funded', 'released', 'owed', 'debt')",
        """
        with paid as (
            select debit_id, event, sum(amount) as amount, count(*) as times
            from transfer where phase = 'direct' and event in ('purse_paid', 'bank_approved', 'declined')
            group by debit_id, event
        ), said as (
            select d.id, d.state, d.amount, d.funding,
                   coalesce((select amount from paid where debit_id = d.id and event = 'purse_paid'), 0) as purse,
                   coalesce((select amount from paid where debit_id = d.id and event = 'bank_approved'), 0) as bank,
                   coalesce((select amount from paid where debit_id = d.id and event = 'declined'), 0) as declined
            from debit d
        )
        select 'debit ' || id,
               'state ' || state || ', ' || funding || ' of ' || amount || ' fen; purse paid ' || purse
               || ', bank paid ' || bank || ', turned to debt ' || declined
        from said
        where purse <> case when state = 'funded' and funding = 'purse' then amount else 0 end
           or bank <> case when state = 'funded' and funding = 'bank_online' then amount else 0 end
           or declined <> case when state = 'debt' then amount else 0 end
           or (state = 'funded' and funding = 'issuer_clearing')
        """,
    ),
    _Rule(
        "what an obligor has open is what its debits say",
        "select count(*) from account where kind in ('open', 'debt')",
        """
        with due as (
            select obligor_id, sum(case when state in ('released', 'owed') then amount else 0 end) as open_fen,
                   sum(case when state = 'debt' then amount else 0 end) as debt_fen
            from debit group by obligor_id
        )
        select a.kind || ':' || a.owner, 'balance ' || a.balance || ' fen, debits say '
               || case a.kind when 'open' then -coalesce(u.open_fen, 0) else -coalesce(u.debt_fen, 0) end
        from account a left join due u on u.obligor_id = a.owner
        where (a.kind = 'open' and a.balance <> -coalesce(u.open_fen, 0))
           or (a.kind = 'debt' and a.balance <> -coalesce(u.debt_fen, 0))
        """,
    ),
    _Rule(
        "a debit has at most one attempt open and one approved",
        "select count(*) from attempt",
        """
        select 'debit ' || debit_id, 'open attempts ' || open || ', approved ' || approved
        from (
            select debit_id, sum(state in ('stored', 'unknown', 'reversing') and late_approval = 0) as open,
                   sum(state = 'approved') as approved
            from attempt group by debit_id
        ) counted
        where open > 1 or approved > 1
        """,
    ),
    _Rule(
        "money from the bank has an approved attempt behind it",
        "select count(*) from transfer where event = 'bank_approved'",
        """
        select 'transfer ' || t.id,
               'of ' || t.amount || ' fen for debit ' || t.debit_id || '; attempt ' || coalesce(a.id, 'missing')
               || ' is ' || coalesce(a.state || ', ' || a.amount || ' fen for debit ' || a.debit_id, 'missing')
        from transfer t left join attempt a on a.id = t.attempt_id
        where t.event = 'bank_approved'
          and (coalesce(a.state, '') <> 'approved' or a.amount <> t.amount or a.debit_id <> t.debit_id)
        """,
    ),
    _Rule(
        "whatever is in doubt at a bank is being asked about",
        "select count(*) from attempt where state in ('stored', 'unknown', 'reversing')",
        """
        select 'attempt ' || a.id, a.kind || ' is ' || a.state || ', debit is ' || d.state || ', no message waits'
        from attempt a join debit d on d.id = a.debit_id
        where ((a.kind = 'sale' and (a.state in ('unknown', 'reversing') or a.state = 'stored' and d.state <> 'held'))
               or (a.kind = 'advice' and a.state = 'stored'))
          and not exists (select 1 from outbox o where o.attempt_id = a.id and o.done_at is null)
        """,
    ),
    _Rule(
        "suspense holds exactly the late approvals whose reversal is open",
        "select count(*) from account where kind = 'suspense'",
        """
        select 'suspense:' || a.owner, 'balance ' || a.balance || ' fen, late approvals ' || coalesce(l.amount, 0)
        from account a left join (
            select channel, sum(amount) as amount from attempt where late_approval = 1 group by channel
        ) l on l.channel = a.owner
        where a.kind = 'suspense' and a.balance <> coalesce(l.amount, 0)
        """,
    ),
    _Rule(
        "a purchase is taken at most once for a debit, and only behind a released one",
        "select count(*) from purchase",
        """
        select 'debit ' || d.id, 'state ' || d.state || ', purchases taken ' || sum(p.state = 'taken')
        from debit d join purchase p on p.debit_id = d.id group by d.id, d.state
        having sum(p.state = 'taken') > 1
            or (d.state = 'voided' and sum(p.state <> 'not_taken') > 0)
            or (d.state in ('released', 'owed', 'funded', 'debt') and sum(p.state = 'taken') <> 1)
        """,
    ),
    _Rule(
        "record numbers have no gap",
        "select count(*) from decision",
        """
        select 'record ' || coalesce(max(record_no), 0), 'highest of ' || count(*) || ' records; the chain stands at '
               || coalesce((select number from chain where name = 'decision'), 0)
        from decision
        having coalesce(max(record_no), 0) <> count(*)
            or coalesce((select number from chain where name = 'decision'), 0) <> count(*)
        """,
    ),
    _Rule(
        "an open barrier has a claim or an entry behind it, or a repeat of one",
        "select count(*) from decision where barrier = 'open'",
        """
        select 'record ' || e.record_no, 'barrier open, debit ' || coalesce(d.state, 'missing')
        from decision e left join debit d on d.id = e.debit_id
        where e.barrier = 'open' and e.outcome <> 'entered'
          and not (e.outcome = 'repeat' and exists (
              select 1 from decision first where first.passage_id = e.passage_id and first.outcome = 'entered'))
          and coalesce(d.state, '') not in
              ('released', 'owed', 'funded', 'debt', 'recovered', 'written_off')
        """,
    ),
)


def verify(engine: Engine, progress: Callable[[str], None] | None = None) -> list[Check]:
    """Run every check over one snapshot."""
    checks = []
    with engine.connect() as connection, connection.begin():
        for rule in _RULES:
            if progress is not None:
                progress(rule.name)
            checks.append(_run(connection, rule))
    return checks


def _run(connection: Connection, rule: _Rule) -> Check:
    rows = int(connection.execute(text(rule.count)).scalar_one())
    bad = list(_bad_rows(connection, rule))
    return Check(rule.name, rows, tuple(bad[:FINDINGS_MAX]), max(0, len(bad) - FINDINGS_MAX))


def _bad_rows(connection: Connection, rule: _Rule) -> Iterator[Finding]:
    for row, problem in connection.execute(text(rule.bad)):
        yield Finding(rule.name, str(row), str(problem))
