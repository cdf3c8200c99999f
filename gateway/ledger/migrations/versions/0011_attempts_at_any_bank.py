"""An attempt has a reference and keeps what its answer means; what only POS links have stands in a table of its own."""

import sqlalchemy as sa

from alembic import op

revision = '0011'
down_revision = '0010'
branch_labels = None
depends_on = None

CLASSES = "'approved', 'declined', 'declined_for_now', 'manual', 'not_found', 'duplicate', 'unsettled'"


def upgrade() -> None:
    op.create_table(
        'pos_attempt',
        sa.Column('attempt_id', sa.String(32), nullable=False),
        sa.Column('channel', sa.String(64), nullable=False),
        sa.Column('terminal', sa.String(16), nullable=False),
        sa.Column('batch', sa.String(6), nullable=False),
        sa.Column('stan', sa.String(6), nullable=False),
        sa.ForeignKeyConstraint(['attempt_id'], ['attempt.id'], name=op.f('fk_pos_attempt_attempt_id')),
        sa.PrimaryKeyConstraint('attempt_id', name=op.f('pk_pos_attempt')),
        sa.UniqueConstraint('channel', 'terminal', 'batch', 'stan', name='uq_pos_attempt_wire_key'),
    )
    op.create_index('ix_pos_attempt_stan', 'pos_attempt', ['channel', 'stan'])
    op.execute('insert into pos_attempt select id, channel, terminal, batch, stan from attempt')
    with op.batch_alter_table('attempt') as batch_op:
        batch_op.add_column(sa.Column('reference', sa.String(64)))
        batch_op.add_column(sa.Column('destination', sa.String(96)))
        batch_op.add_column(sa.Column('answer_class', sa.String(16)))
        batch_op.alter_column('response_code', type_=sa.String(32))
    op.execute(
        "update attempt set reference = terminal || '/' || batch || '/' || stan, "
        "destination = channel || '/' || terminal, "
        "answer_class = case when response_code = '94' then 'duplicate' "
        "when state in ('approved', 'declined') then state end"
    )
    with op.batch_alter_table('attempt') as batch_op:
        batch_op.drop_index('ix_attempt_stan')
        batch_op.drop_constraint('uq_attempt_wire_key', type_='unique')
        for name in ('terminal', 'batch', 'stan'):
            batch_op.drop_column(name)
        batch_op.alter_column('reference', nullable=False)
        batch_op.alter_column('destination', nullable=False)
        batch_op.create_unique_constraint('uq_attempt_reference', ['channel', 'reference'])
        batch_op.create_check_constraint(op.f('ck_attempt_answer_class_known'), f"answer_class in ({CLASSES})")
