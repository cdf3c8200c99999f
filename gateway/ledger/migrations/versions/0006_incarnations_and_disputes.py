"""Lives of the ledger, and attempts whose outcome only the bank's file or a person can tell."""

import sqlalchemy as sa
from alembic import op

revision = '0006'
down_revision = '0004'
branch_labels = None
depends_on = None


NOW = "state in ('stored', 'not_sent', 'approved', 'declined', 'unknown', 'reversing', 'reversed', 'disputed')"


def upgrade() -> None:
    with op.batch_alter_table('attempt') as batch_op:
        batch_op.drop_constraint(op.f('ck_attempt_state_known'), type_='check')
        batch_op.create_check_constraint(op.f('ck_attempt_state_known'), NOW)
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
