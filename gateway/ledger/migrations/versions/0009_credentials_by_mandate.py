"""Credentials by mandate: without it every mandate that ends is looked for among all credentials there are."""

from alembic import op

revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index('ix_credential_mandate', 'credential', ['mandate_id'])
