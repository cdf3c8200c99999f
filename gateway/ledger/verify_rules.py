"""Rules that a ledger keeps, each as one query for the rows that break it. See `gateway.ledger.verify`.

Portable SQL: dialect differences have no place here. States are those of `gateway.model.states`; `hex_text` shows an
id (`gateway.ledger.hex_text`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

from gateway.ledger.findings import Check, Finding, checked
from gateway.ledger.tables import quoted
from gateway.model.dual_control import are_two
from gateway.model.states import (
    AWAITED,
    DEBT_DEBITS,
    EARNED_DEBITS,
    LET_GO_DEBITS,
    LISTED_ITEMS,
    OWING_DEBITS,
    PAID_DEBITS,
    UNEARNED_DEBITS,
    UNRESOLVED,
    AttemptState,
    DebitState,
    ItemState,
    OrderState,
    PurchaseState,
    RefundState,
    SaleState,
)

_D, _A, _P = DebitState, AttemptState, PurchaseState


@dataclass(frozen=True, slots=True)
class Rule:
    """Rule: a query that returns bad rows only, as (row, problem), and one that counts the rows checked."""

    name: str
    count: str
    bad: str
    unless: Callable[..., bool] | None = None
    """Function that gives true for a row that is not bad, from the values that follow row and problem."""


RULES: Final = (
    Rule(
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
        select a.kind || ':' || hex_text(a.owner),
               'balance ' || a.balance || ' fen, transfers say ' || coalesce(s.posted, 0)
               || '; held ' || a.held || ', open holds say ' || coalesce(s.held, 0)
        from account a left join summed s on s.id = a.id
        where a.balance <> coalesce(s.posted, 0) or a.held <> coalesce(s.held, 0)
        """,
    ),
    Rule(
        "the books sum to zero",
        "select 1",
        "select 'all accounts', 'sum is ' || sum(balance) || ' fen' from account having coalesce(sum(balance), 0) <> 0",
    ),
    Rule(
        "a hold ends at most once, and never for more than it held",
        "select count(*) from transfer where phase in ('post', 'void', 'expire')",
        """
        select 'transfer ' || r.id, 'ends hold ' || p.id || ' of ' || p.amount || ' fen with ' || r.amount
        from transfer r join transfer p on p.id = r.pending_id
        where p.phase <> 'pending' or r.amount > p.amount or coalesce(r.debit_id, '') <> coalesce(p.debit_id, '')
        """,
    ),
    Rule(
        "a debit's state agrees with its hold",
        "select count(*) from debit",
        f"""
        select 'debit ' || hex_text(d.id), 'state ' || d.state || ', hold ' || coalesce(r.phase, 'still pending')
        from debit d left join transfer r on r.pending_id = d.hold_id
        where (d.state = '{_D.HELD}') <> (r.id is null)
           or (d.state = '{_D.VOIDED}') <> (coalesce(r.phase, '') in ('void', 'expire'))
        """,
    ),
    Rule(
        "a debit has a hold of its own, for its whole amount until it is decided",
        "select count(*) from debit",
        f"""
        select 'debit ' || hex_text(d.id), 'of ' || d.amount || ' fen; hold ' || d.hold_id || ' is '
               || coalesce(t.phase || ' of ' || t.amount || ' fen', 'missing')
               || coalesce(' for debit ' || hex_text(t.debit_id), '')
        from debit d left join transfer t on t.id = d.hold_id
        where t.id is null or t.phase <> 'pending' or coalesce(t.debit_id, '') <> d.id
           or (d.state in ({quoted(UNEARNED_DEBITS)}) and d.final_amount is null and t.amount <> d.amount)
        """,
    ),
    Rule(
        "a debit's money stands where its state says",
        "select count(*) from debit",
        f"""
        with net as (
            select debit_id,
                   sum(case when kind = 'open' then fen else 0 end) as open_fen,
                   sum(case when kind = 'debt' then fen else 0 end) as debt_fen,
                   sum(case when kind = 'merchant' then fen else 0 end) as earned_fen,
                   sum(case when kind = 'loss' then fen else 0 end) as lost_fen,
                   sum(case when kind = 'due_back' then fen else 0 end) as back_fen,
                   sum(case when kind in ('bank', 'issuer', 'till', 'suspense') then fen else 0 end) as outside_fen
            from (
                select debit_id, to_account as account_id, amount as fen from transfer
                where phase in ('post', 'direct') and event <> 'clearing_loss'
                union all
                select debit_id, from_account, -amount from transfer
                where phase in ('post', 'direct') and event <> 'clearing_loss'
            ) moved join account a on a.id = moved.account_id
            where debit_id is not null
            group by debit_id
        ), said as (
            select d.id, d.state, d.amount, d.collected, d.refunded,
                   coalesce((select sum(amount) from refund r where r.debit_id = d.id
                             and r.state = '{RefundState.PAID}'), 0) as paid,
                   coalesce(n.open_fen, 0) as open_fen, coalesce(n.debt_fen, 0) as debt_fen,
                   coalesce(n.earned_fen, 0) as earned_fen, coalesce(n.lost_fen, 0) as lost_fen,
                   coalesce(n.back_fen, 0) as back_fen, coalesce(n.outside_fen, 0) as outside_fen
            from debit d left join net n on n.debit_id = d.id
        )
        select 'debit ' || hex_text(id), state || ' of ' || amount || ' fen, collected ' || collected || ', refunded '
               || refunded || ' (' || paid || ' paid); its transfers leave open ' || open_fen || ', debt ' || debt_fen
               || ', earned ' || earned_fen || ', lost ' || lost_fen || ', due back ' || back_fen
               || ', outside ' || outside_fen
        from said
        where open_fen <> case when state in ({quoted(LET_GO_DEBITS)}) then -amount else 0 end
           or debt_fen <> case when state = '{_D.DEBT}' then -amount else 0 end
           or lost_fen <> case when state = '{_D.WRITTEN_OFF}' then -amount else 0 end
           or earned_fen <> case when state in ({quoted(UNEARNED_DEBITS)}) then 0 else amount - refunded end
           or back_fen <> refunded - paid
           or outside_fen <> paid - collected
           or collected <> case when state in ({quoted(PAID_DEBITS)}) then amount else 0 end
        """,
    ),
    Rule(
        "only a debit's own funding source pays for it",
        "select count(*) from transfer where from_account in"
        " (select id from account where kind in ('bank', 'issuer', 'till'))",
        """
        select 'transfer ' || t.id, t.event || ' of ' || t.amount || ' fen from ' || f.kind || ':' || hex_text(f.owner)
               || ' for debit ' || hex_text(d.id) || ', which is ' || d.funding || ' of ' || hex_text(d.payer)
        from transfer t join debit d on d.id = t.debit_id join account f on f.id = t.from_account
             join account g on g.id = t.to_account
        where t.phase = 'direct' and f.kind in ('bank', 'issuer', 'till') and g.kind in ('open', 'debt')
          and not (f.kind = 'till' and g.kind = 'debt')
          and (f.kind <> case d.funding when 'bank_online' then 'bank' when 'cash' then 'till' else 'issuer' end
               or f.owner <> d.payer)
        """,
    ),
    Rule(
        "refunds are of money that came in",
        "select count(*) from debit where refunded <> 0 or id in (select debit_id from refund)",
        """
        select 'debit ' || hex_text(d.id), 'collected ' || d.collected || ' fen, refunded ' || d.refunded
               || ', its refunds say ' || coalesce(r.amount, 0)
        from debit d left join (select debit_id, sum(amount) as amount from refund group by debit_id) r
             on r.debit_id = d.id
        where d.refunded <> coalesce(r.amount, 0) or d.refunded > d.collected
        """,
    ),
    Rule(
        "what an obligor has open, owes and is due is what its debits say",
        "select count(*) from account where kind in ('open', 'debt', 'due_back')",
        f"""
        with due as (
            select obligor_id, sum(case when state in ({quoted(LET_GO_DEBITS)}) then amount else 0 end) as open_fen,
                   sum(case when state = '{_D.DEBT}' then amount else 0 end) as debt_fen
            from debit group by obligor_id
        ), back as (
            select d.obligor_id, sum(r.amount) as fen from refund r join debit d on d.id = r.debit_id
            where r.state = '{RefundState.DECIDED}' group by d.obligor_id
        ), said as (
            select a.kind, a.owner, a.balance, case a.kind when 'open' then -coalesce(u.open_fen, 0)
                   when 'debt' then -coalesce(u.debt_fen, 0) else coalesce(b.fen, 0) end as fen
            from account a left join due u on u.obligor_id = a.owner left join back b on b.obligor_id = a.owner
            where a.kind in ('open', 'debt', 'due_back')
        )
        select kind || ':' || hex_text(owner), 'balance ' || balance || ' fen, debits say ' || fen
        from said where balance <> fen
        """,
    ),
    # A limit may be lowered below what is owed already. So only an obligor with a claim younger than its limit is
    # looked at (by a minute: a request under way keeps to the limit it saw), and what was claimed beyond a hold (an
    # overrun, a correction) or is owed again (a withdrawn approval) does not count: no limit could have refused it.
    Rule(
        "an obligor's holds and dues keep to its limit",
        "select count(*) from mandate where limit_fen is not null",
        f"""
        with counted as (
            select obligor_id, max(created_at) as newest from debit
            where state in ({quoted(OWING_DEBITS)}) group by obligor_id
        ), beyond as (
            select d.obligor_id, sum(t.amount) as fen from transfer t join debit d on d.id = t.debit_id
            join account f on f.id = t.from_account join account g on g.id = t.to_account
            where t.phase = 'direct' and f.kind in ('open', 'debt')
              and (g.kind = 'merchant' or t.event = 'approval_withdrawn')
              and d.state in ({quoted(OWING_DEBITS)}) group by d.obligor_id
        ), exposed as (
            select owner, sum(held - balance) as fen from account where kind in ('open', 'debt') group by owner
        ), changed as (
            select ref, max(at) as at from journal where kind = 'limit' group by ref
        )
        select 'obligor ' || hex_text(o.id), 'holds and owes ' || e.fen || ' fen, the limit of mandate '
               || hex_text(m.id) || ' is ' || m.limit_fen
        from obligor o join mandate m on m.id = o.mandate_id join exposed e on e.owner = o.id
             join counted c on c.obligor_id = o.id left join beyond b on b.obligor_id = o.id
             left join changed l on l.ref = m.id
        where e.fen - coalesce(b.fen, 0) > m.limit_fen
          and c.newest > m.imported_at + 60000000 and c.newest > coalesce(l.at, 0) + 60000000
        """,
    ),
    Rule(
        "a debit has at most one attempt open and one approved",
        "select count(*) from attempt",
        f"""
        select 'debit ' || hex_text(debit_id), 'open attempts ' || open || ', approved ' || approved
        from (
            select debit_id,
                   sum(case when state in ({quoted(UNRESOLVED)}) and late_approval = 0
                       then 1 else 0 end) as open,
                   sum(case when state = '{_A.APPROVED}' then 1 else 0 end) as approved
            from attempt where kind <> 'refund' group by debit_id
        ) counted
        where open > 1 or approved > 1
        """,
    ),
    Rule(
        "money from the bank has an approved attempt behind it",
        "select count(*) from transfer where event = 'bank_approved'",
        f"""
        with withdrawn as (
            select distinct attempt_id, amount from transfer where event = 'approval_withdrawn'
        )
        select 'transfer ' || t.id, t.event || ' of ' || t.amount || ' fen for debit ' || hex_text(t.debit_id)
               || '; attempt ' || coalesce(a.kind || ' ' || hex_text(a.id), 'missing') || ' is '
               || coalesce(a.state || ', ' || a.amount || ' fen for debit ' || hex_text(a.debit_id), 'missing')
        from transfer t join account f on f.id = t.from_account join account g on g.id = t.to_account
             left join attempt a on a.id = t.attempt_id
             left join withdrawn w on w.attempt_id = t.attempt_id and w.amount = t.amount
        where (f.kind = 'bank' and g.kind in ('open', 'debt') or f.kind = 'due_back' and g.kind = 'bank')
          and (coalesce(a.state, '') <> case when w.attempt_id is null then '{_A.APPROVED}' else '{_A.DECLINED}' end
               or a.amount <> t.amount or a.debit_id <> t.debit_id
               or (a.kind = 'refund') <> (f.kind = 'due_back'))
        """,
    ),
    Rule(
        "whatever is in doubt at a bank is being asked about",
        f"select count(*) from attempt where state in ({quoted(AWAITED)})",
        f"""
        select 'attempt ' || hex_text(a.id), a.kind || ' is ' || a.state || ', debit is ' || d.state
               || ', no message waits'
        from attempt a join debit d on d.id = a.debit_id
        where a.state in ({quoted(AWAITED)})
          and (a.state <> '{_A.STORED}' or a.kind <> 'sale' or d.state <> '{_D.HELD}')
          and not exists (select 1 from outbox o where o.attempt_id = a.id and o.done_at is null)
          and not exists (select 1 from item i where i.debit_id = d.id and i.state in ({quoted(LISTED_ITEMS)}))
        """,
    ),
    Rule(
        "whatever is disputed at a bank is on people's list, and no message waits for it",
        f"select count(*) from attempt where state = '{_A.DISPUTED}'",
        f"""
        select 'attempt ' || hex_text(a.id), a.kind || ' is disputed, '
               || case when o.id is null then 'and on nobody''s list' else 'and message ' || o.id || ' waits' end
        from attempt a left join outbox o on o.attempt_id = a.id and o.done_at is null
        where a.state = '{_A.DISPUTED}' and (o.id is not null or not exists (
            select 1 from item i where i.ref = a.id and i.state in ({quoted(LISTED_ITEMS)})))
        """,
    ),
    Rule(
        "an approval is withdrawn at most once",
        "select count(*) from transfer where event = 'approval_withdrawn'",
        """
        select 'attempt ' || hex_text(attempt_id), 'its approval is withdrawn ' || count(*) || ' times'
        from transfer where event = 'approval_withdrawn' group by attempt_id having count(*) > 1
        """,
    ),
    Rule(
        "suspense holds exactly the late approvals whose reversal is open",
        "select count(*) from account where kind = 'suspense'",
        """
        select 'suspense:' || hex_text(a.owner), 'balance ' || a.balance || ' fen, late approvals '
               || coalesce(l.amount, 0)
        from account a left join (
            select channel, sum(amount) as amount from attempt where late_approval = 1 group by channel
        ) l on l.channel = a.owner
        where a.kind = 'suspense' and a.balance <> coalesce(l.amount, 0)
        """,
    ),
    Rule(
        "a purchase is taken at most once for a debit, and only behind a released one",
        "select count(*) from purchase",
        f"""
        select 'debit ' || hex_text(id), 'state ' || state || ', purchases taken ' || taken || ' of ' || tried
        from (
            select d.id, d.state, count(*) as tried, sum(case when p.state = '{_P.TAKEN}' then 1 else 0 end) as taken,
                   sum(case when p.state = '{_P.NOT_TAKEN}' then 0 else 1 end) as doubtful,
                   d.final_amount is not null and d.state in ({quoted(DEBT_DEBITS)}) as delivered_first
            from debit d join purchase p on p.debit_id = d.id group by d.id, d.state
        ) counted
        where taken > 1
           or (state = '{_D.VOIDED}' and doubtful > 0)
           or (delivered_first and doubtful > 0)
           or (state not in ({quoted(UNEARNED_DEBITS)}) and not delivered_first and taken <> 1)
        """,
    ),
    Rule(
        "every state is the last one that the journal tells",
        "select (select count(*) from debit) + (select count(*) from attempt) + (select count(*) from refund)"
        " + (select count(*) from item) + (select count(*) from sale) + (select count(*) from pump_order)",
        f"""
        with said as (
            select 'debit' as kind, id as ref, state from debit
            union all select 'attempt', id, state from attempt
            union all select 'refund', id, state from refund
            union all select 'item', cast(id as text), state from item
            union all select 'sale', id, state from sale
            union all select 'pump_order', id, state from pump_order
        ), named as (
            select kind, ref, number, event from journal where ref is not null
            union all select kind, debit_id, number, event from journal where ref is null
        ), told as (
            select kind, ref, max(number) as number from named
            where (kind = 'debit' and event in ({quoted(_D)}))
               or (kind = 'attempt' and event in ({quoted(_A)}))
               or (kind = 'refund' and event in ({quoted(RefundState)}))
               or (kind = 'item' and event in ({quoted(ItemState)}))
               or (kind = 'sale' and event in ({quoted(SaleState)}))
               or (kind = 'pump_order' and event in ({quoted(OrderState)}))
            group by kind, ref
        )
        select s.kind || ' ' || hex_text(s.ref), 'is ' || s.state || ', the journal says '
               || coalesce(j.event, 'nothing') || coalesce(' in row ' || j.number, '')
        from said s left join told t on t.kind = s.kind and t.ref = s.ref left join journal j on j.number = t.number
        where coalesce(j.event, '') <> s.state
        """,
    ),
    Rule(
        "a sale of fuel is claimed for what its pump said",
        "select count(*) from sale where debit_id is not null",
        f"""
        select 'sale ' || hex_text(s.id), s.state || ' of ' || coalesce(s.amount, 'no') || ' fen; its debit is '
               || d.state || ', claimed ' || coalesce(d.final_amount, 'nothing')
        from sale s join debit d on d.id = s.debit_id
        where (s.state = '{SaleState.BILLED}'
               and (d.state in ({quoted(UNEARNED_DEBITS)}) or coalesce(d.final_amount, -1) <> s.amount))
           or (s.state = '{SaleState.NOTHING}' and d.state not in ({quoted(UNEARNED_DEBITS)}))
           or (s.state in ({quoted([SaleState.OPEN, SaleState.GREY])})
               and (d.state <> '{_D.HELD}' or d.final_amount is not null))
        """,
    ),
    Rule(
        "what a payer did not grant was written off with its item",
        "select count(*) from transfer where event = 'clearing_loss'",
        f"""
        select 'transfer ' || t.id, 'books a loss of ' || t.amount || ' fen for '
               || coalesce(hex_text(t.reference), 'nothing') || ', which is '
               || coalesce(i.state || ' with ' || i.amount || ' fen', 'missing')
        from transfer t left join item i on 'item/' || i.id = t.reference
        where t.event = 'clearing_loss'
          and (coalesce(i.state, '') <> '{ItemState.WRITTEN_OFF}' or abs(i.amount) <> t.amount)
        """,
    ),
    Rule(
        "what is written off was proposed by one person and agreed to by another",
        f"select count(*) from item where state = '{ItemState.WRITTEN_OFF}'",
        f"""
        select 'item ' || id, kind || ' of ' || hex_text(ref) || ' is written off by ' || coalesce(actor, 'nobody')
               || ' and ' || coalesce(second_actor, 'nobody'), actor, second_actor
        from item
        where state = '{ItemState.WRITTEN_OFF}'
        """,
        unless=are_two,
    ),
    Rule(
        "of an erased passage nothing personal is left, and the journal tells of it",
        "select count(*) from subject where erased_at is not null",
        """
        select 'passage ' || hex_text(g.id), case when s.erased_at is null then 'is erased by the journal alone'
               when j.number is null then 'is erased, and the journal does not tell by whom'
               else 'is erased, and some of it is left' end
        from passage g join subject s on s.id = g.id
             left join (select ref, min(number) as number from journal where kind = 'passage' and event = 'erased'
                        group by ref) j on j.ref = g.id
        where (s.erased_at is null) <> (j.number is null)
           or (s.erased_at is not null and (
               coalesce(s.obu_id, s.contract, s.card_number, s.plate) is not null or s.plate_colour is not null
               or s.salt is not null
               or exists (
                   select 1 from debit d join purchase p on p.debit_id = d.id
                                 join purchase_file f on f.purchase_id = p.id where d.passage_id = g.id)))
        """,
    ),
    Rule(
        "a cleared line is the sum of its rows, and settled and paid out once",
        "select count(*) from clearing_line where state = 'closed'",
        """
        with summed as (
            select line_id, count(*) as rows, sum(amount) as amount, sum(paid) as paid
            from clearing_row where line_id is not null group by line_id
        ), owners as (
            select line_id, sum(amount) as amount, sum(fee) as fee from clearing_payout group by line_id
        ), moved as (
            select t.reference,
                   sum(case when t.event <> 'settlement' then 0
                       when g.kind = 'settlement' then -t.amount else t.amount end) as settled,
                   sum(case when t.event <> 'payout' then 0
                       when g.kind = 'settlement' then t.amount else -t.amount end) as paid_out,
                   count(*) - count(distinct t.event || ' ' || t.from_account || ' ' || t.to_account) as twice
            from transfer t join account g on g.id = t.to_account
            where t.debit_id is null and t.reference like 'clearing/%' group by t.reference
        )
        select 'clearing line ' || l.id,
               l.count || ' rows of ' || l.amount || ' fen, paid ' || l.paid || ', fee ' || l.fee || '; rows say '
               || coalesce(s.rows, 0) || ' of ' || coalesce(s.amount, 0) || ', paid ' || coalesce(s.paid, 0)
               || '; owners have ' || coalesce(o.amount, 0) || '; settled ' || coalesce(m.settled, 0)
               || ', paid out ' || coalesce(m.paid_out, 0) || ', transfers twice ' || coalesce(m.twice, 0)
        from clearing_line l
        left join summed s on s.line_id = l.id
        left join owners o on o.line_id = l.id
        left join moved m on m.reference = 'clearing/' || l.day || '/' || l.id
        where l.state = 'closed' and (
            coalesce(s.rows, 0) <> l.count or coalesce(s.amount, 0) <> l.amount or coalesce(s.paid, 0) <> l.paid
            or coalesce(o.amount, 0) <> l.amount or coalesce(m.twice, 0) <> 0
            or coalesce(m.settled, 0) <> l.paid - l.fee or coalesce(m.paid_out, 0) <> l.amount - coalesce(o.fee, 0))
        """,
    ),
    Rule(
        "the shares of a cleared row add up to it",
        "select count(*) from clearing_share",
        """
        select 'clearing row ' || hex_text(r.ref), r.amount || ' fen, shares say ' || sum(s.amount)
        from clearing_row r join clearing_share s on s.ref = r.ref
        group by r.ref, r.amount having sum(s.amount) <> r.amount
        """,
    ),
    Rule(
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
    Rule(
        "an open barrier has a claim or an entry behind it, or a repeat of one",
        "select count(*) from decision where release = 'go'",
        f"""
        select 'record ' || e.record_no, 'release go, debit ' || coalesce(d.state, 'missing')
        from decision e left join debit d on d.id = e.debit_id
        where e.release = 'go' and e.outcome <> 'entered'
          and not (e.outcome = 'repeat' and exists (
              select 1 from decision first where first.passage_id = e.passage_id and first.outcome = 'entered'))
          and coalesce(d.state, '') not in ({quoted(EARNED_DEBITS)})
        """,
    ),
)


def check_rule(connection: Connection, number: int) -> Check:
    """Check one of `RULES`."""
    rule = RULES[number]
    rows = int(connection.execute(text(rule.count)).scalar_one())
    return checked(rule.name, rows, _bad_rows(connection, rule))


def _bad_rows(connection: Connection, rule: Rule) -> Iterator[Finding]:
    for row, problem, *more in connection.execute(text(rule.bad)):
        if rule.unless is None or not rule.unless(*more):
            yield Finding(rule.name, str(row), str(problem))
