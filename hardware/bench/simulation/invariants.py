"""Invariants of a run, watched from outside after every commit, posting, purchase, lift and answer.

The watcher keeps a picture of the ledger made of nothing but the rows that were committed, and a tally of what the
outside did: postings in the bank's book, purchases of cards, lifts of barriers, answers given to callers. What the
ledger claims of the outside must be so at the moment it claims it, and what the outside does must have been durable in
the ledger before. Prices and limits come from `site`, never from the ledger.

A broken promise ends the run; `Broken` names it.
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from gateway.model.states import (
    AWAITED,
    BANK_DEBITS,
    MOVES,
    OPEN_PURCHASES,
    OWING_DEBITS,
    PAID_DEBITS,
    UNEARNED_DEBITS,
    UNRESOLVED,
)
from hardware.bench.simulation.bank_words import CONTRADICTED, BankWords
from hardware.bench.simulation.site import Limits
from hardware.bench.simulation.trace import Trace
from hardware.emulators.bank_host import Keys, Posting
from protocols.bank.codec import Message

DUPLICATE = "94"
LOST = "outcome_lost"
"""Kind of the item of a claim that may have ended in a part of the ledger that was lost."""
COLLECTING = ("sale", "advice", "recovery")
PAYING = ("bank_approved", "purse_paid", "issuer_paid", "debt_paid_at_till")
"""Events that bring money for a debit."""
KINDS_OF = {"020": ("sale", "recovery"), "040": ("sale", "recovery"), "022": ("advice", "refund")}
"""Kinds of attempts by the message that carries them."""

TRANSITIONS: Mapping[str, frozenset[tuple[str | None, str]]] = {
    noun: frozenset((old, new) for old, states in MOVES[noun].items() for new in states if new != old)
    for noun in ("debit", "attempt", "purchase", "sale")
}
"""Transitions that are allowed; any other is broken. New rows may have gone several steps in one commit."""


def _reachable(allowed: frozenset[tuple[str | None, str]]) -> frozenset[str]:
    """States a new row may be found in."""
    found: set[str] = set()
    ready: list[str | None] = [None]
    while ready:
        now = ready.pop()
        more = {new for old, new in allowed if old == now} - found
        found |= more
        ready += sorted(more)
    return frozenset(found)


NEW = {what: _reachable(allowed) for what, allowed in TRANSITIONS.items()}


class Broken(Exception):
    """A promise that was not kept."""


@dataclass(slots=True)
class Attempt:
    id: str
    state: str
    debit_id: str
    kind: str
    key: tuple[str, str, str]
    """Terminal, batch, STAN."""
    amount: int
    late: int
    created_at: int
    lates: int = 0
    """Late approvals the ledger took note of."""
    paid: int = 0
    """Fen that `bank_approved` transfers of this attempt moved, less what was withdrawn."""
    code: str | None = None
    contradicted: bool = False
    """True when an item says that the bank said yes and no."""
    was_contradicted: bool = False
    undoing: bool = False
    """True when its reversal has left, and may be under way still when the attempt is disputed."""
    asked: int = 0
    """Times its sale reached the bank: a line may repeat it."""
    by_people: bool = False
    """True when it was in dispute, and people have said how it ended."""
    heard_codes: set[str | None] = field(default_factory=set)
    late_codes: set[str | None] = field(default_factory=set)
    """Codes of those that nobody waited for, where the bank has given two opposite ones."""


@dataclass(slots=True)
class Purchase:
    id: str
    state: str
    debit_id: str
    attempt_no: int
    written: int
    time: str
    card: str
    terminal: str | None = None
    psam_serial: int | None = None
    card_serial: int | None = None
    tac: str | None = None


@dataclass(slots=True)
class Told:
    """Facts that purchases that were taken have told, as far as the ledger knows them."""

    numbered: list[Purchase] = field(default_factory=list)
    """Purchases with terminal and serials, in order."""
    last_serials: dict[str, int] = field(default_factory=dict)
    """Serial of the last purchase by card."""


@dataclass(slots=True)
class Debit:
    id: str
    state: str
    obligor: str
    mandate: str | None
    funding: str
    payer: str
    amount: int
    hold_id: int
    passage: str
    reserved: int
    """Fen of its hold: what counts towards a limit while it is held, whatever was delivered under it."""
    attempts: list[Attempt] = field(default_factory=list)
    purchases: list[Purchase] = field(default_factory=list)
    service: str = "toll"
    completed: bool = False
    """True when its amount has been stated anew."""
    hold: str = "none"
    """none, pending, post, void."""
    collected: int = 0
    refunded: int = 0
    due_back: int = 0
    """Fen of its `refund_decided` transfers."""
    paid: int = 0
    """Fen from bank or issuer, late approvals left out."""


@dataclass(slots=True)
class FuelSale:
    id: str
    state: str
    debit_id: str | None
    side: int
    nozzle: int
    limit_fen: int
    volume_before: int | None
    volume_after: int | None
    volume: int | None
    amount: int | None
    reason: str | None
    was_grey: bool = False
    changes: int = 1


@dataclass(slots=True)
class BankKey:
    """Sums in the bank's book under one sale's or advice's keys."""

    net: int = 0
    posted: int = 0


def _counted(debit: Debit) -> int:
    """Fen of a debit that count towards its payer's limit: the hold, then what is claimed and not paid."""
    if debit.state == "held":
        return debit.reserved
    return debit.amount if debit.state in OWING_DEBITS else 0


