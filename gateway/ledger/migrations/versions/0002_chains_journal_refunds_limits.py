"""Chained rows, a journal, refunds, limits, rules, and items that are not about a debit."""

import sqlalchemy as sa
from alembic import op

from gateway.ledger.chain import GENESIS
from gateway.ledger.chain import unkeyed_link as link

revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None

CHAINED = {
    'transfer': ('id', ('id', 'phase', 'event', 'debit_id', 'attempt_id', 'from_account', 'to_account', 'amount',
                        'pending_id', 'original_id', 'reference', 'event_at', 'booked_at')),
    'decision': ('record_no', ('record_no', 'passage_id', 'debit_id', 'charge_point', 'barrier', 'outcome', 'reason',
                               'special_event', 'funding', 'amount', 'recovered', 'decided_at', 'tariff_version',
                               'list_version', 'list_age_s', 'rules_version')),
    'journal': ('number', ('number', 'kind', 'ref', 'debit_id', 'event', 'detail', 'actor', 'at')),
}
DAY = "strftime('%Y%m%d', debit.created_at / 1000000 + 28800, 'unixepoch')"
"""The first release knew no other zone than that of China."""


def upgrade() -> None:
    connection = op.get_bind()
    _new_tables()
    _debits(connection)
    _attempts_and_outbox()
    _items(connection)
    with op.batch_alter_table('transfer', recreate='always') as batch:
        batch.alter_column('debit_id', existing_type=sa.String(32), nullable=True)
        batch.add_column(sa.Column('original_id', sa.Integer()), insert_after='pending_id')
        batch.add_column(sa.Column('reference', sa.String(96)), insert_after='original_id')
        batch.add_column(sa.Column('chain', sa.LargeBinary()))
        batch.create_foreign_key('fk_transfer_original_id', 'transfer', ['original_id'], ['id'])
        batch.drop_constraint(op.f('ck_transfer_phase_known'), type_='check')
        batch.create_check_constraint(op.f('ck_transfer_phase_known'),
                                      "phase in ('pending', 'post', 'void', 'expire', 'direct')")
    with op.batch_alter_table('decision', recreate='always') as batch:
        batch.add_column(sa.Column('rules_version', sa.String(40)))
        batch.add_column(sa.Column('chain', sa.LargeBinary()))
    _first_journal(connection)
    for table, (number, columns) in CHAINED.items():
        _chain(connection, table, number, columns)
        with op.batch_alter_table(table, recreate='always') as batch:
            batch.alter_column('chain', existing_type=sa.LargeBinary(), nullable=False)
    connection.execute(sa.text("delete from counter where name = 'record_no'"))
    op.create_table('refusal',
    sa.Column('idempotency_key', sa.String(64), nullable=False),
    sa.Column('content_hash', sa.String(64), nullable=False),
    sa.Column('record_no', sa.Integer(), nullable=False),
    sa.ForeignKeyConstraint(['record_no'], ['decision.record_no'], name=op.f('fk_refusal_record_no')),
    sa.PrimaryKeyConstraint('idempotency_key', name=op.f('pk_refusal'))
    )
    with op.batch_alter_table('obligor') as batch:
        batch.add_column(sa.Column('listed_at', sa.BigInteger()))


