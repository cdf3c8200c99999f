"""Tables of the ledger, in portable SQLAlchemy Core. `migrations/` brings a database to exactly this shape.

Money is integer fen, times are UTC microseconds since 1970, identifiers are those of `gateway.model.ids`
(`gateway.ledger.hex_text`). Three kinds of rows never change: `transfer`, `decision` and `journal`. Each is a chain:
its numbers have no gap, and `chain` is a keyed digest over the row and the `chain` of the row before it
(`gateway.ledger.chain`). What rows of the other tables stand like is sealed in the journal (`gateway.ledger.seals`).
Everything that names a person (plate, card, tag, raw files) stands in `subject`, `purchase_file` and `card_serial`
alone; the chained rows carry random ids and salted commitments, so personal data can be erased by a retention rule
while the books stay whole and still prove themselves. `salt`: random bytes of a row that names a person, erased with
what they hide.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    literal_column,
    text,
)

from gateway.ledger.engines import IN_ITS_KEY, partial_index
from gateway.ledger.hex_text import HexText
from gateway.model.answers import AnswerClass
from gateway.model.passage import Abandoned, Funding, Release
from gateway.model.states import (
    OPEN_PURCHASES,
    OPEN_SALES,
    AttemptState,
    DebitState,
    ItemState,
    MandateStatus,
    OrderState,
    PurchaseState,
    RefundState,
    SaleState,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Id, Key, Ref = HexText(32), HexText(64), HexText(96)
"""Columns with ids, with a key that may be an id or a digest, and with what may name a row of any table."""


def salt() -> Column[bytes]:
    """Column with the salt of a row that names a person; erased with what it hides."""
    return Column("salt", LargeBinary)


def quoted(values: Iterable[str]) -> str:
    """Quote values for a statement; ours alone, with nothing in them that needs an escape."""
    return ", ".join(f"'{value}'" for value in values)


def known(column: str, values: Iterable[str]) -> CheckConstraint:
    """Check that a column holds one of these: most are an enum."""
    return CheckConstraint(f"{column} in ({quoted(values)})", name=f"{column}_known")


def one_of(column: Column[str], *values: str) -> ColumnElement[bool]:
    """Condition `column in (values)` with the values in the statement itself, as a partial index needs to be used."""
    return column.in_([literal_column(f"'{value}'") for value in values])


counter = Table(
    "counter",
    metadata,
    Column("name", String(80), primary_key=True),
    Column("value", BigInteger, nullable=False),
    **IN_ITS_KEY,
)
"""Counters: last number of a gap-free series, or the next position of a terminal (`gateway.ledger.positions`)."""

chain = Table(
    "chain",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    **IN_ITS_KEY,
)
"""Heads of the chains: number and `chain` of the newest row. Also shows that rows were cut off at the end."""

incarnation = Table(
    "incarnation",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("id", Id, nullable=False, unique=True),
    Column("born_at", BigInteger, nullable=False),
    Column("journal_number", BigInteger, nullable=False),
    Column("reason", String(200), nullable=False),
    Column("actor", String(64), nullable=False),
)
"""Lives of this ledger: one row at its making, one at each adoption of a file that was not the newest (number from 1).
`journal_number`: where the journal stood then. The mark outside the database names the newest (`gateway.ledger.marks`).
"""

rules = Table(
    "rules",
    metadata,
    Column("version", String(40), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("body", Text, nullable=False),
    Column("in_force_at", BigInteger, nullable=False),
)
"""Versions of the debit rules that decided anything here, as TOML text."""

# --- books --------------------------------------------------------------------------------------------------------

account = Table(
    "account",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("owner", Key, nullable=False),
    Column("balance", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    UniqueConstraint("kind", "owner", name="uq_account_kind_owner"),
    CheckConstraint("held >= 0", name="held_not_negative"),
)
"""`balance` = posted in minus posted out; `held` = pending out."""

transfer = Table(
    "transfer",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("phase", String(8), nullable=False),
    Column("event", String(32), nullable=False),
    Column("debit_id", Id, ForeignKey("debit.id")),
    Column("attempt_id", Id, ForeignKey("attempt.id")),
    Column("from_account", Integer, ForeignKey("account.id"), nullable=False),
    Column("to_account", Integer, ForeignKey("account.id"), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("pending_id", Integer, ForeignKey("transfer.id")),
    Column("original_id", Integer, ForeignKey("transfer.id")),
    Column("reference", Ref),
    Column("event_at", BigInteger, nullable=False),
    Column("booked_at", BigInteger, nullable=False),
    Column("chain", LargeBinary, nullable=False),
    CheckConstraint("amount >= 0", name="amount_not_negative"),
    known("phase", ("pending", "post", "void", "expire", "direct")),
    CheckConstraint("(pending_id is null) = (phase in ('pending', 'direct'))", name="pending_named"),
    partial_index("ix_transfer_debit", "debit_id", where="debit_id is not null"),
    partial_index("uq_transfer_pending_id", "pending_id", where="pending_id is not null", unique=True),
)
"""Immutable, chained; the id is its gap-free number. A pending transfer ends in one `post` (whole or part), `void` or
`expire` that names it. `original_id`: the transfer that a correction, refund or overrun belongs to. `reference`: what a
transfer without a debit belongs to (a settlement, a payout). `event_at` is when it happened, `booked_at` when it was
written."""

obligor = Table(
    "obligor",
    metadata,
    Column("id", Id, primary_key=True),
    Column("mandate_id", Key, unique=True),
    Column("subject_key", Key, unique=True),
    Column("listed_at", BigInteger),
    salt(),
    **IN_ITS_KEY,
)
"""Obligor: a mandate, else plate + colour (then `subject_key` is their digest). `listed_at`: since when it stands on
the box's own list for its debts."""

