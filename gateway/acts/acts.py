"""Acts of people about money that no charge point did: what each needs, who may do it, what it changes.

An act is made of plain values, so that it can be asked of a running gateway; it is one change of the ledger. What it
returns are facts for programs; a command or a page shows them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from gateway.acts.actor import NAME_CHARS_MAX, REASON_CHARS_MAX, Actor, Role
from gateway.clearing import items
from gateway.clearing.day import ClearingRefused
from gateway.clearing.terms import Terms as ClearingTerms
from gateway.debit import debts, limits, manual_resolution, refunds
from gateway.debit.claims import Decision
from gateway.debit.dual_control import proposal
from gateway.debit.late import LateEffect
from gateway.debit.recovery import keep_rules
from gateway.debit.states import debit_row
from gateway.ledger.transaction import Transaction
from gateway.model.ids import digest_of, new_id
from gateway.model.states import OrderState, RefundState
from gateway.payers.mandates import stand_in_limit
from gateway.points.fuel import book, orders
from gateway.points.fuel.settling import Sold
from gateway.rules.loading import DebitRules
from gateway.texts.catalogue import Text, Words
from gateway.views.debits import find_debit

Facts: TypeAlias = dict[str, Any]
"""Facts that an act tells, as JSON."""

PROPOSED: Final = "proposed"
"""State of what waits for a second person."""

KEY_CHARS_MAX: Final = 64

Id = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
DebitName = Annotated[str, Field(min_length=1, max_length=80)]
"""A debit's id or key, or the record number or id of its passage."""
Reason = Annotated[str, Field(min_length=1, max_length=REASON_CHARS_MAX)]
Name = Annotated[str, Field(min_length=1, max_length=NAME_CHARS_MAX)]
LimitName: TypeAlias = Literal["per_debit_fen", "per_day_fen", "per_day_count"]
Fen = Annotated[int, Field(ge=0, lt=1 << 53)]


class Refused(Exception):
    """Refusal of an act, of which nothing was done: `code` is a reason of `gateway.model.reasons`."""

    def __init__(self, code: str, what: Text) -> None:
        self.code = code
        self.what = what
        super().__init__(f"{what}: {code}")


@dataclass(frozen=True, slots=True)
class Terms:
    """Terms of the site that acts need to know."""

    rules: DebitRules
    clearing: Callable[[], ClearingTerms]
    """Terms of clearing, from a file of their own; few acts ask for them."""


