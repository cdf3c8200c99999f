"""Keyed chains and seals: what the journal vouches for, and the salts that hide who is meant.

What is in the ledger already is sealed as it is found, in the same transaction (`gateway.ledger.first_seals`).
"""

import sqlalchemy as sa
from alembic import op

revision = '0008'
down_revision = '0007'
branch_labels = None
depends_on = None

SALTED = ('obligor', 'subject', 'purchase_file', 'card_serial', 'mandate', 'credential')


def upgrade() -> None:
    op.add_column('journal', sa.Column('content', sa.LargeBinary()))
    for table in SALTED:
        op.add_column(table, sa.Column('salt', sa.LargeBinary()))
        erased = ' where erased_at is null' if table == 'subject' else ''
        op.execute(f'update {table} set salt = randomblob(16){erased}')
