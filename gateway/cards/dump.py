"""Dump of a card: the JSON of `etcgw card read --json --unmask`, read again as the contents it was made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gateway.cards.contents import APPLICATION, CardContents, FileRead
from gateway.texts.catalogue import Text, Words

DUMP_BYTES_MAX: Final = 1024 * 1024
"""Bytes of one dump; a full card takes some 30 KiB."""


class DumpWrong(Exception):
    """Refusal of a file that is no dump of a card."""

    def __init__(self, file: Path, problem: Text) -> None:
        self.problem = Words("card-dump.wrong", file=file, problem=problem)
        super().__init__(self.problem)


def read_json(file: Path) -> Mapping[str, Any]:
    """JSON object of a file. Raises DumpWrong and OSError."""
    with file.open("rb") as stream:
        data = stream.read(DUMP_BYTES_MAX + 1)
    if len(data) > DUMP_BYTES_MAX:
        raise DumpWrong(file, Words("card-dump.too-long", most=DUMP_BYTES_MAX))
    try:
        found = json.loads(data)
    except ValueError as error:
        raise DumpWrong(file, Words("card-dump.no-json", error=str(error))) from error
    if not isinstance(found, dict):
        raise DumpWrong(file, Words("card-dump.no-card"))
    return found


def contents_of_dump(file: Path) -> CardContents:
    """Contents that a dump tells. Raises DumpWrong and OSError."""
    found = read_json(file)
    try:
        reads = [
            FileRead(str(one["file"]), int(one["sw"], 16), b"" if one["raw"] is None else bytes.fromhex(one["raw"]))
            for one in found["files"]
        ]
        masked = all(one["raw"] is None for one in found["files"])
        contents = CardContents(str(found["reader"]), bytes.fromhex(found["atr"]), {read.name: read for read in reads})
    except (KeyError, TypeError, ValueError) as error:
        raise DumpWrong(file, Words("card-dump.no-card")) from error
    if masked:
        raise DumpWrong(file, Words("card-dump.masked"))
    if APPLICATION not in contents.files:
        raise DumpWrong(file, Words("card-dump.no-card"))
    return contents