OWING: Final = (DebitState.OWED, DebitState.DEBT)
"""States of the debits that can be found by their obligor; nearly all others are settled."""

debit = Table(
    "debit",
    metadata,
    Column("id", Id, primary_key=True),
    Column("idempotency_key", Key, nullable=False, unique=True),
    Column("content_hash", Key, nullable=False),
    Column("passage_id", Id, ForeignKey("passage.id"), nullable=False, unique=True),
    Column("obligor_id", Id, ForeignKey("obligor.id"), nullable=False),
    Column("mandate_id", Key),
    Column("merchant", Key, nullable=False),
    Column("service", String(12), nullable=False),
    Column("day", String(8), nullable=False),
    Column("funding", String(16), nullable=False),
    Column("payer", Key, nullable=False),
    Column("contract_ref", String(64)),
    Column("amount", BigInteger, nullable=False),
    Column("final_amount", BigInteger),
    Column("collected", BigInteger, nullable=False, server_default=text("0")),
    Column("refunded", BigInteger, nullable=False, server_default=text("0")),
    Column("state", String(12), nullable=False),
    Column("hold_id", Integer, nullable=False),
    Column("stood_in", Integer, nullable=False, server_default=text("0")),
    Column("retry_at", BigInteger),
    Column("retries", Integer, nullable=False, server_default=text("0")),
    Column("created_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("abandoned", String(4), nullable=False),
    known("state", DebitState),
    known("abandoned", Abandoned),
    known("funding", Funding),
    Index("ix_debit_obligor_day", "obligor_id", "day"),
    Index("ix_debit_day", "day"),
    partial_index("ix_debit_held", "id", where=f"state in ({quoted([DebitState.HELD])})"),
    partial_index("ix_debit_owing", "obligor_id", where=f"state in ({quoted(OWING)})"),
    partial_index("ix_debit_retry", "retry_at", where="retry_at is not null"),
    **IN_ITS_KEY,
)
"""Debit: our claim. `payer` is the issuer (purse, issuer_clearing) or the bank channel (bank_online). `day`: local day
of the event, YYYYMMDD, for limits a day. `amount` is what is claimed now (the hold's amount stands in its pending
transfer), `final_amount` what a hold was completed with; `collected` is what came in for it from bank, issuer or till,
`refunded` what was decided to go back. `abandoned`: what becomes of a hold that nobody comes back to."""


def held() -> ColumnElement[bool]:
    """Condition that a debit is held, in the words of its index."""
    return one_of(debit.c.state, DebitState.HELD)


def owing(state: DebitState) -> ColumnElement[bool]:
    """Condition that a debit is in one of the `OWING` states, in the words of their index."""
    return and_(one_of(debit.c.state, *OWING), debit.c.state == state)


attempt = Table(
    "attempt",
    metadata,
    Column("id", Id, primary_key=True),
    Column("debit_id", Id, ForeignKey("debit.id"), nullable=False),
    Column("channel", Key, nullable=False),
    Column("reference", Key, nullable=False),
    Column("destination", String(96), nullable=False),
    Column("kind", String(12), nullable=False),
    Column("state", String(12), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("request", LargeBinary, nullable=False),
    Column("reversal", LargeBinary),
    Column("response_code", String(32)),
    Column("retrieval_reference", String(16)),
    Column("settlement_day", String(8)),
    Column("late_approval", Integer, nullable=False, server_default=text("0")),
    Column("sends", Integer, nullable=False, server_default=text("0")),
    Column("created_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("answer_class", String(16)),
    UniqueConstraint("channel", "reference", name="uq_attempt_reference"),
    known("kind", ("sale", "advice", "recovery", "refund")),
    known("state", AttemptState),
    known("answer_class", AnswerClass),
    Index("ix_attempt_debit", "debit_id"),
    Index("ix_attempt_state", "state", "channel"),
    partial_index("ix_attempt_settlement", "channel", "settlement_day", where=f"state = '{AttemptState.APPROVED}'"),
    **IN_ITS_KEY,
)
"""Attempt: one try to collect a debit over a channel, or to pay some of it back. `reference` names it at its channel,
`destination` is where its messages wait (`outbox`). `request` and `reversal` are the very bytes that go on the wire.
`recovery` is a sale for a debt, reversed when nobody answers; `advice` and `refund` are repeated. `response_code` is
the bank's own, `answer_class` what its channel says that it means."""

pos_attempt = Table(
    "pos_attempt",
    metadata,
    Column("attempt_id", Id, ForeignKey("attempt.id"), primary_key=True),
    Column("channel", Key, nullable=False),
    Column("terminal", String(16), nullable=False),
    Column("batch", String(6), nullable=False),
    Column("stan", String(6), nullable=False),
    UniqueConstraint("channel", "terminal", "batch", "stan", name="uq_pos_attempt_wire_key"),
    Index("ix_pos_attempt_stan", "channel", "stan"),
    **IN_ITS_KEY,
)
"""Terminal, batch and STAN that name an attempt on a POS link (`gateway.banks.pos`)."""

outbox = Table(
    "outbox",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("destination", String(96), nullable=False),
    Column("kind", String(12), nullable=False),
    Column("attempt_id", Id, ForeignKey("attempt.id"), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("next_at", BigInteger, nullable=False),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    Column("done_at", BigInteger),
    Column("last_answer", String(80)),
    known("kind", ("reversal", "advice", "recovery", "refund")),
    partial_index("ix_outbox_waiting", "destination", "id", where="done_at is null"),
    Index("ix_outbox_attempt", "attempt_id"),
)
"""Outbox: messages that a channel's host must still hear, first in first out for each destination."""

# --- passages -----------------------------------------------------------------------------------------------------

subject = Table(
    "subject",
    metadata,
    Column("id", Id, primary_key=True),
    Column("obu_id", String(8)),
    Column("contract", String(32)),
    Column("card_number", String(20)),
    Column("plate", String(16)),
    Column("plate_colour", Integer),
    Column("erased_at", BigInteger),
    salt(),
    Index("ix_subject_card", "card_number"),
    Index("ix_subject_obu", "obu_id"),
    **IN_ITS_KEY,
)
"""Personal data of the passage with the same id, erasable."""

passage = Table(
    "passage",
    metadata,
    Column("id", Id, ForeignKey("subject.id"), primary_key=True),
    Column("charge_point", String(40), nullable=False),
    Column("service", String(12), nullable=False),
    Column("device_type", Integer),
    Column("vehicle_class", Integer),
    Column("opened_at", BigInteger, nullable=False),
    Column("clock_quality", String(8), nullable=False),
    **IN_ITS_KEY,
)

purchase = Table(
    "purchase",
    metadata,
    Column("id", Id, primary_key=True),
    Column("debit_id", Id, ForeignKey("debit.id"), nullable=False),
    Column("attempt_no", Integer, nullable=False),
    Column("state", String(12), nullable=False),
    Column("written_fen", BigInteger, nullable=False),
    Column("purchase_time", String(14), nullable=False),
    Column("balance_before", BigInteger),
    Column("error", Integer),
    Column("reason", String(40)),
    Column("terminal", String(12)),
    Column("card_serial", Integer),
    Column("psam_serial", BigInteger),
    Column("tac", String(8)),
    Column("tac_source", String(2)),
    Column("algorithm", Integer),
    Column("key_version", Integer),
    Column("balance_after", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    UniqueConstraint("debit_id", "attempt_no", name="uq_purchase_attempt"),
    known("state", PurchaseState),
    partial_index("ix_purchase_open", "state", where=f"state in ({quoted(OPEN_PURCHASES)})"),
    partial_index("ix_purchase_psam", "terminal", "psam_serial", where=f"state = '{PurchaseState.TAKEN}'"),
    **IN_ITS_KEY,
)
"""Purchase that the card was asked for, stored before it was asked, and its end. `purchase_time` is BCD text as in C6.
`reason`: code of why it was not taken, is unknown or disputed."""

purchase_file = Table(
    "purchase_file",
    metadata,
    Column("purchase_id", Id, ForeignKey("purchase.id"), primary_key=True),
    Column("before", LargeBinary, nullable=False),
    Column("after", LargeBinary, nullable=False),
    salt(),
    **IN_ITS_KEY,
)
"""File 0019 as read and as we write it: the proof whether an unanswered purchase happened. Holds a plate: erasable."""

card_serial = Table(
    "card_serial",
    metadata,
    Column("card_number", String(20), primary_key=True),
    Column("serial", Integer, nullable=False),
    salt(),
    **IN_ITS_KEY,
)
"""Serial of the last purchase taken of a card; the next purchase has a higher one (`gateway.debit.purchase_proof`)."""

decision = Table(
    "decision",
    metadata,
    Column("record_no", Integer, primary_key=True, autoincrement=False),
    Column("passage_id", Id, ForeignKey("passage.id"), nullable=False),
    Column("debit_id", Id, ForeignKey("debit.id")),
    Column("charge_point", String(40), nullable=False),
    Column("release", String(12), nullable=False),
    Column("outcome", String(12), nullable=False),
    Column("reason", String(40)),
    Column("special_event", Integer),
    Column("funding", String(16)),
    Column("amount", BigInteger, nullable=False),
    Column("recovered", Integer, nullable=False),
    Column("decided_at", BigInteger, nullable=False),
    Column("tariff_version", String(40)),
    Column("list_version", String(40)),
    Column("list_age_s", Integer),
    Column("rules_version", String(40)),
    Column("chain", LargeBinary, nullable=False),
    known("release", Release),
    Index("ix_decision_charge_point", "charge_point", "record_no"),
    Index("ix_decision_passage", "passage_id"),
)
"""Immutable, chained. The committed row *is* the decision: barrier and display follow it, unless it was made on an
occasion (`recovered`, of `gateway.model.passage.Occasion`) on which nothing moves."""

clock_reading = Table(
    "clock_reading",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("boot", String(64), nullable=False),
    Column("wall_at", BigInteger, nullable=False),
    Column("monotonic_us", BigInteger, nullable=False),
    Column("after_record", Integer, nullable=False),
    Index("ix_clock_reading_record", "after_record"),
)
"""Readings of both clocks of the box at one moment, for the decisions after `after_record`
(`gateway.ledger.clock_readings`). `boot` names the start of the machine that `monotonic_us` counts from."""

timing = Table(
    "timing",
    metadata,
    Column("record_no", Integer, ForeignKey("decision.record_no"), primary_key=True, autoincrement=False),
    Column("total_us", BigInteger, nullable=False),
    Column("radio_us", BigInteger, nullable=False),
    Column("bank_us", BigInteger, nullable=False),
    Column("commit_us", BigInteger, nullable=False),
    Column("barrier_us", BigInteger),
)
"""Timing of a passage, from trade start to the answered commit; written a little later, in bulk."""

journal = Table(
    "journal",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(12), nullable=False),
    Column("ref", Ref),
    Column("debit_id", Id),
    Column("event", String(32), nullable=False),
    Column("detail", String(400)),
    Column("actor", String(64)),
    Column("at", BigInteger, nullable=False),
    Column("chain", LargeBinary, nullable=False),
    Column("content", LargeBinary),
    partial_index("ix_journal_debit", "debit_id", where="debit_id is not null"),
)
"""Immutable, chained: every change of state of a debit, an attempt, a refund, an item or a limit, and every act of a
person, in the order in which they were committed. `event` is the state entered or the act; `ref` the row's id, null
where that is `debit_id`.
`content`: of the row with which each transaction ends, what it has sealed (`gateway.ledger.seals`)."""

refusal = Table(
    "refusal",
    metadata,
    Column("idempotency_key", Key, primary_key=True),
    Column("content_hash", Key, nullable=False),
    Column("record_no", Integer, ForeignKey("decision.record_no"), nullable=False),
    **IN_ITS_KEY,
)
"""Refusals of charges: asked again with the same key they get the same answer."""

refund = Table(
    "refund",
    metadata,
    Column("id", Id, primary_key=True),
    Column("idempotency_key", Key, nullable=False, unique=True),
    Column("content_hash", Key, nullable=False),
    Column("debit_id", Id, ForeignKey("debit.id"), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("reason", String(200), nullable=False),
    Column("target", String(8), nullable=False),
    Column("state", String(8), nullable=False),
    Column("attempt_id", Id, ForeignKey("attempt.id")),
    Column("created_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    CheckConstraint("amount > 0", name="amount_positive"),
    known("target", ("bank", "issuer", "till")),
    known("state", RefundState),
    Index("ix_refund_debit", "debit_id"),
    **IN_ITS_KEY,
)
"""Refunds: decided here (merchant -> due_back), paid when the target has taken the money (due_back -> target)."""

item = Table(
    "item",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("ref", Ref, nullable=False),
    Column("debit_id", Id, ForeignKey("debit.id")),
    Column("day", String(8)),
    Column("amount", BigInteger, nullable=False, server_default=text("0")),
    Column("state", String(12), nullable=False),
    Column("note", String(200)),
    Column("actor", String(64)),
    Column("second_actor", String(64)),
    Column("created_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    UniqueConstraint("kind", "ref", name="uq_item_kind_ref"),
    known("state", ItemState),
)
"""Item: a difference somebody must explain (charged without TAC, disputed purchase, in the bank's file and not in ours,
...). `ref` names what it is about (a debit's id where there is one). A write-off needs two people: `actor` proposed it,
`second_actor` agreed."""

sale = Table(
    "sale",
    metadata,
    Column("id", Id, primary_key=True),
    Column("debit_id", Id, ForeignKey("debit.id")),
    Column("charge_point", String(40), nullable=False),
    Column("side", Integer, nullable=False),
    Column("nozzle", Integer, nullable=False),
    Column("grade", String(20)),
    Column("state", String(12), nullable=False),
    Column("limit_fen", BigInteger),
    Column("unit_price", BigInteger),
    Column("volume_before", BigInteger),
    Column("volume_after", BigInteger),
    Column("volume", BigInteger),
    Column("amount", BigInteger),
    Column("pump_sale", String(40)),
    Column("proof", String(200)),
    Column("reason", String(48)),
    Column("created_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("mandate_id", Key),
    Column("day", String(8)),
    Column("limit_ml", BigInteger),
    known("state", SaleState),
    Index("ix_sale_nozzle", "charge_point", "side", "nozzle", "created_at"),
    partial_index("ix_sale_mandate", "mandate_id", "day", where="mandate_id is not null"),
    partial_index("ix_sale_open", "charge_point", "side", where=f"state in ({quoted(OPEN_SALES)})"),
    partial_index("ix_sale_pump_sale", "charge_point", "side", "pump_sale", where="pump_sale is not null"),
    partial_index("ix_sale_debit", "debit_id", where="debit_id is not null"),
    partial_index("ix_sale_grey", "id", where=f"state in ({quoted([SaleState.GREY])})"),
    **IN_ITS_KEY,
)
"""Sale of fuel at one side of a pump. Volumes are millilitres, `unit_price` thousandths of a yuan a litre, `limit_fen`
and `limit_ml` what the pump was let deliver at most (`limit_ml` null where no price was known). `volume_before` and
`volume_after` are the nozzle's totaliser; `volume` and `amount` what the pump said it delivered, which is what is
billed. `pump_sale`: name that its controller tells it by, transaction and start, so that it is known again. `proof`: by
what the vehicle was known to stand at this side. `mandate_id` and `day` are its debit's; by them a mandate's sales of a
month are found. Without a debit: a delivery that was paid elsewhere, or that nobody of ours let begin."""

pump_order = Table(
    "pump_order",
    metadata,
    Column("id", Id, primary_key=True),
    Column("charge_point", String(40), nullable=False),
    Column("side", Integer, nullable=False),
    Column("vehicle", String(64)),
    Column("limit_fen", BigInteger),
    Column("state", String(12), nullable=False),
    Column("sale_id", Id, ForeignKey("sale.id")),
    Column("reason", String(48)),
    Column("created_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    known("state", OrderState),
    partial_index("ix_pump_order_given", "charge_point", where=f"state in ({quoted([OrderState.GIVEN])})"),
    **IN_ITS_KEY,
)
"""Order of a person: one side of a pump may be authorised once, for a vehicle that stands there (`vehicle`: digest of
its plate and colour) or, without one, for whoever pays at the till. `limit_fen`: most that may be delivered on it, None
for the island's own limit. `reason`: code of why it was refused."""

# --- who may pay --------------------------------------------------------------------------------------------------

mandate = Table(
    "mandate",
    metadata,
    Column("id", Key, primary_key=True),
    Column("status", String(8), nullable=False),
    Column("funding", String(16), nullable=False),
    Column("channel", Key),
    Column("contract_ref", String(64)),
    Column("limit_fen", BigInteger),
    Column("stand_in_limit_fen", BigInteger, nullable=False),
    Column("imported_at", BigInteger, nullable=False),
    salt(),
    known("status", MandateStatus),
    known("funding", ("bank_online", "issuer_clearing")),
    **IN_ITS_KEY,
)

mandate_limit = Table(
    "mandate_limit",
    metadata,
    Column("mandate_id", Key, primary_key=True),
    Column("service", String(12), primary_key=True),
    Column("per_debit_fen", BigInteger),
    Column("per_day_fen", BigInteger),
    Column("per_day_count", Integer),
    **IN_ITS_KEY,
)
"""Limits beside the exposure limit of `mandate`, changeable at run time; service `*` counts all services together.
None = no such limit. They outlive an import of mandates. Holds count from the moment they are durable, and no more once
they are voided."""

mandate_fuel = Table(
    "mandate_fuel",
    metadata,
    Column("mandate_id", Key, ForeignKey("mandate.id"), primary_key=True),
    Column("grades", String(200)),
    Column("per_sale_fen", BigInteger),
    Column("per_sale_ml", BigInteger),
    Column("per_day_fen", BigInteger),
    Column("per_day_ml", BigInteger),
    Column("per_month_fen", BigInteger),
    Column("per_month_ml", BigInteger),
    **IN_ITS_KEY,
)
"""Fuel terms of a mandate (`gateway.payers.fuel_terms`): allowed grades with semicolons between them, and bounds. None:
any grade, or no such bound. They come and go with an import; what is used of them is the sum of the mandate's sales."""

credential = Table(
    "credential",
    metadata,
    Column("kind", String(8), primary_key=True),
    Column("key", String(40), primary_key=True),
    Column("mandate_id", Key, ForeignKey("mandate.id"), nullable=False),
    Column("plate", String(16)),
    Column("plate_colour", Integer),
    salt(),
    known("kind", ("card", "contract", "plate")),
    Index("ix_credential_mandate", "mandate_id"),
    **IN_ITS_KEY,
)
"""Credential of a payer: a card number, a tag's contract, a plate with its colour (key `plate|colour`)."""

# --- day end ------------------------------------------------------------------------------------------------------

bank_file = Table(
    "bank_file",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("channel", Key, nullable=False),
    Column("day", String(8), nullable=False),
    Column("digest", String(64), nullable=False, unique=True),
    Column("name", String(200), nullable=False),
    Column("lines", Integer, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("state", String(8), nullable=False),
    Column("imported_at", BigInteger, nullable=False),
    known("state", ("loading", "read")),
    Index("ix_bank_file_day", "channel", "day"),
)
"""Day file of a bank that was read. `amount`: what it books less what it takes back."""

bank_line = Table(
    "bank_line",
    metadata,
    Column("file_id", Integer, ForeignKey("bank_file.id"), primary_key=True, autoincrement=False),
    Column("line", Integer, primary_key=True, autoincrement=False),
    Column("channel", Key, nullable=False),
    Column("kind", String(12), nullable=False),
    Column("terminal", String(16), nullable=False),
    Column("batch", String(6), nullable=False),
    Column("stan", String(6), nullable=False),
    Column("reference", String(16)),
    Column("amount", BigInteger, nullable=False),
    known("kind", ("sale", "advice", "refund", "reversal")),
    Index("ix_bank_line_keys", "channel", "terminal", "batch", "stan"),
    **IN_ITS_KEY,
)
"""Line of a day file, without the contract: nothing here names a person."""

clearing_run = Table(
    "clearing_run",
    metadata,
    Column("day", String(8), primary_key=True),
    Column("state", String(8), nullable=False),
    Column("rules_version", String(40), nullable=False),
    Column("began_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    known("state", ("running", "done")),
    **IN_ITS_KEY,
)
"""Clearing of one day; run again it goes on where it stands."""

clearing_line = Table(
    "clearing_line",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("day", String(8), ForeignKey("clearing_run.day"), nullable=False),
    Column("merchant", Key, nullable=False),
    Column("payer", Key, nullable=False),
    Column("payer_kind", String(8), nullable=False),
    Column("service", String(12), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("state", String(8), nullable=False),
    Column("count", Integer, nullable=False, server_default=text("0")),
    Column("amount", BigInteger, nullable=False, server_default=text("0")),
    Column("paid", BigInteger, nullable=False, server_default=text("0")),
    Column("fee", BigInteger, nullable=False, server_default=text("0")),
    Column("rules_version", String(40), nullable=False),
    Column("closed_at", BigInteger),
    UniqueConstraint("day", "merchant", "payer", "service", "seq", name="uq_clearing_line_group"),
    known("payer_kind", ("bank", "issuer")),
    known("state", ("open", "closed")),
)
"""Clearing line: a collector's amount of one payer for one service and day. Closed with its transfers, and never
changed again: what is cleared later for the same day gets a line of its own, the next `seq`. `amount` is what our books
say, `paid` what the payer grants (they differ where a difference was written off), `fee` what it keeps."""

clearing_row = Table(
    "clearing_row",
    metadata,
    Column("ref", Id, primary_key=True),
    Column("kind", String(8), nullable=False),
    Column("debit_id", Id, ForeignKey("debit.id"), nullable=False),
    Column("day", String(8), nullable=False),
    Column("merchant", Key, nullable=False),
    Column("payer", Key, nullable=False),
    Column("service", String(12), nullable=False),
    Column("state", String(8), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("paid", BigInteger, nullable=False),
    Column("fee", BigInteger, nullable=False),
    Column("line_id", Integer, ForeignKey("clearing_line.id")),
    Column("changed_at", BigInteger, nullable=False),
    known("kind", ("attempt", "claim", "refund")),
    known("state", ("cleared", "disputed", "rejected")),
    Index("ix_clearing_row_day", "day", "payer"),
    Index("ix_clearing_row_debit", "debit_id"),
    Index("ix_clearing_row_line", "line_id"),
    **IN_ITS_KEY,
)
"""Clearing row: one movement that a payer owes us (negative: that we owe a payer), in exactly one state. `ref` is the
attempt (bank), the debit (issuer) or the refund it is about."""

clearing_share = Table(
    "clearing_share",
    metadata,
    Column("ref", Id, ForeignKey("clearing_row.ref"), primary_key=True),
    Column("owner", Key, primary_key=True),
    Column("amount", BigInteger, nullable=False),
    **IN_ITS_KEY,
)
"""Share of a road owner in a cleared row; only where it is split. The shares add up to the row."""

clearing_payout = Table(
    "clearing_payout",
    metadata,
    Column("line_id", Integer, ForeignKey("clearing_line.id"), primary_key=True, autoincrement=False),
    Column("owner", Key, primary_key=True),
    Column("amount", BigInteger, nullable=False),
    Column("fee", BigInteger, nullable=False),
    **IN_ITS_KEY,
)
"""Payout of a line to an owner: `amount` is its share, `fee` what is kept back of it."""
