"""The day file of the emulated bank: what its book says of one settlement day, as CSV, with a line of totals.

    kind,settlement_day,terminal,batch,stan,retrieval_reference,amount,contract,count
    sale,20261123,99010001,000001,000017,000000000042,1500,6217990100000001,
    total,20261123,,,,,1500,,1

Amounts are fen without sign; `reversal` names what it takes back by the keys of the original. Written from the book
alone, which the gateway never sees: so it proves the gateway's own.
"""

from __future__ import annotations

import argparse
import csv
import sqlite3
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from protocols.bank.transactions import BEIJING_OFFSET_MIN, local_time

COLUMNS = (
    "kind",
    "settlement_day",
    "terminal",
    "batch",
    "stan",
    "retrieval_reference",
    "amount",
    "contract",
    "count",
)
MIDNIGHT = "24:00"
"""Cut-over of a bank whose day turns with the calendar."""


def settlement_day(moment: datetime, cut_over: str = MIDNIGHT) -> str:
    """The bank's day, YYYYMMDD, of an aware moment; from `cut_over` (local HH:MM) on it is the next one."""
    local = local_time(moment, BEIJING_OFFSET_MIN)
    turned = local + timedelta(days=1) if f"{local:%H:%M}" >= cut_over else local
    return f"{turned:%Y%m%d}"


def write_day_file(
    path: Path, day: str, postings: Iterable[Mapping[str, Any]], cut_over: str = MIDNIGHT
) -> tuple[int, int]:
    """Write the postings of one settlement day; returns how many lines and what stays booked, in fen.

    A posting has kind, terminal, batch, stan, contract, amount_fen, at and reference, as the book keeps them: money
    that goes back has a negative amount there.
    """
    count = net = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for posting in postings:
            if settlement_day(datetime.fromisoformat(posting["at"]), cut_over) != day:
                continue
            count, net = count + 1, net + posting["amount_fen"]
            keys = [posting[name] for name in ("terminal", "batch", "stan", "reference")]
            rows.writerow([posting["kind"], day, *keys, abs(posting["amount_fen"]), posting["contract"], ""])
        rows.writerow(["total", day, "", "", "", "", net, "", count])
    return count, net


def write_of_book(book: Path, out: Path, day: str, cut_over: str = MIDNIGHT) -> tuple[int, int]:
    """Write the day file from the book of a host, also of one that is running. Raises OSError or sqlite3.Error."""
    with closing(sqlite3.connect(f"file:{book}?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        postings = [dict(row) for row in database.execute("SELECT * FROM posting ORDER BY id")]
    return write_day_file(out, day, postings, cut_over)


def main(argv: Sequence[str] | None = None) -> int:
    """Write a day file from the book of a host, also of one that is running."""
    parser = argparse.ArgumentParser(prog="bank-day-file", description="Day file from an emulated bank's book.")
    parser.add_argument("--book", type=Path, required=True, metavar="PATH", help="SQLite file of the host")
    parser.add_argument("--day", required=True, metavar="YYYYMMDD", help="settlement day")
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="file to write")
    parser.add_argument("--cut-over", default=MIDNIGHT, metavar="HH:MM", help="local time at which its day turns")
    arguments = parser.parse_args(argv)
    try:
        count, net = write_of_book(arguments.book, arguments.out, arguments.day, arguments.cut_over)
    except (OSError, sqlite3.Error) as error:
        sys.stderr.write(f"bank-day-file: {error}\n")
        return 3
    sys.stdout.write(f"{arguments.out}: {count} lines, {net} fen\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
