"""Verification in parts, as workers would do it, in this process: it must find the very same."""

from contextlib import contextmanager
from unittest import mock

from gateway.ledger import verify as verification
from gateway.ledger import verify_chains
from gateway.ledger.workers import Readers


@contextmanager
def _three_readers(engine, _number):
    with engine.connect() as connection:
        readers = Readers(connection, [])
        readers.number = 3
        yield readers


def verify(engine, keys, **more):
    """Verify the ledger whole and in parts of two rows; asserts that both say the same."""
    whole = verification.verify(engine, keys, **more)
    with mock.patch.object(verification, "reading", _three_readers), mock.patch.object(verify_chains, "ROWS_EACH", 2):
        assert verification.verify(engine, keys, **more) == whole
    return whole