class Act(BaseModel):
    """One thing to do. `role`: who may."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    role: ClassVar[Role] = Role.CLERK

    def do(self, tx: Transaction, actor: Actor, terms: Terms) -> Facts:
        """Change the ledger. Raises `Refused`."""
        raise NotImplementedError


class OfDebit(Act):
    """An act about one debit; it tells where the debit stands then."""

    debit: DebitName

    def do(self, tx: Transaction, actor: Actor, terms: Terms) -> Facts:
        debit_id = find_debit(tx.connection, self.debit)
        if debit_id is None:
            raise Refused("debit_unknown", Words("acts.no-debit", debit=self.debit))
        more = self.change(tx, debit_id, actor, terms)
        row = debit_row(tx, debit_id)
        return {
            "debit_id": debit_id,
            "state": row.state,
            "amount_fen": row.amount,
            "collected_fen": row.collected,
            "retry_us": row.retry_at,
            **more,
        }

    def change(self, tx: Transaction, debit_id: str, actor: Actor, terms: Terms) -> Facts:
        """Change this debit; what there is to tell besides. Raises `Refused`."""
        raise NotImplementedError


class Refund(OfDebit):
    """Give back some of what was collected for a debit; the same key twice pays once."""

    act: Literal["refund"] = "refund"
    amount_fen: Fen
    reason: Reason
    key: Annotated[str, Field(min_length=1, max_length=KEY_CHARS_MAX)] | None = None
    """Business key; left out: that of what is given."""
    at_till: bool = False
    """Pay it at a till, not where the money came from."""
    till: Name | None = None
    """The till that pays it out at once."""

    def change(self, tx: Transaction, debit_id: str, actor: Actor, terms: Terms) -> Facts:
        key = self.key or digest_of("refund", debit_id, self.amount_fen, self.reason)[:32]
        target = "till" if self.at_till or self.till is not None else None
        request = refunds.RefundRequest(key, debit_id, self.amount_fen, self.reason, actor.name, target)
        before = proposal(tx, refunds.PROPOSED, debit_id, self.amount_fen)
        found = refunds.ask_refund(tx, request, new_id(tx.now_us, random.SystemRandom()), terms.rules)
        if isinstance(found, refunds.RefundRefused):
            # Refused for want of a second person, and yet something was done where this was the first.
            if found.reason != "item_needs_second" or before is not None:
                raise Refused(found.reason, Words("acts.not-refunded", amount_fen=self.amount_fen, debit=debit_id))
            return {"refund": {"key": key, "amount_fen": self.amount_fen, "target": target, "state": PROPOSED}}
        if self.till is not None and found.state != RefundState.PAID:
            refused = refunds.pay_at_till(tx, found.refund_id, self.till, actor.name)
            _unless(refused, Words("acts.refund-not-paid", refund=found.refund_id))
            found = replace(found, state=RefundState.PAID)
        return {"refund": {"key": key, **asdict(found)}}


class PayRefund(Act):
    """Pay out a decided refund at a till, also one that its bank refused."""

    act: Literal["pay_refund"] = "pay_refund"
    role: ClassVar[Role] = Role.CASHIER
    refund_id: Id
    till: Name

    def do(self, tx: Transaction, actor: Actor, terms: Terms) -> Facts:
        refused = refunds.pay_at_till(tx, self.refund_id, self.till, actor.name)
        _unless(refused, Words("acts.refund-not-paid", refund=self.refund_id))
        return {"refund_id": self.refund_id, "state": RefundState.PAID.value, "till": self.till}


class Adjust(OfDebit):
    """Put right what an unpaid debit asks for."""

    act: Literal["adjust"] = "adjust"
    amount_fen: Fen
    reason: Reason

    def change(self, tx: Transaction, debit_id: str, actor: Actor, terms: Terms) -> Facts:
        refused = refunds.adjust(tx, debit_id, self.amount_fen, self.reason, actor=actor.name, rules=terms.rules)
        _unless(refused, Words("acts.not-adjusted", debit=debit_id))
        return {}


class ResolvePurchase(OfDebit):
    """Say whether the card of a held debit paid; the debit is decided."""

    act: Literal["resolve_purchase"] = "resolve_purchase"
    taken: bool
    reason: Reason

    def change(self, tx: Transaction, debit_id: str, actor: Actor, terms: Terms) -> Facts:
        keep_rules(tx, terms.rules)
        by, deciding = (
            manual_resolution.ResolvedBy(actor.name, self.reason),
            manual_resolution.Deciding(terms.rules, stand_in_limit),
        )
        found: Decision | str = manual_resolution.resolve_purchase(
            tx, debit_id, taken=self.taken, by=by, deciding=deciding
        )
        if isinstance(found, str):
            raise Refused(found, Words("acts.not-resolved", debit=debit_id))
        return {"record_no": found.record_no}


class ResolveAttempt(OfDebit):
    """Say whether the bank booked an attempt in doubt."""

    act: Literal["resolve_attempt"] = "resolve_attempt"
    attempt_id: Id
    posted: bool
    source: Reason
    reason: Reason

    def change(self, tx: Transaction, debit_id: str, actor: Actor, terms: Terms) -> Facts:
        found: LateEffect | str = manual_resolution.resolve_attempt(
            tx,
            debit_id,
            self.attempt_id,
            posted=self.posted,
            source=self.source,
            by=manual_resolution.ResolvedBy(actor.name, self.reason),
            rules=terms.rules,
        )
        if isinstance(found, str):
            raise Refused(found, Words("acts.attempt-not-resolved", attempt=self.attempt_id, debit=debit_id))
        return {"effect": found.name.lower()}


class PayDebt(OfDebit):
    """Take the money for a debt at a till."""

    act: Literal["pay_debt"] = "pay_debt"
    role: ClassVar[Role] = Role.CASHIER
    till: Name

    def change(self, tx: Transaction, debit_id: str, actor: Actor, terms: Terms) -> Facts:
        _unless(
            debts.pay_at_till(tx, debit_id, self.till, actor.name, terms.rules),
            Words("acts.nothing-done", debit=debit_id),
        )
        return {}


class RetryDebt(OfDebit):
    """Have the bank of a debt asked again now, whatever the schedule says."""

    act: Literal["retry_debt"] = "retry_debt"

    def change(self, tx: Transaction, debit_id: str, actor: Actor, terms: Terms) -> Facts:
        _unless(debts.retry_now(tx, debit_id, actor.name), Words("acts.nothing-done", debit=debit_id))
        return {}


class WriteOffDebt(OfDebit):
    """Give a debt up: proposed by one person, in force when another asks for the same."""

    act: Literal["write_off_debt"] = "write_off_debt"
    reason: Reason

    def change(self, tx: Transaction, debit_id: str, actor: Actor, terms: Terms) -> Facts:
        before = proposal(tx, debts.WRITE_OFF, debit_id, debit_row(tx, debit_id).amount)
        refused = debts.write_off(tx, debit_id, actor.name, self.reason, terms.rules)
        proposed = refused == "item_needs_second" and before is None
        _unless(None if proposed else refused, Words("acts.nothing-done", debit=debit_id))
        return {PROPOSED: proposed}


class SettleSale(Act):
    """Say what a pump delivered under a grey sale: it is charged, or its hold is freed."""

    act: Literal["settle_sale"] = "settle_sale"
    sale_id: Id
    volume_ml: Fen = 0
    amount_fen: Fen = 0
    """Both 0: nothing was delivered."""
    reason: Reason

    def do(self, tx: Transaction, actor: Actor, terms: Terms) -> Facts:
        keep_rules(tx, terms.rules)
        sold = Sold(self.volume_ml, self.amount_fen) if self.volume_ml or self.amount_fen else None
        refused = book.settle_by_person(tx, self.sale_id, sold, actor=actor.name, reason=self.reason)
        _unless(refused, Words("acts.sale-not-settled", sale=self.sale_id))
        return {"sale_id": self.sale_id, "volume_ml": self.volume_ml, "amount_fen": self.amount_fen}


class AuthorisePump(Act):
    """Let a side be authorised once, for a vehicle that stands there or for whoever pays at the till."""

    act: Literal["authorise_pump"] = "authorise_pump"
    role: ClassVar[Role] = Role.CASHIER
    charge_point: Annotated[str, Field(min_length=1, max_length=40)]
    side: Annotated[int, Field(ge=1, le=999)]
    plate: Annotated[str, Field(min_length=1, max_length=16)] | None = None
    """None: whoever lifts the nozzle pays at the till."""
    plate_colour: Annotated[int, Field(ge=0, le=255)] | None = None
    limit_fen: Annotated[int, Field(ge=1, lt=1 << 53)] | None = None
    reason: Reason

    def do(self, tx: Transaction, actor: Actor, terms: Terms) -> Facts:
        order_id = new_id(tx.now_us, random.SystemRandom())
        vehicle = None if self.plate is None else orders.vehicle_digest(self.plate, self.plate_colour)
        refused = orders.give(
            tx,
            order_id,
            charge_point=self.charge_point,
            side=self.side,
            vehicle=vehicle,
            limit_fen=self.limit_fen,
            actor=actor.name,
            reason=self.reason,
        )
        _unless(refused, Words("acts.pump-not-authorised", point=self.charge_point, side=self.side))
        return {"order_id": order_id, "lane": self.charge_point, "side": self.side, "state": OrderState.GIVEN.value}


class ExplainItem(Act):
    """Close a difference with a reason."""

    act: Literal["explain_item"] = "explain_item"
    item_id: Annotated[int, Field(ge=1, lt=1 << 53)]
    reason: Reason

    def do(self, tx: Transaction, actor: Actor, terms: Terms) -> Facts:
        return _item(lambda: items.explain(tx, self.item_id, actor.name, self.reason))


class WriteOffItem(Act):
    """Give a difference up: proposed by one person, in force when another agrees."""

    act: Literal["write_off_item"] = "write_off_item"
    item_id: Annotated[int, Field(ge=1, lt=1 << 53)]
    reason: Reason

    def do(self, tx: Transaction, actor: Actor, terms: Terms) -> Facts:
        return _item(lambda: items.write_off(tx, self.item_id, actor.name, self.reason, terms.clearing()))


class ChangeLimits(Act):
    """Change a mandate's limits; they bind from the next hold on."""

    act: Literal["change_limits"] = "change_limits"
    mandate_id: Annotated[str, Field(min_length=1, max_length=64)]
    service: Annotated[str, Field(pattern=r"^[a-z_]{1,20}$|^\*$")]
    changes: dict[LimitName, Fen | None] = Field(default_factory=dict)
    """None for no such limit."""
    clear: bool = False
    """Take back what was stated for the service."""
    exposure: tuple[Fen | None] | None = None
    """Most that may be owed at once, in a tuple of its own: (None,) for no such limit, None to leave it."""

    def do(self, tx: Transaction, actor: Actor, terms: Terms) -> Facts:
        what = Words("acts.no-limit-changed", mandate_id=self.mandate_id)
        if self.exposure is not None:
            _unless(limits.change_exposure(tx, self.mandate_id, self.exposure[0], actor.name), what)
        if self.clear:
            _unless(limits.clear_limit(tx, self.mandate_id, self.service, actor.name), what)
        if self.changes:
            changes: Mapping[str, int | None] = {str(name): value for name, value in self.changes.items()}
            refused = limits.change_limit(
                tx, self.mandate_id, self.service, changes, actor=actor.name, rules=terms.rules
            )
            _unless(refused, what)
        return {"mandate_id": self.mandate_id}


AnyAct: TypeAlias = Annotated[
    Refund
    | PayRefund
    | Adjust
    | ResolvePurchase
    | ResolveAttempt
    | PayDebt
    | RetryDebt
    | WriteOffDebt
    | SettleSale
    | AuthorisePump
    | ExplainItem
    | WriteOffItem
    | ChangeLimits,
    Field(discriminator="act"),
]

ACT: Final[TypeAdapter[AnyAct]] = TypeAdapter(AnyAct)
"""Reads any act from JSON, and trusts nothing in it."""


def _unless(refused: str | None, what: Text) -> None:
    if refused is not None:
        raise Refused(refused, what)


def _item(change: Callable[[], items.ItemChanged]) -> Facts:
    try:
        done = change()
    except ClearingRefused as refused:
        raise Refused(refused.reason, refused.detail) from refused
    return {
        "item": done.item_id,
        "state": done.state,
        "actor": done.actor,
        "second_actor": done.second_actor,
        "lost_fen": done.lost_fen,
    }
