"""Chain keys from files: read, checked, made. The only place that handles a key's text.

A key file holds 64 hex digits and a line's end, and belongs to the gateway's user alone (mode 0600). A key that was
published, as the one of the bench is, proves nothing: production refuses it by its id.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gateway import private_files
from gateway.documents import DocumentError, Problem, unreadable
from gateway.ledger.chain import SECRET_BYTES, ChainKey, ChainKeys
from gateway.texts.catalogue import Pair, Words

PUBLISHED: Final = frozenset({"5f23573b"})
"""Published key ids: the bench's, which comes with the source."""

FILE_BYTES_MAX: Final = 256
"""Longest key file: it has 65 bytes; what is larger is not one."""


class ChainKeyError(DocumentError):
    """Problem of a key file that cannot be used; names the key of the site file and the cure."""


def load(current: Path, retired: Sequence[Path], *, production: bool) -> ChainKeys:
    """Load the keys of a site. Raises `ChainKeyError` with every problem of the first bad file."""
    keys = ChainKeys(
        _read("storage.chain_key", current, production=production),
        tuple(_read("storage.retired_chain_keys", path, production=production) for path in retired),
    )
    ids = [key.id for key in keys]
    if len(set(ids)) < len(ids):
        problem = Problem("storage.retired_chain_keys", "", Words("chain-key.same-twice"), Words("chain-key.name-once"))
        raise ChainKeyError(current, [problem])
    return keys


def make(path: Path) -> ChainKey:
    """Make a random key in a new file. Raises `ChainKeyError` where there is a file already, or none can be made."""
    secret = secrets.token_bytes(SECRET_BYTES)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secret.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        problem = Problem("file", "", Words("chain-key.there-already"), Words("chain-key.new-file"))
        raise ChainKeyError(path, [problem]) from error
    except OSError as error:
        problem = Problem("file", "", unreadable(error).problem, Words("chain-key.writable-folder"))
        raise ChainKeyError(path, [problem]) from error
    return ChainKey(secret)


def _read(name: str, path: Path, *, production: bool) -> ChainKey:
    try:
        text = private_files.read_private(path, FILE_BYTES_MAX)
    except OSError as error:
        problem = Problem(name, "", unreadable(error).problem, Words("chain-key.make-and-copy"))
        raise ChainKeyError(path, [problem]) from error
    except private_files.ReadByOthers as error:
        cure = Pair.same(f"chmod 600 {path}")
        problem = Problem(name, f"{error.mode:04o}", Words("chain-key.read-by-others"), cure)
        raise ChainKeyError(path, [problem]) from error
    key = _parsed(name, path, text)
    if production and key.id.hex() in PUBLISHED:
        problem = Problem(name, "", Words("chain-key.published"), Words("chain-key.make-own"))
        raise ChainKeyError(path, [problem])
    return key


def _parsed(name: str, path: Path, text: bytes) -> ChainKey:
    """Parse a key. The value is never shown: it may be a key with a slip in it."""
    try:
        secret = bytes.fromhex(text.decode("ascii").strip())
        if len(secret) == SECRET_BYTES:
            return ChainKey(secret)
    except ValueError:
        secret = b""
    problem = Problem(name, "", Words("chain-key.not-hex", digits=2 * SECRET_BYTES), Words("chain-key.make-right"))
    raise ChainKeyError(path, [problem])
