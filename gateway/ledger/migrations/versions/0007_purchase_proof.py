"""Purchases: why one is disputed, and a quick look for a terminal and PSAM serial that were used before."""

import sqlalchemy as sa
from alembic import op

revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('purchase', sa.Column('reason', sa.String(length=40), nullable=True))
    op.create_index('ix_purchase_psam', 'purchase', ['terminal', 'psam_serial'], unique=False,
                    sqlite_where=sa.text("state = 'taken'"))
