"""What becomes of an abandoned hold stands with it; until now it was void at toll lanes alone."""

import sqlalchemy as sa

from alembic import op

revision = '0010'
down_revision = '0009'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('debit') as batch_op:
        batch_op.add_column(sa.Column('abandoned', sa.String(4), nullable=False, server_default=sa.text("'void'")))
    op.execute("update debit set abandoned = 'keep' where service <> 'toll'")
    with op.batch_alter_table('debit') as batch_op:
        batch_op.alter_column('abandoned', server_default=None)
        batch_op.create_check_constraint(op.f('ck_debit_abandoned_known'), "abandoned in ('void', 'keep')")
