"""An attempt keeps what its answer means, whatever the bank speaks."""

import sqlalchemy as sa

from alembic import op

revision = '0011'
down_revision = '0010'
branch_labels = None
depends_on = None

CLASSES = "'approved', 'declined', 'declined_for_now', 'manual', 'not_found', 'duplicate', 'unsettled'"


def upgrade() -> None:
    with op.batch_alter_table('attempt') as batch_op:
        batch_op.add_column(sa.Column('answer_class', sa.String(16)))
        batch_op.alter_column('response_code', type_=sa.String(32))
    op.execute("update attempt set answer_class = 'duplicate' where response_code = '94'")
    op.execute(
        "update attempt set answer_class = state where answer_class is null and state in ('approved', 'declined')"
    )
    with op.batch_alter_table('attempt') as batch_op:
        batch_op.create_check_constraint(op.f('ck_attempt_answer_class_known'), f"answer_class in ({CLASSES})")
