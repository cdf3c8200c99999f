"""The ledger as its tables are declared.

At the first release it is written out as it stands: the migration after it would else find its changes made already.
"""

from alembic import op

from gateway.ledger.tables import metadata

revision = '0100'
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    metadata.create_all(op.get_bind())
