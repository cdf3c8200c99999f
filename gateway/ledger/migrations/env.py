"""Entry point of Alembic; always called with an open connection (see `gateway.ledger.schema`)."""

from alembic import context

from gateway.ledger.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
