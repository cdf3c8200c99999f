"""The ledger: the tables of `gateway.ledger.tables`."""

import sqlalchemy as sa
from alembic import op

revision = '0100'
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('account',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('kind', sa.String(length=16), nullable=False),
    sa.Column('owner', sa.String(length=64), nullable=False),
    sa.Column('balance', sa.BigInteger(), nullable=False),
    sa.Column('held', sa.BigInteger(), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.CheckConstraint('held >= 0', name=op.f('ck_account_held_not_negative')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_account')),
    sa.UniqueConstraint('kind', 'owner', name='uq_account_kind_owner')
    )
    op.create_table('bank_file',
    sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('channel', sa.String(length=64), nullable=False),
    sa.Column('day', sa.String(length=8), nullable=False),
    sa.Column('digest', sa.String(length=64), nullable=False),
    sa.Column('name', sa.String(length=200), nullable=False),
    sa.Column('lines', sa.Integer(), nullable=False),
    sa.Column('amount', sa.BigInteger(), nullable=False),
    sa.Column('state', sa.String(length=8), nullable=False),
    sa.Column('imported_at', sa.BigInteger(), nullable=False),
    sa.CheckConstraint("state in ('loading', 'read')", name=op.f('ck_bank_file_state_known')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_bank_file')),
    sa.UniqueConstraint('digest', name=op.f('uq_bank_file_digest'))
    )
    op.create_index('ix_bank_file_day', 'bank_file', ['channel', 'day'], unique=False)
    op.create_table('card_serial',
    sa.Column('card_number', sa.String(length=20), nullable=False),
    sa.Column('serial', sa.Integer(), nullable=False),
    sa.Column('salt', sa.LargeBinary(), nullable=True),
    sa.PrimaryKeyConstraint('card_number', name=op.f('pk_card_serial'))
    )
    op.create_table('chain',
    sa.Column('name', sa.String(length=16), nullable=False),
    sa.Column('number', sa.BigInteger(), nullable=False),
    sa.Column('digest', sa.LargeBinary(), nullable=False),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_chain'))
    )
    op.create_table('clearing_run',
    sa.Column('day', sa.String(length=8), nullable=False),
    sa.Column('state', sa.String(length=8), nullable=False),
    sa.Column('rules_version', sa.String(length=40), nullable=False),
    sa.Column('began_at', sa.BigInteger(), nullable=False),
    sa.Column('ended_at', sa.BigInteger(), nullable=True),
    sa.CheckConstraint("state in ('running', 'done')", name=op.f('ck_clearing_run_state_known')),
    sa.PrimaryKeyConstraint('day', name=op.f('pk_clearing_run'))
    )
    op.create_table('clock_reading',
    sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('boot', sa.String(length=64), nullable=False),
    sa.Column('wall_at', sa.BigInteger(), nullable=False),
    sa.Column('monotonic_us', sa.BigInteger(), nullable=False),
    sa.Column('after_record', sa.Integer(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_clock_reading'))
    )
    op.create_index('ix_clock_reading_record', 'clock_reading', ['after_record'], unique=False)
    op.create_table('counter',
    sa.Column('name', sa.String(length=80), nullable=False),
    sa.Column('value', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_counter'))
    )
    op.create_table('incarnation',
    sa.Column('number', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('id', sa.String(length=32), nullable=False),
    sa.Column('born_at', sa.BigInteger(), nullable=False),
    sa.Column('journal_number', sa.BigInteger(), nullable=False),
    sa.Column('reason', sa.String(length=200), nullable=False),
    sa.Column('actor', sa.String(length=64), nullable=False),
    sa.PrimaryKeyConstraint('number', name=op.f('pk_incarnation')),
    sa.UniqueConstraint('id', name=op.f('uq_incarnation_id'))
    )
    op.create_table('journal',
    sa.Column('number', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('kind', sa.String(length=12), nullable=False),
    sa.Column('ref', sa.String(length=96), nullable=False),
    sa.Column('debit_id', sa.String(length=32), nullable=True),
    sa.Column('event', sa.String(length=32), nullable=False),
    sa.Column('detail', sa.String(length=400), nullable=True),
    sa.Column('actor', sa.String(length=64), nullable=True),
    sa.Column('at', sa.BigInteger(), nullable=False),
    sa.Column('chain', sa.LargeBinary(), nullable=False),
    sa.Column('content', sa.LargeBinary(), nullable=True),
    sa.PrimaryKeyConstraint('number', name=op.f('pk_journal'))
    )
    op.create_index('ix_journal_debit', 'journal', ['debit_id'], unique=False)
    op.create_table('mandate',
    sa.Column('id', sa.String(length=64), nullable=False),
    sa.Column('status', sa.String(length=8), nullable=False),
    sa.Column('funding', sa.String(length=16), nullable=False),
    sa.Column('channel', sa.String(length=64), nullable=True),
    sa.Column('contract_ref', sa.String(length=64), nullable=True),
    sa.Column('limit_fen', sa.BigInteger(), nullable=True),
    sa.Column('stand_in_limit_fen', sa.BigInteger(), nullable=False),
    sa.Column('imported_at', sa.BigInteger(), nullable=False),
    sa.Column('salt', sa.LargeBinary(), nullable=True),
    sa.CheckConstraint("funding in ('bank_online', 'issuer_clearing')", name=op.f('ck_mandate_funding_known')),
    sa.CheckConstraint("status in ('active', 'paused', 'closed')", name=op.f('ck_mandate_status_known')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_mandate'))
    )
    op.create_table('mandate_limit',
    sa.Column('mandate_id', sa.String(length=64), nullable=False),
    sa.Column('service', sa.String(length=12), nullable=False),
    sa.Column('per_debit_fen', sa.BigInteger(), nullable=True),
    sa.Column('per_day_fen', sa.BigInteger(), nullable=True),
    sa.Column('per_day_count', sa.Integer(), nullable=True),
    sa.PrimaryKeyConstraint('mandate_id', 'service', name=op.f('pk_mandate_limit'))
    )
    op.create_table('obligor',
    sa.Column('id', sa.String(length=32), nullable=False),
    sa.Column('mandate_id', sa.String(length=64), nullable=True),
    sa.Column('subject_key', sa.String(length=64), nullable=True),
    sa.Column('listed_at', sa.BigInteger(), nullable=True),
    sa.Column('salt', sa.LargeBinary(), nullable=True),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_obligor')),
    sa.UniqueConstraint('mandate_id', name=op.f('uq_obligor_mandate_id')),
    sa.UniqueConstraint('subject_key', name=op.f('uq_obligor_subject_key'))
    )
    op.create_table('rules',
    sa.Column('version', sa.String(length=40), nullable=False),
    sa.Column('digest', sa.String(length=64), nullable=False),
    sa.Column('body', sa.Text(), nullable=False),
    sa.Column('in_force_at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('version', name=op.f('pk_rules'))
    )
    op.create_table('subject',
    sa.Column('id', sa.String(length=32), nullable=False),
    sa.Column('obu_id', sa.String(length=8), nullable=True),
    sa.Column('contract', sa.String(length=32), nullable=True),
    sa.Column('card_number', sa.String(length=20), nullable=True),
    sa.Column('plate', sa.String(length=16), nullable=True),
    sa.Column('plate_colour', sa.Integer(), nullable=True),
    sa.Column('erased_at', sa.BigInteger(), nullable=True),
    sa.Column('salt', sa.LargeBinary(), nullable=True),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_subject'))
    )
    op.create_index('ix_subject_card', 'subject', ['card_number'], unique=False)
    op.create_index('ix_subject_contract', 'subject', ['contract'], unique=False)
    op.create_index('ix_subject_obu', 'subject', ['obu_id'], unique=False)
    op.create_table('bank_line',
    sa.Column('file_id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('line', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('channel', sa.String(length=64), nullable=False),
    sa.Column('kind', sa.String(length=12), nullable=False),
    sa.Column('terminal', sa.String(length=16), nullable=False),
    sa.Column('batch', sa.String(length=6), nullable=False),
    sa.Column('stan', sa.String(length=6), nullable=False),
    sa.Column('reference', sa.String(length=16), nullable=True),
    sa.Column('amount', sa.BigInteger(), nullable=False),
    sa.CheckConstraint("kind in ('sale', 'advice', 'refund', 'reversal')", name=op.f('ck_bank_line_kind_known')),
    sa.ForeignKeyConstraint(['file_id'], ['bank_file.id'], name=op.f('fk_bank_line_file_id')),
    sa.PrimaryKeyConstraint('file_id', 'line', name=op.f('pk_bank_line'))
    )
    op.create_index('ix_bank_line_keys', 'bank_line', ['channel', 'terminal', 'batch', 'stan'], unique=False)
    op.create_table('clearing_line',
    sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('day', sa.String(length=8), nullable=False),
    sa.Column('merchant', sa.String(length=64), nullable=False),
    sa.Column('payer', sa.String(length=64), nullable=False),
    sa.Column('payer_kind', sa.String(length=8), nullable=False),
    sa.Column('service', sa.String(length=12), nullable=False),
    sa.Column('seq', sa.Integer(), nullable=False),
    sa.Column('state', sa.String(length=8), nullable=False),
    sa.Column('count', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('amount', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('paid', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('fee', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('rules_version', sa.String(length=40), nullable=False),
    sa.Column('closed_at', sa.BigInteger(), nullable=True),
    sa.CheckConstraint("payer_kind in ('bank', 'issuer')", name=op.f('ck_clearing_line_payer_kind_known')),
    sa.CheckConstraint("state in ('open', 'closed')", name=op.f('ck_clearing_line_state_known')),
    sa.ForeignKeyConstraint(['day'], ['clearing_run.day'], name=op.f('fk_clearing_line_day')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_clearing_line')),
    sa.UniqueConstraint('day', 'merchant', 'payer', 'service', 'seq', name='uq_clearing_line_group')
    )
    op.create_table('credential',
    sa.Column('kind', sa.String(length=8), nullable=False),
    sa.Column('key', sa.String(length=40), nullable=False),
    sa.Column('mandate_id', sa.String(length=64), nullable=False),
    sa.Column('plate', sa.String(length=16), nullable=True),
    sa.Column('plate_colour', sa.Integer(), nullable=True),
    sa.Column('salt', sa.LargeBinary(), nullable=True),
    sa.CheckConstraint("kind in ('card', 'contract', 'plate')", name=op.f('ck_credential_kind_known')),
    sa.ForeignKeyConstraint(['mandate_id'], ['mandate.id'], name=op.f('fk_credential_mandate_id')),
    sa.PrimaryKeyConstraint('kind', 'key', name=op.f('pk_credential'))
    )
    op.create_index('ix_credential_mandate', 'credential', ['mandate_id'], unique=False)
    op.create_table('passage',
    sa.Column('id', sa.String(length=32), nullable=False),
    sa.Column('charge_point', sa.String(length=40), nullable=False),
    sa.Column('service', sa.String(length=12), nullable=False),
    sa.Column('subject_id', sa.String(length=32), nullable=False),
    sa.Column('device_type', sa.Integer(), nullable=True),
    sa.Column('vehicle_class', sa.Integer(), nullable=True),
    sa.Column('opened_at', sa.BigInteger(), nullable=False),
    sa.Column('clock_quality', sa.String(length=8), nullable=False),
    sa.ForeignKeyConstraint(['subject_id'], ['subject.id'], name=op.f('fk_passage_subject_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_passage'))
    )
    op.create_index('ix_passage_subject', 'passage', ['subject_id'], unique=False)
    op.create_table('clearing_payout',
    sa.Column('line_id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('owner', sa.String(length=64), nullable=False),
    sa.Column('amount', sa.BigInteger(), nullable=False),
    sa.Column('fee', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['line_id'], ['clearing_line.id'], name=op.f('fk_clearing_payout_line_id')),
    sa.PrimaryKeyConstraint('line_id', 'owner', name=op.f('pk_clearing_payout'))
    )
    op.create_table('debit',
    sa.Column('id', sa.String(length=32), nullable=False),
    sa.Column('idempotency_key', sa.String(length=64), nullable=False),
    sa.Column('content_hash', sa.String(length=64), nullable=False),
    sa.Column('passage_id', sa.String(length=32), nullable=False),
    sa.Column('obligor_id', sa.String(length=32), nullable=False),
    sa.Column('mandate_id', sa.String(length=64), nullable=True),
    sa.Column('merchant', sa.String(length=64), nullable=False),
    sa.Column('service', sa.String(length=12), nullable=False),
    sa.Column('day', sa.String(length=8), nullable=False),
    sa.Column('funding', sa.String(length=16), nullable=False),
    sa.Column('payer', sa.String(length=64), nullable=False),
    sa.Column('contract_ref', sa.String(length=64), nullable=True),
    sa.Column('amount', sa.BigInteger(), nullable=False),
    sa.Column('final_amount', sa.BigInteger(), nullable=True),
    sa.Column('collected', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('refunded', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('state', sa.String(length=12), nullable=False),
    sa.Column('hold_id', sa.Integer(), nullable=False),
    sa.Column('stood_in', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('retry_at', sa.BigInteger(), nullable=True),
    sa.Column('retries', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('changed_at', sa.BigInteger(), nullable=False),
    sa.Column('abandoned', sa.String(length=4), nullable=False),
    sa.CheckConstraint("abandoned in ('void', 'keep')", name=op.f('ck_debit_abandoned_known')),
    sa.CheckConstraint("funding in ('purse', 'bank_online', 'issuer_clearing')", name=op.f('ck_debit_funding_known')),
    sa.CheckConstraint("state in ('held', 'released', 'owed', 'funded', 'debt', 'recovered', 'written_off', 'voided')", name=op.f('ck_debit_state_known')),
    sa.ForeignKeyConstraint(['obligor_id'], ['obligor.id'], name=op.f('fk_debit_obligor_id')),
    sa.ForeignKeyConstraint(['passage_id'], ['passage.id'], name=op.f('fk_debit_passage_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_debit')),
    sa.UniqueConstraint('idempotency_key', name=op.f('uq_debit_idempotency_key')),
    sa.UniqueConstraint('passage_id', name=op.f('uq_debit_passage_id'))
    )
    op.create_index('ix_debit_day', 'debit', ['day'], unique=False)
    op.create_index('ix_debit_obligor_day', 'debit', ['obligor_id', 'day'], unique=False)
    op.create_index('ix_debit_obligor_state', 'debit', ['obligor_id', 'state'], unique=False)
    op.create_index('ix_debit_retry', 'debit', ['retry_at'], unique=False, sqlite_where=sa.text('retry_at is not null'))
    op.create_index('ix_debit_state', 'debit', ['state', 'id'], unique=False)
    op.create_table('attempt',
    sa.Column('id', sa.String(length=32), nullable=False),
    sa.Column('debit_id', sa.String(length=32), nullable=False),
    sa.Column('channel', sa.String(length=64), nullable=False),
    sa.Column('terminal', sa.String(length=16), nullable=False),
    sa.Column('batch', sa.String(length=6), nullable=False),
    sa.Column('stan', sa.String(length=6), nullable=False),
    sa.Column('kind', sa.String(length=12), nullable=False),
    sa.Column('state', sa.String(length=12), nullable=False),
    sa.Column('amount', sa.BigInteger(), nullable=False),
    sa.Column('request', sa.LargeBinary(), nullable=False),
    sa.Column('reversal', sa.LargeBinary(), nullable=True),
    sa.Column('response_code', sa.String(length=4), nullable=True),
    sa.Column('retrieval_reference', sa.String(length=16), nullable=True),
    sa.Column('settlement_day', sa.String(length=8), nullable=True),
    sa.Column('late_approval', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('sends', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('changed_at', sa.BigInteger(), nullable=False),
    sa.CheckConstraint("kind in ('sale', 'advice', 'recovery', 'refund')", name=op.f('ck_attempt_kind_known')),
    sa.CheckConstraint("state in ('stored', 'not_sent', 'approved', 'declined', 'unknown', 'reversing', 'reversed', 'disputed')", name=op.f('ck_attempt_state_known')),
    sa.ForeignKeyConstraint(['debit_id'], ['debit.id'], name=op.f('fk_attempt_debit_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_attempt')),
    sa.UniqueConstraint('channel', 'terminal', 'batch', 'stan', name='uq_attempt_wire_key')
    )
    op.create_index('ix_attempt_debit', 'attempt', ['debit_id'], unique=False)
    op.create_index('ix_attempt_settlement', 'attempt', ['channel', 'settlement_day'], unique=False, sqlite_where=sa.text("state = 'approved'"))
    op.create_index('ix_attempt_stan', 'attempt', ['channel', 'stan'], unique=False)
    op.create_index('ix_attempt_state', 'attempt', ['state', 'channel'], unique=False)
    op.create_table('clearing_row',
    sa.Column('ref', sa.String(length=32), nullable=False),
    sa.Column('kind', sa.String(length=8), nullable=False),
    sa.Column('debit_id', sa.String(length=32), nullable=False),
    sa.Column('day', sa.String(length=8), nullable=False),
    sa.Column('merchant', sa.String(length=64), nullable=False),
    sa.Column('payer', sa.String(length=64), nullable=False),
    sa.Column('service', sa.String(length=12), nullable=False),
    sa.Column('state', sa.String(length=8), nullable=False),
    sa.Column('amount', sa.BigInteger(), nullable=False),
    sa.Column('paid', sa.BigInteger(), nullable=False),
    sa.Column('fee', sa.BigInteger(), nullable=False),
    sa.Column('line_id', sa.Integer(), nullable=True),
    sa.Column('changed_at', sa.BigInteger(), nullable=False),
    sa.CheckConstraint("kind in ('attempt', 'claim', 'refund')", name=op.f('ck_clearing_row_kind_known')),
    sa.CheckConstraint("state in ('cleared', 'disputed', 'rejected')", name=op.f('ck_clearing_row_state_known')),
    sa.ForeignKeyConstraint(['debit_id'], ['debit.id'], name=op.f('fk_clearing_row_debit_id')),
    sa.ForeignKeyConstraint(['line_id'], ['clearing_line.id'], name=op.f('fk_clearing_row_line_id')),
    sa.PrimaryKeyConstraint('ref', name=op.f('pk_clearing_row'))
    )
    op.create_index('ix_clearing_row_day', 'clearing_row', ['day', 'payer'], unique=False)
    op.create_index('ix_clearing_row_debit', 'clearing_row', ['debit_id'], unique=False)
    op.create_index('ix_clearing_row_line', 'clearing_row', ['line_id'], unique=False)
    op.create_table('decision',
    sa.Column('record_no', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('passage_id', sa.String(length=32), nullable=False),
    sa.Column('debit_id', sa.String(length=32), nullable=True),
    sa.Column('charge_point', sa.String(length=40), nullable=False),
    sa.Column('release', sa.String(length=12), nullable=False),
    sa.Column('outcome', sa.String(length=12), nullable=False),
    sa.Column('reason', sa.String(length=40), nullable=True),
    sa.Column('special_event', sa.Integer(), nullable=True),
    sa.Column('funding', sa.String(length=16), nullable=True),
    sa.Column('amount', sa.BigInteger(), nullable=False),
    sa.Column('recovered', sa.Integer(), nullable=False),
    sa.Column('decided_at', sa.BigInteger(), nullable=False),
    sa.Column('tariff_version', sa.String(length=40), nullable=True),
    sa.Column('list_version', sa.String(length=40), nullable=True),
    sa.Column('list_age_s', sa.Integer(), nullable=True),
    sa.Column('rules_version', sa.String(length=40), nullable=True),
    sa.Column('chain', sa.LargeBinary(), nullable=False),
    sa.CheckConstraint("release in ('go', 'stop', 'attendant')", name=op.f('ck_decision_release_known')),
    sa.ForeignKeyConstraint(['debit_id'], ['debit.id'], name=op.f('fk_decision_debit_id')),
    sa.ForeignKeyConstraint(['passage_id'], ['passage.id'], name=op.f('fk_decision_passage_id')),
    sa.PrimaryKeyConstraint('record_no', name=op.f('pk_decision'))
    )
    op.create_index('ix_decision_charge_point', 'decision', ['charge_point', 'record_no'], unique=False)
    op.create_index('ix_decision_passage', 'decision', ['passage_id'], unique=False)
    op.create_table('item',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('kind', sa.String(length=32), nullable=False),
    sa.Column('ref', sa.String(length=96), nullable=False),
    sa.Column('debit_id', sa.String(length=32), nullable=True),
    sa.Column('day', sa.String(length=8), nullable=True),
    sa.Column('amount', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('state', sa.String(length=12), nullable=False),
    sa.Column('note', sa.String(length=200), nullable=True),
    sa.Column('actor', sa.String(length=64), nullable=True),
    sa.Column('second_actor', sa.String(length=64), nullable=True),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('changed_at', sa.BigInteger(), nullable=False),
    sa.CheckConstraint("state in ('open', 'explained', 'corrected', 'written_off')", name=op.f('ck_item_state_known')),
    sa.ForeignKeyConstraint(['debit_id'], ['debit.id'], name=op.f('fk_item_debit_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_item')),
    sa.UniqueConstraint('kind', 'ref', name='uq_item_kind_ref')
    )
    op.create_table('purchase',
    sa.Column('id', sa.String(length=32), nullable=False),
    sa.Column('passage_id', sa.String(length=32), nullable=False),
    sa.Column('debit_id', sa.String(length=32), nullable=False),
    sa.Column('attempt_no', sa.Integer(), nullable=False),
    sa.Column('state', sa.String(length=12), nullable=False),
    sa.Column('written_fen', sa.BigInteger(), nullable=False),
    sa.Column('purchase_time', sa.String(length=14), nullable=False),
    sa.Column('balance_before', sa.BigInteger(), nullable=True),
    sa.Column('error', sa.Integer(), nullable=True),
    sa.Column('reason', sa.String(length=40), nullable=True),
    sa.Column('terminal', sa.String(length=12), nullable=True),
    sa.Column('card_serial', sa.Integer(), nullable=True),
    sa.Column('psam_serial', sa.BigInteger(), nullable=True),
    sa.Column('tac', sa.String(length=8), nullable=True),
    sa.Column('tac_source', sa.String(length=2), nullable=True),
    sa.Column('algorithm', sa.Integer(), nullable=True),
    sa.Column('key_version', sa.Integer(), nullable=True),
    sa.Column('balance_after', sa.BigInteger(), nullable=True),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('changed_at', sa.BigInteger(), nullable=False),
    sa.CheckConstraint("state in ('intent', 'unknown', 'taken', 'not_taken', 'disputed')", name=op.f('ck_purchase_state_known')),
    sa.ForeignKeyConstraint(['debit_id'], ['debit.id'], name=op.f('fk_purchase_debit_id')),
    sa.ForeignKeyConstraint(['passage_id'], ['passage.id'], name=op.f('fk_purchase_passage_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_purchase')),
    sa.UniqueConstraint('passage_id', 'attempt_no', name='uq_purchase_attempt')
    )
    op.create_index('ix_purchase_debit', 'purchase', ['debit_id'], unique=False)
    op.create_index('ix_purchase_open', 'purchase', ['state'], unique=False, sqlite_where=sa.text("state in ('intent', 'unknown')"))
    op.create_index('ix_purchase_psam', 'purchase', ['terminal', 'psam_serial'], unique=False, sqlite_where=sa.text("state = 'taken'"))
    op.create_table('clearing_share',
    sa.Column('ref', sa.String(length=32), nullable=False),
    sa.Column('owner', sa.String(length=64), nullable=False),
    sa.Column('amount', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['ref'], ['clearing_row.ref'], name=op.f('fk_clearing_share_ref')),
    sa.PrimaryKeyConstraint('ref', 'owner', name=op.f('pk_clearing_share'))
    )
    op.create_table('outbox',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('destination', sa.String(length=96), nullable=False),
    sa.Column('kind', sa.String(length=12), nullable=False),
    sa.Column('attempt_id', sa.String(length=32), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('next_at', sa.BigInteger(), nullable=False),
    sa.Column('tries', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('done_at', sa.BigInteger(), nullable=True),
    sa.Column('last_answer', sa.String(length=80), nullable=True),
    sa.CheckConstraint("kind in ('reversal', 'advice', 'recovery', 'refund')", name=op.f('ck_outbox_kind_known')),
    sa.ForeignKeyConstraint(['attempt_id'], ['attempt.id'], name=op.f('fk_outbox_attempt_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_outbox'))
    )
    op.create_index('ix_outbox_attempt', 'outbox', ['attempt_id'], unique=False)
    op.create_index('ix_outbox_waiting', 'outbox', ['destination', 'id'], unique=False, sqlite_where=sa.text('done_at is null'))
    op.create_table('purchase_file',
    sa.Column('purchase_id', sa.String(length=32), nullable=False),
    sa.Column('before', sa.LargeBinary(), nullable=False),
    sa.Column('after', sa.LargeBinary(), nullable=False),
    sa.Column('salt', sa.LargeBinary(), nullable=True),
    sa.ForeignKeyConstraint(['purchase_id'], ['purchase.id'], name=op.f('fk_purchase_file_purchase_id')),
    sa.PrimaryKeyConstraint('purchase_id', name=op.f('pk_purchase_file'))
    )
    op.create_table('refund',
    sa.Column('id', sa.String(length=32), nullable=False),
    sa.Column('idempotency_key', sa.String(length=64), nullable=False),
    sa.Column('content_hash', sa.String(length=64), nullable=False),
    sa.Column('debit_id', sa.String(length=32), nullable=False),
    sa.Column('amount', sa.BigInteger(), nullable=False),
    sa.Column('reason', sa.String(length=200), nullable=False),
    sa.Column('target', sa.String(length=8), nullable=False),
    sa.Column('state', sa.String(length=8), nullable=False),
    sa.Column('attempt_id', sa.String(length=32), nullable=True),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('changed_at', sa.BigInteger(), nullable=False),
    sa.CheckConstraint("state in ('decided', 'paid')", name=op.f('ck_refund_state_known')),
    sa.CheckConstraint("target in ('bank', 'issuer', 'till')", name=op.f('ck_refund_target_known')),
    sa.CheckConstraint('amount > 0', name=op.f('ck_refund_amount_positive')),
    sa.ForeignKeyConstraint(['attempt_id'], ['attempt.id'], name=op.f('fk_refund_attempt_id')),
    sa.ForeignKeyConstraint(['debit_id'], ['debit.id'], name=op.f('fk_refund_debit_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_refund')),
    sa.UniqueConstraint('idempotency_key', name=op.f('uq_refund_idempotency_key'))
    )
    op.create_index('ix_refund_debit', 'refund', ['debit_id'], unique=False)
    op.create_table('refusal',
    sa.Column('idempotency_key', sa.String(length=64), nullable=False),
    sa.Column('content_hash', sa.String(length=64), nullable=False),
    sa.Column('record_no', sa.Integer(), nullable=False),
    sa.ForeignKeyConstraint(['record_no'], ['decision.record_no'], name=op.f('fk_refusal_record_no')),
    sa.PrimaryKeyConstraint('idempotency_key', name=op.f('pk_refusal'))
    )
    op.create_table('timing',
    sa.Column('record_no', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('total_us', sa.BigInteger(), nullable=False),
    sa.Column('radio_us', sa.BigInteger(), nullable=False),
    sa.Column('bank_us', sa.BigInteger(), nullable=False),
    sa.Column('commit_us', sa.BigInteger(), nullable=False),
    sa.Column('barrier_us', sa.BigInteger(), nullable=True),
    sa.ForeignKeyConstraint(['record_no'], ['decision.record_no'], name=op.f('fk_timing_record_no')),
    sa.PrimaryKeyConstraint('record_no', name=op.f('pk_timing'))
    )
    op.create_table('transfer',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('phase', sa.String(length=8), nullable=False),
    sa.Column('event', sa.String(length=32), nullable=False),
    sa.Column('debit_id', sa.String(length=32), nullable=True),
    sa.Column('attempt_id', sa.String(length=32), nullable=True),
    sa.Column('from_account', sa.Integer(), nullable=False),
    sa.Column('to_account', sa.Integer(), nullable=False),
    sa.Column('amount', sa.BigInteger(), nullable=False),
    sa.Column('pending_id', sa.Integer(), nullable=True),
    sa.Column('original_id', sa.Integer(), nullable=True),
    sa.Column('reference', sa.String(length=96), nullable=True),
    sa.Column('event_at', sa.BigInteger(), nullable=False),
    sa.Column('booked_at', sa.BigInteger(), nullable=False),
    sa.Column('chain', sa.LargeBinary(), nullable=False),
    sa.CheckConstraint("(pending_id is null) = (phase in ('pending', 'direct'))", name=op.f('ck_transfer_pending_named')),
    sa.CheckConstraint("phase in ('pending', 'post', 'void', 'expire', 'direct')", name=op.f('ck_transfer_phase_known')),
    sa.CheckConstraint('amount >= 0', name=op.f('ck_transfer_amount_not_negative')),
    sa.ForeignKeyConstraint(['attempt_id'], ['attempt.id'], name=op.f('fk_transfer_attempt_id')),
    sa.ForeignKeyConstraint(['debit_id'], ['debit.id'], name=op.f('fk_transfer_debit_id')),
    sa.ForeignKeyConstraint(['from_account'], ['account.id'], name=op.f('fk_transfer_from_account')),
    sa.ForeignKeyConstraint(['original_id'], ['transfer.id'], name=op.f('fk_transfer_original_id')),
    sa.ForeignKeyConstraint(['pending_id'], ['transfer.id'], name=op.f('fk_transfer_pending_id')),
    sa.ForeignKeyConstraint(['to_account'], ['account.id'], name=op.f('fk_transfer_to_account')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_transfer')),
    sa.UniqueConstraint('pending_id', name=op.f('uq_transfer_pending_id'))
    )
    op.create_index('ix_transfer_debit', 'transfer', ['debit_id'], unique=False)