def _new_tables() -> None:
    op.create_table('chain',
    sa.Column('name', sa.String(16), nullable=False),
    sa.Column('number', sa.BigInteger(), nullable=False),
    sa.Column('digest', sa.LargeBinary(), nullable=False),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_chain'))
    )
    op.create_table('rules',
    sa.Column('version', sa.String(40), nullable=False),
    sa.Column('digest', sa.String(64), nullable=False),
    sa.Column('body', sa.Text(), nullable=False),
    sa.Column('in_force_at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('version', name=op.f('pk_rules'))
    )
    op.create_table('journal',
    sa.Column('number', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('kind', sa.String(12), nullable=False),
    sa.Column('ref', sa.String(96), nullable=False),
    sa.Column('debit_id', sa.String(32)),
    sa.Column('event', sa.String(32), nullable=False),
    sa.Column('detail', sa.String(400)),
    sa.Column('actor', sa.String(64)),
    sa.Column('at', sa.BigInteger(), nullable=False),
    sa.Column('chain', sa.LargeBinary()),
    sa.PrimaryKeyConstraint('number', name=op.f('pk_journal'))
    )
    op.create_index('ix_journal_debit', 'journal', ['debit_id'])
    op.create_table('mandate_limit',
    sa.Column('mandate_id', sa.String(64), nullable=False),
    sa.Column('service', sa.String(12), nullable=False),
    sa.Column('per_debit_fen', sa.BigInteger()),
    sa.Column('per_day_fen', sa.BigInteger()),
    sa.Column('per_day_count', sa.Integer()),
    sa.PrimaryKeyConstraint('mandate_id', 'service', name=op.f('pk_mandate_limit'))
    )


def _debits(connection: sa.Connection) -> None:
    with op.batch_alter_table('debit', recreate='always') as batch:
        batch.add_column(sa.Column('service', sa.String(12)), insert_after='merchant')
        batch.add_column(sa.Column('day', sa.String(8)), insert_after='service')
        batch.add_column(sa.Column('final_amount', sa.BigInteger()), insert_after='amount')
        batch.add_column(sa.Column('collected', sa.BigInteger(), nullable=False, server_default=sa.text('0')),
                         insert_after='final_amount')
        batch.add_column(sa.Column('refunded', sa.BigInteger(), nullable=False, server_default=sa.text('0')),
                         insert_after='collected')
        batch.add_column(sa.Column('retry_at', sa.BigInteger()), insert_after='stood_in')
        batch.add_column(sa.Column('retries', sa.Integer(), nullable=False, server_default=sa.text('0')),
                         insert_after='retry_at')
    connection.execute(sa.text(
        f"update debit set day = {DAY},"
        " service = coalesce((select service from passage where passage.id = debit.passage_id), 'toll'),"
        " collected = case when state = 'funded' then amount else 0 end"))
    with op.batch_alter_table('debit', recreate='always') as batch:
        batch.alter_column('service', existing_type=sa.String(12), nullable=False)
        batch.alter_column('day', existing_type=sa.String(8), nullable=False)
        batch.drop_index('ix_debit_state')
        batch.create_index('ix_debit_state', ['state', 'id'])
        batch.create_index('ix_debit_obligor_day', ['obligor_id', 'day'])
        batch.create_index('ix_debit_day', ['day'])
        batch.create_index('ix_debit_retry', ['retry_at'], sqlite_where=sa.text('retry_at is not null'))
    op.create_table('refund',
    sa.Column('id', sa.String(32), nullable=False),
    sa.Column('idempotency_key', sa.String(64), nullable=False),
    sa.Column('content_hash', sa.String(64), nullable=False),
    sa.Column('debit_id', sa.String(32), nullable=False),
    sa.Column('amount', sa.BigInteger(), nullable=False),
    sa.Column('reason', sa.String(200), nullable=False),
    sa.Column('target', sa.String(8), nullable=False),
    sa.Column('state', sa.String(8), nullable=False),
    sa.Column('attempt_id', sa.String(32)),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('changed_at', sa.BigInteger(), nullable=False),
    sa.CheckConstraint('amount > 0', name=op.f('ck_refund_amount_positive')),
    sa.CheckConstraint("target in ('bank', 'issuer', 'till')", name=op.f('ck_refund_target_known')),
    sa.CheckConstraint("state in ('decided', 'paid')", name=op.f('ck_refund_state_known')),
    sa.ForeignKeyConstraint(['attempt_id'], ['attempt.id'], name=op.f('fk_refund_attempt_id')),
    sa.ForeignKeyConstraint(['debit_id'], ['debit.id'], name=op.f('fk_refund_debit_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_refund')),
    sa.UniqueConstraint('idempotency_key', name=op.f('uq_refund_idempotency_key'))
    )
    op.create_index('ix_refund_debit', 'refund', ['debit_id'])


def _attempts_and_outbox() -> None:
    with op.batch_alter_table('attempt', recreate='always') as batch:
        batch.drop_constraint(op.f('ck_attempt_kind_known'), type_='check')
        batch.create_check_constraint(op.f('ck_attempt_kind_known'),
                                      "kind in ('sale', 'advice', 'recovery', 'refund')")
        batch.drop_index('ix_attempt_open')
        batch.create_index('ix_attempt_state', ['state', 'channel'])
        batch.create_index('ix_attempt_stan', ['channel', 'stan'])
    with op.batch_alter_table('outbox', recreate='always') as batch:
        batch.drop_constraint(op.f('ck_outbox_kind_known'), type_='check')
        batch.create_check_constraint(op.f('ck_outbox_kind_known'),
                                      "kind in ('reversal', 'advice', 'recovery', 'refund')")
        batch.create_index('ix_outbox_attempt', ['attempt_id'])
    op.create_index('ix_purchase_debit', 'purchase', ['debit_id'])


def _items(connection: sa.Connection) -> None:
    """Anew: an item needs no debit any more, and is known by what it is about."""
    op.rename_table('item', 'item_before')
    op.create_table('item',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('kind', sa.String(32), nullable=False),
    sa.Column('ref', sa.String(96), nullable=False),
    sa.Column('debit_id', sa.String(32)),
    sa.Column('day', sa.String(8)),
    sa.Column('amount', sa.BigInteger(), nullable=False, server_default=sa.text('0')),
    sa.Column('state', sa.String(12), nullable=False),
    sa.Column('note', sa.String(200)),
    sa.Column('actor', sa.String(64)),
    sa.Column('second_actor', sa.String(64)),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('changed_at', sa.BigInteger(), nullable=False),
    sa.CheckConstraint("state in ('open', 'explained', 'corrected', 'written_off')",
                       name=op.f('ck_item_state_known')),
    sa.ForeignKeyConstraint(['debit_id'], ['debit.id'], name=op.f('fk_item_debit_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_item')),
    sa.UniqueConstraint('kind', 'ref', name='uq_item_kind_ref')
    )
    connection.execute(sa.text(
        'insert into item (id, kind, ref, debit_id, state, note, created_at, changed_at)'
        ' select id, kind, debit_id, debit_id, state, note, created_at, created_at from item_before'))
    op.drop_table('item_before')


def _first_journal(connection: sa.Connection) -> None:
    """The journal begins with the states that the first release left behind."""
    number = 0
    found = connection.execute(sa.text(
        "select changed_at, 'debit', id, id, state from debit"
        " union all select changed_at, 'attempt', id, debit_id, state from attempt order by 1, 2, 3")).all()
    for at, kind, ref, debit_id, state in found:
        number += 1
        connection.execute(
            sa.text('insert into journal (number, kind, ref, debit_id, event, detail, at)'
                    " values (:number, :kind, :ref, :debit, :event, 'at the upgrade', :at)"),
            {'number': number, 'kind': kind, 'ref': ref, 'debit': debit_id, 'event': state, 'at': at})


def _chain(connection: sa.Connection, table: str, number: str, columns: tuple[str, ...]) -> None:
    """Chain what is there. Row numbers of the first release have no gaps either."""
    digest, last = GENESIS, 0
    rows = connection.execute(sa.text(f"select {', '.join(columns)} from {table} order by {number}")).all()
    for row in rows:
        digest, last = link(digest, list(row)), getattr(row, number)
        connection.execute(sa.text(f'update {table} set chain = :chain where {number} = :number'),
                           {'chain': digest, 'number': last})
    if rows:
        connection.execute(sa.text('insert into chain values (:name, :number, :digest)'),
                           {'name': table, 'number': last, 'digest': digest})
