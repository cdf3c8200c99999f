"""Emulated cards that outlive their process: each card's stored state in a file of its own, replaced as a whole.

    with CardStore(folder) as store:
        card = store.insert(profile)    # as it was left, or fresh from its profile

A command that changes the card is answered only when its file is durable, and where that fails the card is as it was
before: so a debit is in the file whole or not at all, whenever the process is killed. The file is JSON that others may
read at any time; files of a card are named by their short id in decimal, bytes are hexadecimal. A folder is used by one
process at a time.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

from pydantic import ConfigDict, ValidationError, create_model

from hardware.emulators.chip import Chip, RandomSource
from hardware.emulators.profiles import Profile

_HEXADECIMAL: Final = ConfigDict(ser_json_bytes="hex", val_json_bytes="hex")


class StateError(ValueError):
    """State that does not belong to its card; names the file and the cure."""


class CardStore:
    """Folder with states of cards, for one process at a time."""

    def __init__(self, folder: Path) -> None:
        """Take the folder, which is made unless it is there. Raises OSError, where another process uses it too."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._held = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._held)
            raise OSError(error.errno, "cards of this folder are used by another process", str(folder)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._held)

    def insert(self, profile: Profile, random: RandomSource = secrets.token_bytes) -> Chip:
        """Card of a profile as it was left, kept from now on. Raises StateError, and OSError."""
        path = self._path(profile)
        return self._kept(profile, _stored(path, profile) if path.exists() else None, random)

    def personalise(self, profile: Profile, random: RandomSource = secrets.token_bytes) -> Chip:
        """Card of a profile anew, kept from now on; what it was is lost."""
        return self._kept(profile, None, random)

    def _kept(self, profile: Profile, stored: Any, random: RandomSource) -> Chip:  # noqa: ANN401 - by kind of card
        chip = profile.make(random)
        if stored is not None:
            chip.restore(stored)
        head = {"name": profile.name, "kind": profile.kind, "profile": profile.table}
        path = self._path(profile)

        def keep(stored: Any) -> None:  # noqa: ANN401 - by kind of card
            self._replace(path, {**head, "stored": as_json(stored)})

        if stored is None:
            keep(chip.stored)
        chip.keep(keep)
        return chip

    def _path(self, profile: Profile) -> Path:
        return self._folder / f"{profile.name}.json"

    def _replace(self, path: Path, content: Mapping[str, Any]) -> None:
        temporary = path.with_suffix(".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(content, file, ensure_ascii=False, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        os.fsync(self._held)  # the folder: else the new name may be lost with the power


def as_json(stored: Any) -> Any:  # noqa: ANN401 - by kind of card
    """JSON of what a card stores."""
    kind: Any = type(stored)
    return _model(kind)(stored=stored).model_dump(mode="json")["stored"]


def from_json(value: Any, kind: type) -> Any:  # noqa: ANN401 - by kind of card
    """Stored state of a card, as a value of this kind. Raises ValidationError."""
    return _model(kind).model_validate_json(json.dumps({"stored": value})).stored


@cache
def _model(kind: Any) -> Any:  # noqa: ANN401 - made at run time
    """Model of a file whose cards store values of this kind."""
    return create_model("State", __config__=_HEXADECIMAL, stored=(kind, ...))


def _stored(path: Path, profile: Profile) -> Any:  # noqa: ANN401 - by kind of card
    """State in a file, as a card of this profile stores it. Raises StateError."""
    cure = f"remove it, or have the card personalised anew: etcbench lab personalise --card {profile.name}"
    try:
        content = json.loads(path.read_text("utf-8"))
        told = (content["kind"], content["profile"])
        stored = from_json(content["stored"], type(profile.make().stored))
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise StateError(f"{path}: is no state of card {profile.name} ({type(error).__name__}): {cure}") from error
    if told != (profile.kind, dict(profile.table)):
        raise StateError(f"{path}: card {profile.name} was made from another profile: {cure}")
    return stored
