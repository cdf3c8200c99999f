"""Lives of the ledger: its making, and each adoption of a file that was not the newest."""

import sqlalchemy as sa
from alembic import op

revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade() -> None:
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
