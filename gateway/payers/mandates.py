"""Who pays: from what was read (card, tag contract, plate) to a mandate, and from there to exactly one payer.

Mandates and their credentials live in the ledger's database and come in as CSV. An import is all or nothing: one bad
line and the old mandates stay.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, null, select

from gateway.debit.claims import Payer
from gateway.ledger import tables
from gateway.ledger.transaction import Transaction
from gateway.model.passage import Funding
from gateway.model.plate import Plate, PlateColour, PlateMatch, compare, normalise
from gateway.payers.status_lists import plate_key

COLUMNS = (
    "mandate_id",
    "status",
    "funding",
    "channel",
    "contract_ref",
    "limit_fen",
    "stand_in_limit_fen",
    "card_number",
    "contract",
    "plate",
    "plate_colour",
)

PROBLEMS_MAX = 20
"""Bad lines named in one error: enough to see a pattern."""


class MandateStatus(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"
    CLOSED = "closed"


class CredentialKind(StrEnum):
    CARD = "card"
    CONTRACT = "contract"
    PLATE = "plate"


@dataclass(frozen=True, slots=True)
class Mandate:
    """Permission to collect. `plate` is the vehicle the credential was given for, None when it was not stated."""

    mandate_id: str
    status: MandateStatus
    funding: Funding
    channel: str | None
    contract_ref: str | None
    limit_fen: int | None
    stand_in_limit_fen: int
    plate: Plate | None = None


@dataclass(frozen=True, slots=True)
class Credential:
    """What proves a mandate's payer."""

    kind: CredentialKind
    key: str
    mandate_id: str
    plate: Plate | None


@dataclass(frozen=True, slots=True)
class IssuerPolicy:
    """How cards of one issuer pay; the issuer is known by the region bytes of file 0015."""

    name: str
    charge_card_without_mandate: Funding | None = None
    """`issuer_clearing` where the issuer collects from its card holders itself, None = such cards are refused."""