@dataclass
class Picture:
    """Picture of the ledger from its committed rows: no longer so when an older ledger comes back."""

    debits: dict[str, Debit] = field(default_factory=dict)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    by_key: dict[tuple[str, str, str], Attempt] = field(default_factory=dict)
    purchases: dict[str, Purchase] = field(default_factory=dict)
    by_card: dict[tuple[str, str], Purchase] = field(default_factory=dict)
    newest_of_card: dict[str, Purchase] = field(default_factory=dict)
    open_outbox: dict[int, tuple[str, str]] = field(default_factory=dict)
    waiting: Counter[str] = field(default_factory=Counter)
    """Open messages by attempt."""
    items: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    item_refs: set[str] = field(default_factory=set)
    """Names of what items are about, other than their debits."""
    sales: dict[str, FuelSale] = field(default_factory=dict)
    contradictions: dict[int, Attempt] = field(default_factory=dict)
    """Attempts by their items."""
    records: int = 0
    decided: dict[str, str] = field(default_factory=dict)
    """Release of the newest decision by passage."""
    opened: Counter[str] = field(default_factory=Counter)
    openings: dict[int, str] = field(default_factory=dict)
    """Lane by record that opens it."""
    owing: Counter[str] = field(default_factory=Counter)
    standing_in: Counter[str] = field(default_factory=Counter)
    """Fen released on our own decision, by obligor."""
    stated: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Balance and held by account, as its row says."""
    accounts: dict[int, list[int]] = field(default_factory=dict)
    """Balance and held by account, reckoned from transfers."""
    account_names: dict[int, tuple[str, str]] = field(default_factory=dict)
    pending: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    sale_at: dict[str, str] = field(default_factory=dict)
    """Newest sale of a terminal."""
    told: Told = field(default_factory=Told)


class Watch(Picture):
    """Watcher of a run, see the module. Every method may raise `Broken` through `fail`."""

    def __init__(self, trace: Trace, limits: Mapping[str, Limits], fail: Callable[[str], None]) -> None:
        super().__init__()
        self._trace = trace
        self._limits = limits
        self._fail = fail
        self.steps = 0
        self.words = BankWords(self.booked, self._still_due)
        self.lifted: Counter[str] = Counter()
        self.lifted_for: set[int] = set()
        self.book: dict[tuple[str, str, str], BankKey] = {}
        self.lost: dict[tuple[str, str, str], Attempt] = {}
        """Attempts of parts of the ledger that were lost, by their keys."""
        self._lost_purchases: set[tuple[str, str]] = set()
        self._in_flight_until = 0.0
        """Time until which a message of a lost part may still arrive."""
        self.card_paid: dict[tuple[str, str], int] = {}
        self.outcomes: Counter[str] = Counter()
        self.transitions: Counter[str] = Counter()
        self._touched: dict[str, None] = {}
        self._moved: dict[int, None] = {}
        # Of one commit, whose rows come in the order in which they were written, not in that of its changes:
        self._claimed: dict[str, str | None] = {}
        """Obligors of new debits, with their mandates."""
        self._grown: Counter[str] = Counter()
        """Fen by which the older claims of an obligor have come to count more."""
        self._growing: list[tuple[Debit, int]] = []
        self._opened: dict[str, int] = {}
        """Records that let go on our own decision, by debit."""
        self._let_through: dict[str, int] = {}
        """Records that open the barrier, by debit."""
        self._reopened: set[str] = set()
        """Attempts whose reversal was closed until this commit."""
        self.sales_moved: list[FuelSale] = []
        """Sales of fuel that this commit has changed."""
        self._at_loss: tuple[int, Counter[str]] | None = None
        """Records, and openings by lane, that stood in the ledger's file when it was lost."""
        self._in_nothing: set[str] = set()
        """Debits, attempts, purchases and reversals stored since then."""

    # --- the ledger -----------------------------------------------------------------------------------------------

    def committed(self, rows: list[Any]) -> None:
        """Check the rows one commit has changed, in order."""
        self.steps += 1
        self._touched.clear()
        self._moved.clear()
        self._claimed.clear()
        self._grown.clear()
        self._growing.clear()
        self._opened.clear()
        self._let_through.clear()
        self._reopened.clear()
        self.sales_moved.clear()
        for row in rows:
            what = row[1]
            if what[0] in "-!":
                self._broken(f"{what[1:]} {row[2]} was {'deleted' if what[0] == '-' else 'changed'}")
            elif what in ("+account", "~account"):
                if what == "+account":
                    self.account_names[row[2]] = (row[3], row[4])
                self.stated[row[2]] = (row[5], row[6]) if what == "+account" else (row[3], row[4])
                self._moved[row[2]] = None
            else:
                _HANDLERS[what](self, row)
        self._look_at_limits()
        self._look_at_accounts()
        for debit_id in self._touched:
            self._look_at_debit(self.debits[debit_id])

    def file_lost(self) -> None:
        """Note that what is stored from here on is in no file: nothing may follow from it."""
        self._at_loss = self.records, self.opened.copy()

    def file_found(self) -> None:
        """Note that the file has come back, or what was rescued of it has."""
        self._at_loss = None
        self._in_nothing.clear()

    def rows(self) -> dict[str, int]:
        """Number of rows that must stand in the ledger, by table."""
        return {
            "decision": self.records,
            "debit": len(self.debits),
            "attempt": len(self.attempts),
            "purchase": len(self.purchases),
            "item": len(self.items),
            "sale": len(self.sales),
        }

    def touched(self) -> list[Debit]:
        """Debits that the last commit has changed."""
        return [self.debits[debit_id] for debit_id in self._touched]

    def in_nothing(self, key: str) -> bool:
        """True for what was stored while the ledger's file was gone."""
        return key in self._in_nothing

    def item_about(self, ref: str) -> bool:
        """True when people are told of what goes by this name."""
        return ref in self.item_refs

    def note_pump(self, text: str) -> None:
        """Write down what a pump does."""
        self._trace.add("pump", text)

    def _since_loss(self, key: str) -> None:
        if self._at_loss is not None:
            self._in_nothing.add(key)
            self.transitions["ledger:stored->in_nothing"] += 1

    def _new_debit(self, row: Any) -> None:  # noqa: ANN401 - a row of the watcher's table
        _, _, key, state, obligor, mandate, funding, payer, amount, hold_id, passage, collected, refunded, service = row
        debit = Debit(key, state, obligor, mandate, funding, payer, amount, hold_id or 0, passage, amount)
        debit.collected, debit.refunded, debit.service = collected, refunded, service
        self.debits[key] = debit
        self._since_loss(key)
        self._changed("debit", key, None, state)
        self.owing[obligor] += amount * (state in OWING_DEBITS)
        self._touched[key] = None
        self._claimed[obligor] = mandate
        if state == "owed":
            self._let_go(debit, amount)

    def _debit_changed(self, row: Any) -> None:  # noqa: ANN401
        _, _, key, state, hold_id, amount, collected, refunded, *_ = row
        debit = self.debits[key]
        debit.hold_id, debit.collected, debit.refunded = hold_id, collected, refunded
        self._touched[key] = None
        before = _counted(debit)
        if amount != debit.amount:
            if debit.state == "owed":
                self._let_go(debit, amount - debit.amount)
            debit.amount = amount
            debit.completed = True
        if state != debit.state:
            self._changed("debit", key, debit.state, state)
            if "owed" in (state, debit.state):
                self._let_go(debit, debit.amount if state == "owed" else -debit.amount)
            debit.state = state
        more = _counted(debit) - before
        self.owing[debit.obligor] += more
        self._grown[debit.obligor] += max(0, more)

    def _let_go(self, debit: Debit, amount: int) -> None:
        """Note more, or less, that is owed on our own decision. More is checked when all of the commit is known."""
        if amount > 0:
            self._growing.append((debit, amount))
        else:
            self.standing_in[debit.obligor] += amount

    def _new_attempt(self, row: Any) -> None:  # noqa: ANN401
        _, _, key, state, debit_id, kind, _, reference, amount, late, created, code, *_ = row
        terminal, batch, stan = reference.split("/")
        attempt = Attempt(key, state, debit_id, kind, (terminal, batch, stan), amount, late, created)
        if attempt.key in self.by_key:
            self._broken(f"attempt {key}: wire keys {attempt.key} were used before")
        if attempt.key in self.lost:
            self._broken(f"attempt {key}: {attempt.key} was used in a part of the ledger that was lost")
        if attempt.key in self.book:
            self._broken(f"attempt {key}: the bank knows {attempt.key} already")
        if kind in ("sale", "recovery"):
            self._look_at_terminal(attempt)
        if kind in COLLECTING:
            self._look_at_open_questions(attempt)
        self.attempts[key] = self.by_key[attempt.key] = attempt
        self.debits[debit_id].attempts.append(attempt)
        self._since_loss(key)
        self._changed(f"attempt.{kind}", key, None, state)
        self._touched[debit_id] = None
        attempt.code = code
        self.words.look_at(attempt)

    def _look_at_open_questions(self, new: Attempt) -> None:
        """Check that nothing is asked anew for a debit while people must find out about an earlier attempt of it."""
        for other in self.debits[new.debit_id].attempts:
            # A late approval in suspense may have had an advice behind it when both came into dispute.
            disputed = other.state == "disputed" and not other.late
            waits = disputed or (other.state == "approved" and other.contradicted)
            if waits and other.kind in COLLECTING and other.kind != "advice":
                self._broken(
                    f"debit {new.debit_id} is asked for anew beside attempt {other.id}, which is {other.state}"
                )

    def _look_at_terminal(self, new: Attempt) -> None:
        """Check that no other sale is in doubt when one begins: a reversal goes out before the terminal's next sale."""
        at = self.sale_at.get(new.key[0])
        other = None if at is None else self.attempts[at]
        # A word that came too late may follow the new sale within the commit.
        if other is not None and other.state in AWAITED and other.id not in self._reopened:
            self._broken(f"attempt {new.id} begins at terminal {new.key[0]}, whose sale {other.id} is {other.state}")
        self.sale_at[new.key[0]] = new.id

    def _attempt_changed(self, row: Any) -> None:  # noqa: ANN401
        _, _, key, state, late, code, *_ = row
        attempt = self.attempts[key]
        attempt.code = code
        self._touched[attempt.debit_id] = None
        if late and not attempt.late:
            attempt.lates += 1
        attempt.late = late
        if state == attempt.state:
            return
        self._changed(f"attempt.{attempt.kind}", key, attempt.state, state)
        attempt.by_people = attempt.by_people or attempt.state == "disputed"
        if attempt.state in ("reversed", "declined"):
            self._reopened.add(key)
        elif state == "reversing":
            self._since_loss(f"reversal of {key}")
        attempt.state = state
        attempt.undoing = attempt.undoing or state == "reversing"
        self.words.look_at(attempt)

    def _new_purchase(self, row: Any) -> None:  # noqa: ANN401
        _, _, key, state, debit_id, number, written, time, card, *_ = row
        purchase = Purchase(key, state, debit_id, number, written, time, card or "")
        self.purchases[key] = purchase
        if (purchase.card, time) in self.by_card:
            self._broken(f"purchase {key}: card {purchase.card} was asked at {time} before")
        self.by_card[purchase.card, time] = self.newest_of_card[purchase.card] = purchase
        self.debits[debit_id].purchases.append(purchase)
        self._since_loss(key)
        self._changed("purchase", key, None, state)
        self._look_at_card(purchase)
        self._touched[debit_id] = None

    def _purchase_changed(self, row: Any) -> None:  # noqa: ANN401
        _, _, key, state, terminal, psam_serial, card_serial, tac, *_ = row
        purchase = self.purchases[key]
        purchase.terminal, purchase.psam_serial, purchase.card_serial = terminal, psam_serial, card_serial
        purchase.tac = tac
        self._touched[purchase.debit_id] = None
        if state == purchase.state:
            return
        self._changed("purchase", key, purchase.state, state)
        purchase.state = state
        self._look_at_card(purchase)
        if state == "taken" and None not in (terminal, psam_serial, card_serial):
            self.told.numbered.append(purchase)

    def _serial_of_card(self, row: Any) -> None:  # noqa: ANN401
        _, _, card, serial, *_ = row
        self.told.last_serials[card] = serial

    def _look_at_card(self, purchase: Purchase) -> None:
        """Check what is claimed of a card: whatever an antenna has told, the card has paid, or it has not."""
        key, card, time = purchase.id, purchase.card, purchase.time
        paid = self.card_paid.get((card, time))
        if purchase.state == "taken" and paid is None:
            self._broken(f"purchase {key} is taken, and card {card} has paid nothing at {time}")
        if purchase.state == "taken" and paid not in (None, purchase.written):
            self._broken(f"purchase {key} of {purchase.written} fen is taken, card {card} has paid {paid} fen")
        if purchase.state == "not_taken" and paid is not None:
            self._broken(f"purchase {key} is not taken, and card {card} has paid at {time}")

    def _new_decision(self, row: Any) -> None:  # noqa: ANN401
        _, _, number, lane, release, outcome, debit_id, passage, reason, _, *_ = row
        self.records += 1
        if number != self.records:
            self._broken(f"record {number} follows record {self.records - 1}")
        if outcome == "refused" and reason is None:
            self._broken(f"record {number} refuses without a reason")
        self.outcomes[f"{outcome}.{reason}" if reason else outcome] += 1
        self.decided[passage] = release
        self._trace.add(lane, f"record {number} {outcome} {release} {reason or ''}")
        if release == "go":
            self.opened[lane] += 1
            self.openings[number] = lane
            if debit_id is None and outcome not in ("entered", "repeat"):
                self._broken(f"record {number} opens the barrier without a claim")
            if outcome == "owed" and debit_id is not None:
                self._opened[debit_id] = number
            if debit_id is not None:
                self._let_through[debit_id] = number
        if debit_id is not None:
            self._touched[debit_id] = None

    def _look_at_limits(self) -> None:
        """Check what a payer owes after this commit. Whatever became less in it counts as if it had come first, and
        what an older claim has grown by (a pump has delivered more than was held) as if it had come last."""
        for obligor, mandate in self._claimed.items():
            limits = None if mandate is None else self._limits.get(mandate)
            if limits is None or limits.limit is None:
                continue
            owes = self.owing[obligor] - self._grown[obligor]
            if owes > limits.limit:
                self._broken(f"obligor {obligor} has one more debit, owes {owes} fen, limit {limits.limit}")
        for debit, amount in sorted(self._growing, key=lambda grown: self._opened.get(grown[0].id, 0)):
            self.standing_in[debit.obligor] += amount
            number = self._opened.get(debit.id)
            limits = self._limits.get(debit.mandate or "")
            allowed = 0 if limits is None else limits.stand_in
            # Those that were not let go are owed as well; they come first here, so that they never count too little.
            own = self.standing_in[debit.obligor] - self._held_back(debit.obligor)
            if number is not None and own > allowed:
                self._broken(f"record {number} lets go while {own} fen are owed on our own decision, allowed {allowed}")

    def _held_back(self, obligor: str) -> int:
        """Fen of this commit that are owed without letting go."""
        return sum(a for d, a in self._growing if d.obligor == obligor and d.id not in self._opened)

    def _new_transfer(self, row: Any) -> None:  # noqa: ANN401
        _, _, number, phase, event, debit_id, attempt_id, giver, taker, amount, pending_id, *_ = row
        source = self.accounts.setdefault(giver, [0, 0])
        target = self.accounts.setdefault(taker, [0, 0])
        self._moved[giver] = self._moved[taker] = None
        self.transitions[f"transfer:{event}"] += 1
        if debit_id is None:
            source[0] -= amount
            target[0] += amount
            return
        debit = self.debits[debit_id]
        if phase == "pending":
            source[1] += amount
            self.pending[number] = (giver, taker, amount)
            debit.hold = "pending"
        elif phase in ("post", "void", "expire"):
            held = self.pending.pop(pending_id, None)
            if held is None:
                self._broken(f"transfer {number} ends pending transfer {pending_id}, which is not open")
                return
            source[1] -= held[2]
            moved = amount if phase == "post" else 0
            source[0] -= moved
            target[0] += moved
            debit.hold = "post" if phase == "post" else "void"
        else:
            source[0] -= amount
            target[0] += amount
        if event in PAYING:
            debit.paid += amount
        if event == "refund_decided":
            debit.due_back += amount
        if event == "bank_approved" and attempt_id is not None:
            self.attempts[attempt_id].paid += amount
        if event == "approval_withdrawn" and self.attempts[attempt_id].kind != "refund":
            self.attempts[attempt_id].paid -= amount
            debit.paid -= amount
        self._touched[debit_id] = None

    def _new_outbox(self, row: Any) -> None:  # noqa: ANN401
        _, _, number, kind, attempt_id, _, done, *_ = row
        if done is None:
            self.open_outbox[number] = (kind, attempt_id)
            self.waiting[attempt_id] += 1
        self.transitions[f"outbox:{kind}:queued"] += 1
        self._touched[self.attempts[attempt_id].debit_id] = None

    def _outbox_changed(self, row: Any) -> None:  # noqa: ANN401
        kind, attempt_id = self.open_outbox.pop(row[2], ("?", ""))
        self.transitions[f"outbox:{kind}:done"] += 1
        if attempt_id:
            self.waiting[attempt_id] -= 1
            self._touched[self.attempts[attempt_id].debit_id] = None

    def _new_item(self, row: Any) -> None:  # noqa: ANN401
        _, _, number, kind, debit_id, state, ref, *_ = row
        self.items[number] = (kind, debit_id, state)
        if ref is not None:
            self.item_refs.add(ref)
        self.transitions[f"item:{kind}"] += 1
        if kind == CONTRADICTED:
            self.contradictions[number] = self.attempts[ref]
            self._contradicted(number, state)

    def _item_changed(self, row: Any) -> None:  # noqa: ANN401
        kind, debit_id, _ = self.items[row[2]]
        self.items[row[2]] = (kind, debit_id, row[3])
        if kind == CONTRADICTED:
            self._contradicted(row[2], row[3])

    def _new_sale(self, row: Any) -> None:  # noqa: ANN401
        _, _, key, state, debit_id, side, nozzle, limit_fen, before, after, volume, amount, reason, *_ = row
        sale = FuelSale(key, state, debit_id, side, nozzle, limit_fen or 0, before, after, volume, amount, reason)
        self.sales[key] = sale
        self._changed("sale", key, None, state)
        self.sales_moved.append(sale)

    def _sale_changed(self, row: Any) -> None:  # noqa: ANN401
        _, _, key, state, after, volume, amount, reason, *_ = row
        sale = self.sales[key]
        sale.was_grey = sale.was_grey or sale.state == "grey"
        if state != sale.state:
            self._changed("sale", key, sale.state, state)
        sale.state, sale.volume_after, sale.volume, sale.amount, sale.reason = state, after, volume, amount, reason
        sale.changes += 1
        self.sales_moved.append(sale)
        if sale.debit_id is not None:
            self._touched[sale.debit_id] = None

    def _contradicted(self, number: int, state: str) -> None:
        attempt = self.contradictions[number]
        attempt.contradicted, attempt.was_contradicted = state == "open", True
        self.words.look_at(attempt)
        self._touched[attempt.debit_id] = None

    def _changed(self, what: str, key: str, old: str | None, new: str) -> None:
        self.transitions[f"{what}:{old or 'new'}->{new}"] += 1
        self._trace.add("ledger", f"{what} {key[-8:]} {old or 'new'} -> {new}")
        kind = what.partition(".")[0]
        if new not in NEW[kind] if old is None else (old, new) not in TRANSITIONS[kind]:
            self._broken(f"{what} {key} went from {old} to {new}")

    # --- one debit ------------------------------------------------------------------------------------------------

    def _look_at_accounts(self) -> None:
        for number in self._moved:
            reckoned = tuple(self.accounts.get(number, (0, 0)))
            if self.stated.get(number) != reckoned:
                name = ":".join(self.account_names.get(number, ("?", str(number))))
                self._broken(f"account {name} says (balance, held) {self.stated.get(number)}, its transfers {reckoned}")

    def _look_at_debit(self, debit: Debit) -> None:
        state = debit.state
        hold = "pending" if state == "held" else "void" if state == "voided" else "post"
        if debit.hold != hold:
            self._broken(f"debit {debit.id} is {state}, its hold is {debit.hold}")
        self._look_at_purchases(debit)
        collecting = [a for a in debit.attempts if a.kind in COLLECTING]
        unresolved = [a for a in collecting if a.state in UNRESOLVED and not a.late]
        if len(unresolved) > 1:
            self._broken(f"debit {debit.id} has {len(unresolved)} unresolved attempts")
        approved = [a for a in collecting if a.state == "approved"]
        if len(approved) > 1:
            self._broken(f"debit {debit.id} has {len(approved)} approved attempts")
        paid_states = PAID_DEBITS
        if debit.paid != (debit.amount if state in paid_states and debit.funding != "issuer_clearing" else 0):
            self._broken(f"debit {debit.id} of {debit.amount} fen is {state}, and was paid {debit.paid} fen")
        if debit.state in paid_states and debit.collected != debit.paid:
            self._broken(f"debit {debit.id} says {debit.collected} fen were collected, its transfers {debit.paid}")
        if not 0 <= debit.refunded <= debit.collected:
            self._broken(f"debit {debit.id}: {debit.refunded} fen are given back of {debit.collected}")
        if debit.due_back != debit.refunded:
            self._broken(f"debit {debit.id}: {debit.refunded} fen given back, its transfers {debit.due_back}")
        if debit.funding != "bank_online" and debit.attempts:
            self._broken(f"debit {debit.id} is paid by {debit.funding}, and a bank was asked too")
        for attempt in debit.attempts:
            self._look_at_attempt(debit, attempt)

    def _look_at_purchases(self, debit: Debit) -> None:
        if not debit.purchases:
            return
        taken = sum(p.state == "taken" for p in debit.purchases)
        if debit.id in self._let_through and taken == 0:
            states = [p.state for p in debit.purchases]
            self._broken(f"record {self._let_through[debit.id]} opens the barrier, its purchases are {states}")
        if debit.state == "held" and debit.purchases[-1].state == "disputed" and not self._disputes_told(debit.id):
            self._broken(f"debit {debit.id}: its purchase is disputed, and nobody is told")
        if taken > 1:
            self._broken(f"debit {debit.id}: its card was charged {taken} times")
        if debit.state == "voided" and any(p.state != "not_taken" for p in debit.purchases):
            listed = any(item[1] == debit.id for item in self.items.values())
            if not listed:
                self._broken(f"debit {debit.id} is void, its purchases are {[p.state for p in debit.purchases]}")
        if debit.state not in UNEARNED_DEBITS and taken != 1:
            self._broken(f"debit {debit.id} is {debit.state} with {taken} purchases taken")

    def _disputes_told(self, debit_id: str) -> bool:
        return any(kind == "disputed_purchase" and owner == debit_id for kind, owner, _ in self.items.values())

    def _look_at_attempt(self, debit: Debit, attempt: Attempt) -> None:
        state = attempt.state
        if attempt.paid and state != "approved":
            self._broken(f"attempt {attempt.id} is {state}, and its money was posted to debit {debit.id}")
        net = self._net(attempt)
        reversible = attempt.kind in ("sale", "recovery")
        if reversible and attempt.code == DUPLICATE and state in ("unknown", "reversing"):
            self._broken(f"attempt {attempt.id} left once, the bank knew its keys, and it is {state}")
        misheard = attempt.asked == 1 and attempt.key in self.words.altered and not attempt.by_people
        if misheard and state in ("approved", "declined"):
            self._broken(f"attempt {attempt.id} is {state} by an answer to something else than was asked")
        if attempt.key in self.words.opposite and state in ("approved", "declined"):
            return  # which of two opposite words was true is for people to find out
        if state == "approved" and net != self._expected(attempt):
            self._broken(f"attempt {attempt.id} is approved, the bank's book says {net} fen for {attempt.key}")
        if (state in ("declined", "not_sent") or (state == "reversed" and not attempt.late)) and net != 0:
            self._broken(f"attempt {attempt.id} is {state}, the bank's book says {net} fen for {attempt.key}")
        asking = (reversible and state in ("unknown", "reversing")) or (attempt.kind != "sale" and state == "stored")
        if asking and not self.waiting[attempt.id]:
            self._broken(f"attempt {attempt.id} ({attempt.kind}) is {state}, and no message waits for it")
        if attempt.kind == "advice" and state == "stored":
            open_sale = [a for a in debit.attempts if a.kind == "sale" and a.state in UNRESOLVED and not a.late]
            if open_sale:
                self._broken(f"debit {debit.id}: an advice beside a sale that is {open_sale[0].state}")

    def _expected(self, attempt: Attempt) -> int:
        """Net amount of the bank's book under an attempt's keys once it is approved."""
        return -attempt.amount if attempt.kind == "refund" else attempt.amount

    def _net(self, attempt: Attempt) -> int:
        found = self.book.get(attempt.key)
        return 0 if found is None else found.net

    # --- the outside ----------------------------------------------------------------------------------------------

    def request(self, message: Message) -> None:
        """Check a message that the bank has received."""
        kind = message.mti[:3]
        if kind not in ("020", "040", "022"):
            return
        terminal, stan = message.text(41) or "", message.text(11) or ""
        batch = (message.text(60) or "")[2:8]
        if kind == "040":
            named = message.text(61) or ""
            batch, stan = named[:6], named[6:12]
        self._trace.add("bank", f"{message.mti} {terminal} {stan}")
        attempt = self.by_key.get((terminal, batch, stan))
        if self._in_flight(attempt, (terminal, batch, stan)):
            return
        if attempt is None:
            self._broken(f"{message.mti} of {terminal} STAN {stan} reached the bank and is not stored")
            return
        if int(message.text(4) or "0") != attempt.amount:
            self._broken(f"{message.mti} of {terminal} STAN {stan} asks {message.text(4)}, stored is {attempt.amount}")
        if attempt.kind not in KINDS_OF[kind]:
            self._broken(f"{message.mti} of {terminal} STAN {stan} reached the bank for a {attempt.kind}")
        stored = f"reversal of {attempt.id}" if kind == "040" else attempt.id
        if stored in self._in_nothing:
            self._broken(f"{message.mti} of {terminal} STAN {stan} reached the bank, stored in a file that is gone")
        attempt.asked += kind == "020"
        on_its_way = attempt.state == "disputed" and attempt.undoing
        if kind == "040" and attempt.state not in ("reversing", "reversed") and not on_its_way:
            self._broken(f"a reversal of {terminal} STAN {stan} reached the bank while its sale is {attempt.state}")
        if attempt.kind == "advice":
            debit = self.debits[attempt.debit_id]
            open_sale = [a for a in debit.attempts if a.kind == "sale" and a.state in UNRESOLVED and not a.late]
            if open_sale:
                self._broken(f"an advice for debit {debit.id} reached the bank while its sale is {open_sale[0].state}")

    def posting(self, keys: Keys, posting: Posting) -> None:
        """Keep and check a movement of money at the bank."""
        self._trace.add("bank", f"posts {keys.kind} {keys.terminal} {keys.stan} {posting.amount_fen} fen")
        attempt = self.by_key.get((keys.terminal, keys.batch, keys.stan))
        if keys.kind == "reversal":
            attempt = attempt or self.lost.get((keys.terminal, keys.batch, keys.stan))
            # Its own STAN may be the sale's; the sale it takes back is known by the same keys here.
            if attempt is not None:
                self.book.setdefault(attempt.key, BankKey()).net += posting.amount_fen
            return
        attempt = attempt or self.lost.get((keys.terminal, keys.batch, keys.stan))
        if attempt is None:
            return
        found = self.book.setdefault(attempt.key, BankKey())
        found.net += posting.amount_fen
        found.posted += 1
        if attempt.key in self.lost:
            return
        if attempt.state not in UNRESOLVED and not self._in_flight(attempt, attempt.key):
            self._broken(f"the bank posts {attempt.key} {posting.amount_fen} fen, its attempt is {attempt.state}")
        debit = self.debits[attempt.debit_id]
        asked = [a for a in (*debit.attempts, *self._lost_of(debit.id)) if a.kind in COLLECTING]
        net = sum(self._net(a) for a in asked if not self.words.hidden(a))
        if net > debit.amount:
            self._broken(f"debit {debit.id} of {debit.amount} fen was charged {net} fen at the bank")

    def card_pays(self, card: str, time: str, amount: int, fare: int | None) -> None:
        """Check a card's payment, whatever becomes of its answer. `fare` is what it should be."""
        self._trace.add("card", f"{card[-6:]} pays {amount} fen at {time}")
        self.transitions["card:paid"] += 1
        if (card, time) in self.card_paid:
            self._broken(f"card {card} has paid twice at {time}")
        self.card_paid[card, time] = amount
        purchase = self.by_card.get((card, time))
        if purchase is None:
            self._broken(f"card {card} paid {amount} fen at {time}, and nothing is stored of it")
            return
        if purchase.id in self._in_nothing:
            self._broken(f"card {card} paid at {time}, and its intent is stored in a file that is gone")
        if purchase.state not in OPEN_PURCHASES:
            self._broken(f"card {card} paid at {time}, and its purchase is {purchase.state}")
        if amount != purchase.written:
            self._broken(f"card {card} paid {amount} fen, stored is {purchase.written}")
        if fare is not None and amount != fare:
            self._broken(f"card {card} paid {amount} fen, the fare is {fare}")

    def lift(self, lane: str, record_no: int) -> None:
        """Check the record a barrier is lifted for: durable, of this lane, opening it, and not lifted for before."""
        self.lifted[lane] += 1
        self._trace.add(lane, f"lift for record {record_no}")
        if self.openings.get(record_no) != lane:
            self._broken(f"{lane} lifts its barrier for record {record_no}, which does not say so")
        if record_no in self.lifted_for:
            self._broken(f"{lane} lifts its barrier twice for record {record_no}")
        self.lifted_for.add(record_no)
        opened = (self.opened if self._at_loss is None else self._at_loss[1])[lane]
        if self.lifted[lane] > opened:
            self._broken(f"{lane} lifts its barrier {self.lifted[lane]} times for {opened} decisions")

    def told_held(self, debit_id: str, amount: int) -> None:
        """Check a hold of which a caller was told that it stands."""
        debit = self.debits.get(debit_id)
        if debit is None or debit.amount != amount or debit_id in self._in_nothing:
            self._broken(f"a caller was told of hold {debit_id} over {amount} fen, durable is {debit}")

    def told_decided(self, record_no: int, passage_id: str) -> None:
        """Check a decision that a caller was told."""
        records = self.records if self._at_loss is None else self._at_loss[0]
        if record_no > records or passage_id not in self.decided:
            self._broken(f"a caller was told record {record_no}, durable are {records}")

    def started(self) -> None:
        """Check that start-up left nothing of the last life unclassified."""
        for debit in self.debits.values():
            if debit.state != "held":
                continue
            states = [p.state for p in debit.purchases]
            if "intent" in states:
                self._broken(f"start-up left purchase of debit {debit.id} as it was: {states}")
            if any(a.kind == "sale" and a.state == "stored" for a in debit.attempts):
                self._broken(f"start-up left the sale of debit {debit.id} as it was")

    def closed_behind(self, held: list[str]) -> None:
        """Check that start-up has also closed what needs nobody, of the debits that were held when it began."""
        for debit_id in held:
            debit = self.debits[debit_id]
            if debit.state == "held" and not debit.purchases and debit.service == "toll":
                self._broken(f"start-up left debit {debit.id} held, and no card was ever asked")

    def heard(self, message: Message) -> None:
        """Note that the gateway's link has handed an answer to whoever asked."""
        batch = (message.text(60) or "")[2:8]
        attempt = self.by_key.get((message.text(41) or "", batch, message.text(11) or ""))
        if attempt is not None and message.mti in ("0210", "0230"):
            attempt.heard_codes.add(message.text(39))

    def heard_late(self, message: Message) -> Callable[[], None] | None:
        """Note a late answer that the gateway's link has handed on; returns what to look at a little later."""
        terminal, stan = message.text(41), message.text(11) or ""
        found = [a for key, a in self.by_key.items() if (key[0], key[2]) == (terminal, stan)]
        if len(found) != 1 or message.mti not in ("0210", "0230"):
            return None
        attempt = found[0]
        if attempt.key in self.words.opposite:
            untold = self.words.heard_late(attempt, message.text(39))
            return lambda: self.promise(not untold(), f"attempt {attempt.id}: the bank said yes and no, nobody is told")
        approved = message.mti == "0210" and message.text(39) == "00" and attempt.key not in self.words.altered
        if not approved or attempt.state not in ("reversing", "reversed") or attempt.lates:
            return None

        def look() -> None:
            if not attempt.lates:
                self._broken(f"an approval of attempt {attempt.id} came after its reversal left, and is nowhere booked")

        return look

    def answered_otherwise(self, message: Message, fault: str) -> None:
        """Note that the bank is about to do this to a message of ours."""
        attempt = self.by_key.get(self.words.answered_otherwise(message, fault))
        if attempt is not None:
            self.words.look_at(attempt)

    def booked(self, attempt: Attempt) -> bool:
        """True when the bank's book has the attempt's money."""
        return self._net(attempt) != 0

    def _still_due(self, attempt: Attempt) -> bool:
        return attempt.kind in ("sale", "recovery") or self.debits[attempt.debit_id].state == "debt"

    def promise(self, kept: bool, text: str) -> None:
        """Check any other promise a workload looks at."""
        if not kept:
            self._broken(text)

    # --- an older ledger ------------------------------------------------------------------------------------------

    def picture(self) -> bytes:
        """Picture of all that is known of the ledger now."""
        return pickle.dumps({part.name: getattr(self, part.name) for part in fields(Picture)})

    def roll_back(self, picture: bytes) -> None:
        """Go back to the ledger of that moment; what the outside did since has happened all the same."""
        attempts, by_card = self.attempts, self.by_card
        for name, value in pickle.loads(picture).items():  # noqa: S301 - our own, made a moment ago
            setattr(self, name, value)
        self.lost.update({a.key: a for a in attempts.values() if a.id not in self.attempts})
        self.words.look_again(self.attempts.values())
        self._lost_purchases |= {key for key in by_card if key not in self.by_card}

    def adopted(self, in_flight_until: float) -> None:
        """Check an older ledger that people have taken over: nothing of it may be under way at a bank any more."""
        self._in_flight_until = in_flight_until
        for attempt in self.attempts.values():
            if attempt.state in AWAITED:
                self._broken(f"attempt {attempt.id} of an older ledger is {attempt.state} after its adoption")
            if attempt.state == "disputed" and self.waiting[attempt.id]:
                self._broken(f"attempt {attempt.id} is disputed, and a message of it still waits")
        listed = {debit_id for _, debit_id in self.lost_claims()}
        for debit in self.debits.values():
            if debit.state in BANK_DEBITS and debit.funding == "bank_online" and debit.id not in listed:
                self._broken(f"debit {debit.id} is {debit.state} in an older ledger, and on nobody's list")

    def lost_claims(self) -> list[tuple[int, str]]:
        """Open items of claims that may have ended in a lost part, with their debits."""
        return [(number, item[1]) for number, item in self.items.items() if item[0] == LOST and item[2] == "open"]

    def knows(self, row_id: str) -> bool:
        """True when there is such a debit or attempt, now."""
        return row_id in self.debits or row_id in self.attempts

    def posted_in_lost_part(self, debit_id: str) -> bool:
        """True when the bank's book holds anything for a claim under keys that we lost."""
        return any(self._net(a) for a in self._lost_of(debit_id))

    def _lost_of(self, debit_id: str) -> list[Attempt]:
        return [attempt for attempt in self.lost.values() if attempt.debit_id == debit_id]

    def _in_flight(self, attempt: Attempt | None, key: tuple[str, str, str]) -> bool:
        """True for a message sent before the older ledger came back that may arrive now."""
        of_before = key in self.lost if attempt is None else attempt.state == "disputed"
        return of_before and self._trace.now() < self._in_flight_until

    # --- the end --------------------------------------------------------------------------------------------------

    def waits_for_bank(self) -> list[str]:
        """Messages that are queued, and claims that the bank must still be told of."""
        messages = [f"{kind} of attempt {attempt}" for kind, attempt in self.open_outbox.values()]
        messages += [f"attempt {attempt.id}, left to people," for attempt in self.words.left_to_people()]
        listed = {debit_id for _, debit_id in self.lost_claims()}
        owed = [debit.id for debit in self.debits.values() if debit.state == "owed" and debit.id not in listed]
        return messages or [f"owed debit {debit_id}" for debit_id in owed]

    def at_the_end(self) -> None:
        """Check the end, when no vehicle is left and all lines work: nothing may be open any more."""
        for what in self.waits_for_bank():
            self._broken(f"{what} still waits")
        for debit in self.debits.values():
            if debit.state == "held":
                self._broken(f"debit {debit.id} is still held, purchases {[p.state for p in debit.purchases]}")
            for attempt in debit.attempts:
                if attempt.state in UNRESOLVED or attempt.late:
                    self._broken(f"attempt {attempt.id} is still {attempt.state}")
            told = [a for a in debit.attempts if not self.words.beyond_knowing(a)]
            self.outcomes["bank_lied_unheard"] += len(debit.attempts) - len(told)
            net = sum(self._net(a) for a in told)
            paid = sum(self._expected(a) for a in told if a.state == "approved")
            if net != paid:
                self._broken(f"debit {debit.id} is {debit.state}, the bank took {net} fen, ours says {paid}")
        self._lost_at_the_end()
        self._cards_at_the_end()
        for number, (kind, owner) in self.account_names.items():
            if kind == "suspense" and self.accounts.get(number, [0, 0])[0] != 0:
                self._broken(f"suspense:{owner} is not empty")

    def _lost_at_the_end(self) -> None:
        """Check that the bank's book and ours differ by exactly what was lost, and people know of it."""
        for key, found in self.book.items():
            if key not in self.by_key and key not in self.lost and found.net:
                self._broken(f"the bank's book says {found.net} fen for {key}, which nobody ever asked")
        for _, debit_id in self.lost_claims():
            if not self.posted_in_lost_part(debit_id):
                self._broken(f"debit {debit_id} is still on the list of lost claims, and the bank has nothing of it")

    def _cards_at_the_end(self) -> None:
        for (card, time), amount in self.card_paid.items():
            if (card, time) in self._lost_purchases:
                continue
            purchase = self.by_card[card, time]
            if purchase.state != "taken":
                self._broken(f"card {card} paid {amount} fen at {time}, its purchase is {purchase.state}")

    def _broken(self, text: str) -> None:
        self._fail(text)


_HANDLERS: Mapping[str, Callable[[Watch, Any], None]] = {
    "+debit": Watch._new_debit,
    "~debit": Watch._debit_changed,
    "+attempt": Watch._new_attempt,
    "~attempt": Watch._attempt_changed,
    "+purchase": Watch._new_purchase,
    "~purchase": Watch._purchase_changed,
    "+card_serial": Watch._serial_of_card,
    "~card_serial": Watch._serial_of_card,
    "+decision": Watch._new_decision,
    "+transfer": Watch._new_transfer,
    "+outbox": Watch._new_outbox,
    "~outbox": Watch._outbox_changed,
    "+item": Watch._new_item,
    "~item": Watch._item_changed,
    "+sale": Watch._new_sale,
    "~sale": Watch._sale_changed,
}
