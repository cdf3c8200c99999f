"""Engines of databases that hold a ledger, one module for each, with the functions named here; the rest of the ledger
is portable SQLAlchemy Core and knows this package alone.
"""

from gateway.ledger.engines.sqlite import (
    BUSY_TIMEOUT_MS,
    IN_ITS_KEY,
    copy_into,
    forget_log,
    log_pages_left,
    open_all,
    open_eraser,
    open_new,
    open_reader,
    open_writer,
    partial_index,
    path_of,
    problem_of_file,
    scratch,
    take_over_log,
    trouble_of,
    without_foreign_keys,
)
from gateway.ledger.engines.trouble import StorageTrouble

__all__ = [
    "BUSY_TIMEOUT_MS",
    "IN_ITS_KEY",
    "StorageTrouble",
    "copy_into",
    "forget_log",
    "log_pages_left",
    "open_all",
    "open_eraser",
    "open_new",
    "open_reader",
    "open_writer",
    "partial_index",
    "path_of",
    "problem_of_file",
    "scratch",
    "take_over_log",
    "trouble_of",
    "without_foreign_keys",
]
