"""Passwords and keys that a site file names by their files: one line each, for the gateway's user alone (mode 0600)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gateway import private_files
from gateway.documents import DocumentError, Problem, unreadable
from gateway.texts.catalogue import Pair, Text, Words
from protocols.http_login import Login

FILE_BYTES_MAX: Final = 1024
"""Longest such file: what is larger is none."""


class SecretError(DocumentError):
    """Error of a secret's file that cannot be used; names the key of the site file and the cure."""


def text_of(key: str, path: Path) -> str:
    """Read the one line of a file. `key`: that of the site file which names it. Raises `SecretError`."""
    try:
        text = private_files.read_private(path, FILE_BYTES_MAX)
    except OSError as error:
        raise _error(key, path, unreadable(error).problem, Words("secret.make-file")) from error
    except private_files.ReadByOthers as error:
        cure = Pair.same(f"chmod 600 {path}")
        raise _error(key, path, Words("chain-key.read-by-others"), cure, f"{error.mode:04o}") from error
    try:
        line = text.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        line = ""
    if not line.isprintable() or not line or len(text) > FILE_BYTES_MAX:
        raise _error(key, path, Words("secret.not-a-line"), Words("secret.make-file"))
    return line


def login_of(key: str, path: Path) -> Login:
    """Read a login, `user:password`, in the same way."""
    user, colon, password = text_of(key, path).partition(":")
    if not user or not colon:
        raise _error(key, path, Words("secret.not-a-login"), Words("secret.make-file"))
    return Login(user, password)


def _error(key: str, path: Path, problem: Text, cure: Text, value: str = "") -> SecretError:
    """Error; what stands in the file is never shown."""
    return SecretError(path, [Problem(key, value, problem, cure)])