class MandateImportError(Exception):
    """The file is refused; every problem names its line and column and what is expected."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        shown = problems[:PROBLEMS_MAX]
        more = len(problems) - len(shown)
        self.lines = [*shown, *([f"and {more} more"] if more else [])]
        """For people, one a problem."""
        super().__init__("\n".join(self.lines))


def find(connection: Connection, kind: CredentialKind, key: str) -> Mandate | None:
    """The mandate behind a credential."""
    m, c = tables.mandate, tables.credential
    row = connection.execute(
        select(m, c.c.plate, c.c.plate_colour)
        .join_from(c, m, m.c.id == c.c.mandate_id)
        .where(c.c.kind == kind.value, c.c.key == key)
    ).one_or_none()
    return None if row is None else _mandate(row)


def by_id(connection: Connection, mandate_id: str) -> Mandate | None:
    """A mandate by its own id, without any credential."""
    m = tables.mandate
    row = connection.execute(
        select(m, null().label("plate"), null().label("plate_colour")).where(m.c.id == mandate_id)
    ).one_or_none()
    return None if row is None else _mandate(row)


def stand_in_limit(tx: Transaction, mandate_id: str | None) -> int:
    """Fen that may be owed under a mandate on our own decision; zero without one."""
    if mandate_id is None:
        return 0
    found = tx.find(tables.mandate, id=mandate_id)
    return 0 if found is None else int(found.stand_in_limit_fen)


def payer_of_stored_value(issuer: IssuerPolicy) -> Payer:
    """A stored-value card: the purchase is the payment, the issuer owes it to us."""
    return Payer(Funding.PURSE, issuer.name)


def payer_of_charge_card(issuer: IssuerPolicy, mandate: Mandate | None, vehicle: Plate) -> Payer | str:
    """A charge card: its mandate's funding, else the issuer's policy, else the code of the reason why not."""
    if mandate is None:
        if issuer.charge_card_without_mandate is Funding.ISSUER_CLEARING:
            return Payer(Funding.ISSUER_CLEARING, issuer.name)
        return "no_mandate"
    refusal = refusal_of(mandate, vehicle)
    if refusal is not None:
        return refusal
    name = mandate.channel if mandate.funding is Funding.BANK_ONLINE else issuer.name
    if name is None:
        return "no_mandate"
    return Payer(
        mandate.funding,
        name,
        mandate.mandate_id,
        mandate.contract_ref,
        mandate.limit_fen,
        mandate.stand_in_limit_fen,
    )


def payer_of_contract(mandate: Mandate | None, vehicle: Plate) -> Payer | str:
    """A credential without a card (tag contract, plate): only a bank mandate can pay."""
    if mandate is None or mandate.funding is not Funding.BANK_ONLINE or mandate.channel is None:
        return "no_mandate"
    refusal = refusal_of(mandate, vehicle)
    if refusal is not None:
        return refusal
    return Payer(
        Funding.BANK_ONLINE,
        mandate.channel,
        mandate.mandate_id,
        mandate.contract_ref,
        mandate.limit_fen,
        mandate.stand_in_limit_fen,
    )


def refusal_of(mandate: Mandate, vehicle: Plate) -> str | None:
    """Why an existing mandate does not pay for this vehicle; None when it does.

    A plate that was not read never matches silently: a mandate given for one vehicle pays for that one only.
    """
    if mandate.status is MandateStatus.PAUSED:
        return "mandate_paused"
    if mandate.status is MandateStatus.CLOSED:
        return "mandate_closed"
    if mandate.plate is not None and compare(mandate.plate, vehicle) is not PlateMatch.SAME:
        return "mandate_plate_mismatch"
    return None


# --- import -------------------------------------------------------------------------------------------------------


def read_csv(lines: Iterable[str]) -> tuple[dict[str, Mandate], list[Credential]]:
    """Parse and check a whole file; raises `MandateImportError` with every problem found.

    One line gives one mandate and up to three credentials (card number, tag contract, plate). Further lines of the
    same mandate add credentials and must repeat its values.
    """
    reader = csv.DictReader(lines)
    missing = [c for c in COLUMNS if c not in (reader.fieldnames or ())]
    if missing:
        raise MandateImportError([f"line 1: column {c} is missing; expected {','.join(COLUMNS)}" for c in missing])
    mandates: dict[str, Mandate] = {}
    credentials: dict[tuple[CredentialKind, str], Credential] = {}
    problems: list[str] = []
    for row in reader:
        found = _Line(reader.line_num, row, problems)
        mandate = found.mandate()
        if mandate is None:
            continue
        known = mandates.setdefault(mandate.mandate_id, mandate)
        if known != mandate:
            problems.append(f"line {reader.line_num}: mandate {mandate.mandate_id} differs from its earlier line")
        for credential in found.credentials(mandate.mandate_id):
            other = credentials.setdefault((credential.kind, credential.key), credential)
            if other != credential:
                problems.append(
                    f"line {reader.line_num}, column {credential.kind}: the credential belongs to mandate "
                    f"{other.mandate_id} already; give it to one mandate only"
                )
    if problems:
        raise MandateImportError(problems)
    return mandates, list(credentials.values())


def replace_all(tx: Transaction, mandates: Mapping[str, Mandate], credentials: Iterable[Credential]) -> None:
    """Put the imported mandates in force, all at once."""
    tx.clear(tables.credential)
    tx.clear(tables.mandate)
    for mandate in mandates.values():
        tx.insert(tables.mandate, **_row(mandate, tx.now_us))
    for credential in credentials:
        plate = credential.plate
        tx.insert(
            tables.credential,
            kind=credential.kind.value,
            key=credential.key,
            mandate_id=credential.mandate_id,
            plate=None if plate is None else plate.text,
            plate_colour=None if plate is None or plate.colour is None else int(plate.colour),
        )


class _Line:
    """One line of the file; problems go to the shared list."""

    def __init__(self, number: int, row: Mapping[str, str | None], problems: list[str]) -> None:
        self._number = number
        self._row = {column: (row[column] or "").strip() for column in COLUMNS}
        self._problems = problems

    def mandate(self) -> Mandate | None:
        before = len(self._problems)
        mandate_id = self._text("mandate_id", required=True)
        status = self._choice("status", MandateStatus)
        funding = self._choice("funding", Funding)
        if funding is Funding.PURSE:
            self._problem("funding", "a purse needs no mandate; use bank_online or issuer_clearing")
        online = funding is Funding.BANK_ONLINE
        channel = self._text("channel", required=online)
        contract_ref = self._text("contract_ref", required=online)
        limit = self._fen("limit_fen")
        stand_in = self._fen("stand_in_limit_fen")
        if len(self._problems) > before or mandate_id is None or status is None or funding is None:
            return None
        return Mandate(mandate_id, status, funding, channel, contract_ref, limit, stand_in or 0)

    def credentials(self, mandate_id: str) -> list[Credential]:
        plate = self._plate()
        found = []
        card = self._text("card_number")
        if card is not None:
            if len(card) != 20 or not card.isdigit():
                self._problem("card_number", "expected 20 digits: network (4) and inner number (16)")
            found.append(Credential(CredentialKind.CARD, card, mandate_id, plate))
        contract = self._text("contract")
        if contract is not None:
            if len(contract) != 32 or any(c not in "0123456789ABCDEF" for c in contract.upper()):
                self._problem("contract", "expected 32 hex digits: issuer (16) and serial (16) of the tag")
            found.append(Credential(CredentialKind.CONTRACT, contract.upper(), mandate_id, plate))
        if plate is not None and plate.known:
            found.append(Credential(CredentialKind.PLATE, plate_key(plate), mandate_id, plate))
        if not found:
            self._problem("card_number", "a mandate needs a card number, a tag contract or a plate with its colour")
        return found

    def _plate(self) -> Plate | None:
        text = normalise(self._row["plate"])
        if not text:
            return None
        colour = self._row["plate_colour"]
        if not colour:
            return Plate(text)
        try:
            return Plate(text, PlateColour(int(colour)))
        except ValueError:
            known = ", ".join(f"{int(c)} {c.en}" for c in PlateColour)
            self._problem("plate_colour", f"{colour!r} is no colour code; known are {known}")
            return Plate(text)

    def _text(self, column: str, *, required: bool = False) -> str | None:
        value = self._row[column]
        if not value and required:
            self._problem(column, "must not be empty here")
        return value or None

    def _choice(self, column: str, kind: type[Any]) -> Any:  # noqa: ANN401 - one of the enum's own members
        try:
            return kind(self._row[column])
        except ValueError:
            self._problem(column, f"{self._row[column]!r} is none of {', '.join(str(k) for k in kind)}")
            return None

    def _fen(self, column: str) -> int | None:
        value = self._row[column]
        if not value:
            return None
        if not value.isdigit():
            self._problem(column, f"{value!r} is no amount in whole fen")
            return None
        return int(value)

    def _problem(self, column: str, text: str) -> None:
        self._problems.append(f"line {self._number}, column {column}: {text}")


def _row(mandate: Mandate, now_us: int) -> dict[str, Any]:
    return {
        "id": mandate.mandate_id,
        "status": mandate.status.value,
        "funding": mandate.funding.value,
        "channel": mandate.channel,
        "contract_ref": mandate.contract_ref,
        "limit_fen": mandate.limit_fen,
        "stand_in_limit_fen": mandate.stand_in_limit_fen,
        "imported_at": now_us,
    }


def _mandate(row: Row[Any]) -> Mandate:
    plate = None
    if row.plate:
        plate = Plate(row.plate, None if row.plate_colour is None else PlateColour(row.plate_colour))
    return Mandate(
        mandate_id=row.id,
        status=MandateStatus(row.status),
        funding=Funding(row.funding),
        channel=row.channel,
        contract_ref=row.contract_ref,
        limit_fen=row.limit_fen,
        stand_in_limit_fen=row.stand_in_limit_fen,
        plate=plate,
    )
