"""Bringing a database to this version's shape. Forward only; a database from the future is left alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect

from gateway.ledger import database, first_seals, tables
from gateway.ledger.chain import ChainKeys

FOLDER = Path(__file__).parent / "migrations"

KEYED_SINCE = "0008"
"""Revision from which on chains are under a key, and every row is sealed by the transaction that writes it."""

SEALED_SINCE = "0011"
"""Revision whose migration moved covered columns: what was sealed before is sealed anew."""


class SchemaTooNew(Exception):
    """The database was written by a later version of this software."""

    def __init__(self, found: str) -> None:
        self.found = found
        super().__init__(
            f"the ledger has schema {found}, which this version does not know; "
            "install the version that wrote it, or restore the backup made before the upgrade"
        )


@dataclass(frozen=True, slots=True)
class SchemaState:
    """A database's shape against this version's. `found` is None for a database that never had one of ours."""

    found: str | None
    head: str | None
    known: bool


def look(engine: Engine) -> SchemaState:
    """Compare without changing anything."""
    with engine.connect() as connection:
        script = ScriptDirectory.from_config(_config(connection))
        found = MigrationContext.configure(connection).get_current_revision()
    known = found is None or found in {step.revision for step in script.walk_revisions()}
    return SchemaState(found, script.get_current_head(), known)


def upgrade(engine: Engine, keys: ChainKeys | None = None) -> str:
    """Run the missing migrations in one transaction; returns the schema version now in force.

    A ledger that was never sealed is sealed in the same transaction as it is found, under the current one of `keys`;
    without keys such a ledger is refused (`first_seals.KeysNeeded`).
    """
    with database.without_foreign_keys(engine) as connection:
        config = _config(connection)
        script = ScriptDirectory.from_config(config)
        found = MigrationContext.configure(connection).get_current_revision()
        if found is not None and found not in {step.revision for step in script.walk_revisions()}:
            raise SchemaTooNew(found)
        if found is None and not inspect(connection).get_table_names():
            # A new database needs no history: the tests hold the migrations' result against the declared tables.
            tables.metadata.create_all(connection)
            command.stamp(config, "head")
        else:
            command.upgrade(config, "head")
            if found is None or not _follows(script, found, SEALED_SINCE):
                keyed = found is not None and _follows(script, found, KEYED_SINCE)
                first_seals.seal_everything(connection, keys, keyed=keyed)
        head = script.get_current_head()
    if head is None:
        raise RuntimeError(f"no migrations in {FOLDER}")
    return head


def _follows(script: ScriptDirectory, revision: str, earlier: str) -> bool:
    """Whether a revision is that one or comes after it."""
    return any(step.revision == earlier for step in script.iterate_revisions(revision, "base"))


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
