"""Verification in parts, as workers would do it, in this process: it must find the very same."""

import re
from contextlib import contextmanager
from unittest import mock

from gateway.ledger import verify as verification
from gateway.ledger import verify_chains
from gateway.ledger.workers import Readers
from gateway.texts.foreign import text_of


@contextmanager
def _three_readers(engine, _number):
    with engine.connect() as connection:
        readers = Readers(connection, [])
        readers.number = 3
        yield readers


def verify(engine, keys, **more):
    """Verify the ledger whole and in parts of two rows; asserts that both say the same, and that people can read it in
    Chinese, too."""
    whole = verification.verify(engine, keys, **more)
    with mock.patch.object(verification, "reading", _three_readers), mock.patch.object(verify_chains, "ROWS_EACH", 2):
        assert verification.verify(engine, keys, **more) == whole
    for finding in (finding for check in whole for finding in check.findings):
        assert re.search("[\u4e00-\u9fff]", text_of(finding.problem).zh), finding
    return whole
