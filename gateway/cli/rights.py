"""Files that belong to the gateway's own user: told apart from files that are not there, or that are damaged."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from gateway.cli.errors import CliFault, ExitCode
from gateway.texts.catalogue import Words


def need_right(path: Path, right: int = os.R_OK) -> None:
    """Raise `CliFault` where this user may not use a file, which depends on every folder above it.

    Asked before anything else: a database in a folder of another user fails for stranger reasons, and for others while
    a gateway has it open. A file that is not there is nobody's.
    """
    for place in (*reversed(path.parents), path):
        try:
            facts = place.stat()
        except OSError:
            return
        if not os.access(place, right if place == path else os.X_OK, effective_ids=True):
            raise _refused(path, _account(facts.st_uid))


def _refused(path: Path, owner: str) -> CliFault:
    return CliFault(
        ExitCode.UNAVAILABLE,
        "not_permitted",
        Words("rights.for-owner-alone", path=path, owner=owner),
        Words("rights.gateway-writes-says-who-passed"),
        Words("rights.run-command-as-user-sudo", owner=owner),
    )


def _account(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"
