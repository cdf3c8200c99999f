"""Ledger as it is now. With the first release these tables are written out here, and later revisions change them."""

from alembic import op
from gateway.ledger import tables

revision = "0103"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    tables.metadata.create_all(op.get_bind())
