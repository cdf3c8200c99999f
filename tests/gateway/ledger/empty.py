"""Ledgers with the schema and no row. Hundreds are made in one process: each is a copy of the first."""

import tempfile
from functools import cache
from pathlib import Path

from gateway.ledger import engines, schema


def open_empty(path):
    """The writer's engine on a new file, as after `schema.upgrade`."""
    engines.open_new(path).dispose()
    path.write_bytes(_empty())
    return engines.open_writer(path)


@cache
def _empty():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ledger.db")
        engine = engines.open_new(path)
        schema.upgrade(engine)
        engine.dispose()
        return path.read_bytes()
