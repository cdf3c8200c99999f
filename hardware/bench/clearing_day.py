"""Day file of an emulated site's bank, for `etcgw clearing run`."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import typer

from hardware.bench.live import etcgw, near
from hardware.bench.processes import BANK_BOOK, ProgramFailed
from hardware.emulators import bank_day_file


def write(folder: Path, day: str, out: Path | None) -> str:
    """Write the bank's file of a settlement day; returns what was written, and the command that clears the day."""
    wanted = bank_day_file.settlement_day(datetime.now(UTC) - timedelta(days=1)) if day == "yesterday" else day
    if len(wanted) != len("20261123") or not (wanted.isascii() and wanted.isdigit()):
        raise typer.BadParameter(f"{day!r} is no day; write it like 20261123", param_hint="--day")
    book, path = folder / BANK_BOOK, out or folder / f"bank-a-{wanted}.csv"
    try:
        lines, net_fen = bank_day_file.write_of_book(book, path, wanted)
    except sqlite3.Error as error:
        raise ProgramFailed(f"{book} is no book of an emulated bank: {error}") from error
    clear = f"{etcgw()} clearing run {wanted} --config {near(folder / 'site.toml')} --bank-file bank-a={near(path)}"
    return f"{near(path)}: {lines} lines, {net_fen} fen\n{clear}"
