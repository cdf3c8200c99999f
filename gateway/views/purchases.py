"""Purchases on cards, with file 0019 before and after."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select

from gateway.ledger import tables
from gateway.views.rows import view_of
from protocols.card import FieldText, describe_station

_p, _f, _d = tables.purchase, tables.purchase_file, tables.debit


@dataclass(frozen=True, slots=True)
class StationFile:
    """File 0019; `raw` is None where masked, because it holds a plate."""

    raw: bytes | None
    fields: tuple[FieldText, ...]


@dataclass(frozen=True, slots=True)
class StationFiles:
    """File 0019 as read and as we write it: equal to `after` on the card proves that the money was taken."""

    before: StationFile
    after: StationFile


@dataclass(frozen=True, slots=True)
class Purchase:
    """Purchase asked of a card, and how it ended. `purchase_time`: YYYYMMDDhhmmss as on the card; `reason`: code of
    `gateway.model.reasons`; `file_0019`: None when erased."""

    attempt_no: int
    state: str
    written_fen: int
    purchase_time: str
    error: int | None
    reason: str | None
    balance_before_fen: int | None
    balance_after_fen: int | None
    terminal: str | None
    card_serial: int | None
    psam_serial: int | None
    tac: str | None
    tac_source: str | None
    algorithm: int | None
    key_version: int | None
    created_us: int
    changed_us: int
    file_0019: StationFiles | None


def purchases_of(connection: Connection, passage_id: str, *, unmask: bool) -> tuple[Purchase, ...]:
    """A passage's purchases, oldest first."""
    query = (
        select(_p, _f.c.before, _f.c.after)
        .join_from(_p, _d, _d.c.id == _p.c.debit_id)
        .outerjoin(_f, _f.c.purchase_id == _p.c.id)
    )

    def file(data: bytes) -> StationFile:
        return StationFile(data if unmask else None, tuple(describe_station(data, unmask=unmask)))

    def files(before: bytes | None, after: bytes) -> StationFiles | None:
        return None if before is None else StationFiles(file(before), file(after))

    return tuple(
        view_of(Purchase, row, file_0019=files(row.before, row.after))
        for row in connection.execute(query.where(_d.c.passage_id == passage_id).order_by(_p.c.attempt_no))
    )
