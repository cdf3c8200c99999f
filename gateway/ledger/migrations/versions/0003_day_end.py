"""Day end: banks' day files, clearing runs with their lines, rows, shares and payouts."""

import sqlalchemy as sa
from alembic import op

revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
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
    op.create_table('clearing_run',
    sa.Column('day', sa.String(length=8), nullable=False),
    sa.Column('state', sa.String(length=8), nullable=False),
    sa.Column('rules_version', sa.String(length=40), nullable=False),
    sa.Column('began_at', sa.BigInteger(), nullable=False),
    sa.Column('ended_at', sa.BigInteger(), nullable=True),
    sa.CheckConstraint("state in ('running', 'done')", name=op.f('ck_clearing_run_state_known')),
    sa.PrimaryKeyConstraint('day', name=op.f('pk_clearing_run'))
    )
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
    op.create_table('clearing_payout',
    sa.Column('line_id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('owner', sa.String(length=64), nullable=False),
    sa.Column('amount', sa.BigInteger(), nullable=False),
    sa.Column('fee', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['line_id'], ['clearing_line.id'], name=op.f('fk_clearing_payout_line_id')),
    sa.PrimaryKeyConstraint('line_id', 'owner', name=op.f('pk_clearing_payout'))
    )
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
    op.create_table('clearing_share',
    sa.Column('ref', sa.String(length=32), nullable=False),
    sa.Column('owner', sa.String(length=64), nullable=False),
    sa.Column('amount', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['ref'], ['clearing_row.ref'], name=op.f('fk_clearing_share_ref')),
    sa.PrimaryKeyConstraint('ref', 'owner', name=op.f('pk_clearing_share'))
    )
    op.create_index('ix_attempt_settlement', 'attempt', ['channel', 'settlement_day'], unique=False,
                    sqlite_where=sa.text("state = 'approved'"))
