"""`python -m gateway.texts.compile FOLDER...`: write what programs read (`.mo`) of what people edit (`.po`).

Sorts the messages by code too: two people who add texts meet in one place only when they add the same one.
"""

from __future__ import annotations

import io
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

EDITED: Final = "*.po"
"""Files of a catalogue that people edit."""

NEVER = datetime(2026, 1, 1, tzinfo=UTC)

WIDTH = 110
"""Columns at which a long text goes on in the next line."""


def edited(path: Path) -> Catalog:
    """Messages as people edited them."""
    with path.open("rb") as file:
        return read_po(file, locale=path.stem)


def source_of(catalog: Catalog) -> bytes:
    """Text of a file that people edit, as it should be written."""
    buffer = io.BytesIO()
    write_po(buffer, catalog, width=WIDTH, omit_header=True, sort_output=True)
    return buffer.getvalue().strip() + b"\n"


def compiled(catalog: Catalog) -> bytes:
    """File that programs read. Carries no dates, so that equal texts make equal files."""
    plain = Catalog(locale=catalog.locale, charset="utf-8", creation_date=NEVER, revision_date=NEVER)
    for message in catalog:
        if message.id:
            plain.add(message.id, message.string)
    buffer = io.BytesIO()
    write_mo(buffer, plain)
    return buffer.getvalue()


def main() -> None:
    """Entry point."""
    for folder in map(Path, sys.argv[1:]):
        for path in sorted(folder.glob(EDITED)):
            catalog = edited(path)
            path.write_bytes(source_of(catalog))
            path.with_suffix(".mo").write_bytes(compiled(catalog))


if __name__ == "__main__":
    main()
