"""An attempt may be disputed: the bank knows the keys of a message that left once."""

from alembic import op

revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None

BEFORE = "state in ('stored', 'not_sent', 'approved', 'declined', 'unknown', 'reversing', 'reversed')"
NOW = "state in ('stored', 'not_sent', 'approved', 'declined', 'unknown', 'reversing', 'reversed', 'disputed')"


def upgrade() -> None:
    with op.batch_alter_table('attempt') as batch_op:
        batch_op.drop_constraint(op.f('ck_attempt_state_known'), type_='check')
        batch_op.create_check_constraint(op.f('ck_attempt_state_known'), NOW)
