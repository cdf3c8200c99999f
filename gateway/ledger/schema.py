"""Schema of the ledger: brings a database to this version. Forward only; a database from the future is left alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from gateway.ledger import engines
from gateway.texts.catalogue import Words

FOLDER = Path(__file__).parent / "migrations"

FIRST = "0103"
"""Revision of the first release; lower numbers were development's, whose ledgers nothing here can read."""


class SchemaTooNew(Exception):
    """Database that was written by a later version of this software."""

    def __init__(self, found: str) -> None:
        self.found = found
        super().__init__(Words("ledger-file.schema-unknown", found=found))


class SchemaTooOld(Exception):
    """Database that was written before the first release."""

    def __init__(self, found: str) -> None:
        self.found = found
        super().__init__(Words("ledger-file.schema-too-old", found=found, first=FIRST))


@dataclass(frozen=True, slots=True)
class SchemaState:
    """State of a database's schema against this version's. `found` is None for a database that never had one of ours;
    `refused`: the reason why this version does not work on it."""

    found: str | None
    head: str | None
    refused: SchemaTooNew | SchemaTooOld | None


def look(engine: Engine) -> SchemaState:
    """Compare schemas without changing anything."""
    with engine.connect() as connection:
        return _state(connection)


def upgrade(engine: Engine) -> str:
    """Run the missing migrations in one transaction; returns the schema version now in force.

    Raises `SchemaTooNew`, `SchemaTooOld`.
    """
    state = look(engine)
    if state.refused is not None:
        raise state.refused
    if state.head is None:
        raise RuntimeError(f"no migrations in {FOLDER}")
    if state.found != state.head:
        # Checks every reference of the whole ledger at its end: 8 s for 900,000 debits, so not at every start.
        with engines.without_foreign_keys(engine) as connection:
            command.upgrade(_config(connection), "head")
    return state.head


def _state(connection: Connection) -> SchemaState:
    script = ScriptDirectory.from_config(_config(connection))
    found = MigrationContext.configure(connection).get_current_revision()
    refused: SchemaTooNew | SchemaTooOld | None = None
    if found is not None and found not in {step.revision for step in script.walk_revisions()}:
        refused = SchemaTooOld(found) if found < FIRST else SchemaTooNew(found)
    return SchemaState(found, script.get_current_head(), refused)


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
