"""Readings of the box's clocks: how long ago a decision was made, across restarts and settings of the clock."""

import sqlalchemy as sa
from alembic import op

revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('clock_reading',
    sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('boot', sa.String(length=64), nullable=False),
    sa.Column('wall_at', sa.BigInteger(), nullable=False),
    sa.Column('monotonic_us', sa.BigInteger(), nullable=False),
    sa.Column('after_record', sa.Integer(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_clock_reading'))
    )
    op.create_index('ix_clock_reading_record', 'clock_reading', ['after_record'], unique=False)
