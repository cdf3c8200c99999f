"""The chain key of benches and tests. It is published, so it proves nothing: production refuses it by its id."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from gateway.ledger.chain import ChainKey, ChainKeys

BENCH_KEY: Final = ChainKey(hashlib.sha256(b"etc-gateway bench chain key").digest())
KEYS: Final = ChainKeys(BENCH_KEY)

FILE_NAME: Final = "chain.key"
"""Name of the key file where a site file names none."""


def write_key_file(folder: Path) -> Path:
    """The bench's key as a file of a site in this folder."""
    path = folder / FILE_NAME
    path.touch(0o600)
    path.write_text(BENCH_KEY.secret.hex() + "\n", encoding="ascii")
    return path
