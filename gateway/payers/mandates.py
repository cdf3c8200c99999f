"""Mandates: from what was read (card, tag contract, plate) to a mandate, and from there to exactly one payer.

Mandates and their credentials live in the ledger's database and come in as CSV. One bad line and the old mandates stay;
how a good file comes in force is told in `gateway.payers.mandate_import`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, select

from gateway.debit.claims import Payer
from gateway.ledger import tables
from gateway.ledger.reading import LedgerReader
from gateway.ledger.transaction import Transaction
from gateway.model.passage import Funding
from gateway.model.plate import Plate, PlateColour, PlateMatch, compare, normalise
from gateway.model.states import MandateStatus
from gateway.payers import fuel_terms
from gateway.payers.fuel_terms import NO_TERMS, FuelTerms
from gateway.payers.status_lists import plate_key
from gateway.texts.catalogue import Pair, Text, Words
from gateway.texts.places import place_in

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

LIMIT_DIGITS_MAX = 15
"""Digits of a limit in fen; more is no limit at all, and far below what the ledger can count to."""

CONTRACT_REF_DIGITS_MAX = 64
"""Width of an agreement number in the ledger. Digits alone, as F48 of `cups-pos-bcd`, which carries it."""

TEXT_CHARS_MAX = {"mandate_id": 64, "channel": 64, "plate": 16, "fuel_grades": 200}
"""Widths of texts in the ledger."""

GRADE_CHARS_MAX = 20
"""Width of a grade's name in a site file."""

_LITRES = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,3}))?")
"""Litres to the millilitre; nine digits before the point are no bound at all."""

PROBLEMS_MAX = 20
"""Bad lines named in one error: enough to see a pattern."""


class CredentialKind(StrEnum):
    CARD = "card"
    CONTRACT = "contract"
    PLATE = "plate"


@dataclass(frozen=True, slots=True)
class Mandate:
    """Permission to collect. `plate`: vehicle the credential was given for, None when it was not stated."""

    mandate_id: str
    status: MandateStatus
    funding: Funding
    channel: str | None
    contract_ref: str | None
    limit_fen: int | None
    stand_in_limit_fen: int
    plate: Plate | None = None
    fuel: FuelTerms = NO_TERMS
    """Terms at a pump; not read by `find`: whoever sells fuel asks for them where they bind."""


@dataclass(frozen=True, slots=True)
class Credential:
    """Credential that proves a mandate's payer."""

    kind: CredentialKind
    key: str
    mandate_id: str
    plate: Plate | None

    @property
    def name(self) -> tuple[CredentialKind, str]:
        """Name by which it is found; no two credentials have the same."""
        return self.kind, self.key


@dataclass(frozen=True, slots=True)
class IssuerPolicy:
    """Policy of one issuer for its cards; the issuer is known by the region bytes of file 0015."""

    name: str
    charge_card_without_mandate: Funding | None = None
    """`issuer_clearing` where the issuer collects from its card holders itself, None = such cards are refused."""


@dataclass(frozen=True, slots=True)
class Issuers:
    """Issuers whose cards are taken here, by the first four bytes of their identifier (region in GBK)."""

    by_region: Mapping[bytes, IssuerPolicy]

    def of(self, issuer: bytes) -> IssuerPolicy | None:
        """Find the policy behind an issuer identifier of a tag or a card."""
        return self.by_region.get(issuer[:4])


class MandateImportError(Exception):
    """Refusal of a file; every problem names its line and column and what is expected."""

    def __init__(self, problems: list[Text]) -> None:
        self.problems = problems
        shown = problems[:PROBLEMS_MAX]
        more = len(problems) - len(shown)
        self.lines: list[Text] = [*shown, *([Words("mandates.more-problems", count=more)] if more else [])]
        """Problems for people, one a line."""
        super().__init__("\n".join(map(str, self.lines)))


def find(connection: Connection, kind: CredentialKind, key: str) -> Mandate | None:
    """Find the mandate behind a credential."""
    m, c = tables.mandate, tables.credential
    row = connection.execute(
        select(m, c.c.plate, c.c.plate_colour)
        .join_from(c, m, m.c.id == c.c.mandate_id)
        .where(c.c.kind == kind.value, c.c.key == key)
    ).one_or_none()
    return None if row is None else read_mandate(row, _plate_of(row))


class MandateReader:
    """Reader of mandates as they stand in the ledger now."""

    def __init__(self, reader: LedgerReader) -> None:
        self._reader = reader

    async def find(self, kind: CredentialKind, key: str) -> Mandate | None:
        """Find the mandate behind a credential."""
        return await self._reader.look_up(lambda connection: find(connection, kind, key))


def stand_in_limit(tx: Transaction, mandate_id: str | None) -> int:
    """Stand-in limit of a mandate: fen that may be owed on our own decision; zero without one."""
    if mandate_id is None:
        return 0
    found = tx.find(tables.mandate, id=mandate_id)
    return 0 if found is None else int(found.stand_in_limit_fen)


def payer_of_stored_value(issuer: IssuerPolicy) -> Payer:
    """Payer of a stored-value card: the purchase is the payment, the issuer owes it to us."""
    return Payer(Funding.PURSE, issuer.name)


def payer_of_charge_card(issuer: IssuerPolicy, mandate: Mandate | None, vehicle: Plate) -> Payer | str:
    """Payer of a charge card: its mandate's funding, else the issuer's policy, else the code of the reason why not."""
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
    """Payer of a credential without a card (tag contract, plate): only a bank mandate can pay."""
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
    """Code of the reason why an existing mandate does not pay for this vehicle; None when it does.

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
        expected = ",".join(COLUMNS)
        raise MandateImportError([Words("mandates.column-missing", column=c, expected=expected) for c in missing])
    fuel = [c for c in reader.fieldnames or () if c.startswith(fuel_terms.PREFIX)]
    unknown = [c for c in fuel if c not in fuel_terms.COLUMNS]
    if unknown:
        known_columns = ",".join(fuel_terms.COLUMNS)
        raise MandateImportError([Words("mandates.column-unknown", column=c, known=known_columns) for c in unknown])
    mandates: dict[str, Mandate] = {}
    credentials: dict[tuple[CredentialKind, str], Credential] = {}
    problems: list[Text] = []
    for row in reader:
        found = _Line(reader.line_num, row, problems)
        mandate = found.mandate()
        if mandate is None:
            continue
        known = mandates.setdefault(mandate.mandate_id, mandate)
        if known != mandate:
            differs = Words("mandates.differs", mandate_id=mandate.mandate_id)
            problems.append(_at(reader.line_num, None, differs))
        for credential in found.credentials(mandate.mandate_id):
            other = credentials.setdefault((credential.kind, credential.key), credential)
            if other != credential:
                taken = Words("mandates.credential-taken", mandate_id=other.mandate_id)
                problems.append(_at(reader.line_num, credential.kind, taken))
    if problems:
        raise MandateImportError(problems)
    return mandates, list(credentials.values())


class _Line:
    """Line of the file; problems go to the shared list."""

    def __init__(self, number: int, row: Mapping[str, str | None], problems: list[Text]) -> None:
        self._number = number
        columns = (*COLUMNS, *fuel_terms.COLUMNS)
        self._row = {column: (row.get(column) or "").strip(" ") for column in columns}
        self._problems = problems
        if None in row or None in row.values():
            problems.append(_at(number, None, Words("mandates.other-columns")))
        for column, value in self._row.items():
            strange = next((c for c in value if not c.isprintable()), None)
            if strange is not None:
                self._problem(column, Words("mandates.strange-character", character=f"U+{ord(strange):04X}"))

    def mandate(self) -> Mandate | None:
        before = len(self._problems)
        mandate_id = self._text("mandate_id", required=True)
        status = self._choice("status", MandateStatus)
        funding = self._choice("funding", Funding)
        if funding in (Funding.PURSE, Funding.CASH):
            self._problem("funding", Words("mandates.no-funding", funding=funding.value))
        online = funding is Funding.BANK_ONLINE
        channel = self._text("channel", required=online)
        contract_ref = self._text("contract_ref", required=online)
        if contract_ref is not None and not _digits(contract_ref, CONTRACT_REF_DIGITS_MAX):
            self._problem("contract_ref", Words("mandates.contract-ref", most=CONTRACT_REF_DIGITS_MAX))
        limit = self._fen("limit_fen")
        stand_in = self._fen("stand_in_limit_fen")
        fuel = self._fuel()
        if len(self._problems) > before or mandate_id is None or status is None or funding is None:
            return None
        return Mandate(mandate_id, status, funding, channel, contract_ref, limit, stand_in or 0, fuel=fuel)

    def credentials(self, mandate_id: str) -> list[Credential]:
        plate = self._plate()
        found = []
        card = self._text("card_number")
        if card is not None:
            if len(card) != 20 or not _digits(card, 20):
                self._problem("card_number", Words("mandates.card-number"))
            found.append(Credential(CredentialKind.CARD, card, mandate_id, plate))
        contract = self._text("contract")
        if contract is not None:
            if len(contract) != 32 or any(c not in "0123456789ABCDEF" for c in contract.upper()):
                self._problem("contract", Words("mandates.contract"))
            found.append(Credential(CredentialKind.CONTRACT, contract.upper(), mandate_id, plate))
        if plate is not None and plate.known:
            found.append(Credential(CredentialKind.PLATE, plate_key(plate), mandate_id, plate))
        if not found:
            self._problem("card_number", Words("mandates.no-credential"))
        return found

    def _fuel(self) -> FuelTerms:
        return FuelTerms(
            grades=self._grades("fuel_grades"),
            per_sale_fen=self._fen("fuel_sale_fen"),
            per_sale_ml=self._ml("fuel_sale_litres"),
            per_day_fen=self._fen("fuel_day_fen"),
            per_day_ml=self._ml("fuel_day_litres"),
            per_month_fen=self._fen("fuel_month_fen"),
            per_month_ml=self._ml("fuel_month_litres"),
        )

    def _grades(self, column: str) -> tuple[str, ...] | None:
        value = self._text(column)
        if value is None:
            return None
        grades = {grade.strip() for grade in value.split(fuel_terms.BETWEEN_GRADES)}
        if "" in grades or any(len(grade) > GRADE_CHARS_MAX for grade in grades):
            self._problem(column, Words("mandates.grades", value=_short(value), most=GRADE_CHARS_MAX))
        return tuple(sorted(grades))

    def _ml(self, column: str) -> int | None:
        value = self._row[column]
        if not value:
            return None
        found = _LITRES.fullmatch(value)
        if found is None:
            self._problem(column, Words("mandates.no-litres", value=_short(value)))
            return None
        return int(found[1]) * 1000 + int((found[2] or "").ljust(3, "0"))

    def _plate(self) -> Plate | None:
        text = normalise(self._text("plate") or "")
        if not text:
            return None
        colour = self._row["plate_colour"]
        if not colour:
            return Plate(text)
        found = next((known for known in PlateColour if str(int(known)) == colour), None)
        if found is None:
            known = Pair(*(", ".join(f"{int(c)} {getattr(c, each)}" for c in PlateColour) for each in ("en", "zh")))
            self._problem("plate_colour", Words("mandates.no-colour", value=_short(colour), known=known))
        return Plate(text, found)

    def _text(self, column: str, *, required: bool = False) -> str | None:
        value = self._row[column]
        if not value and required:
            self._problem(column, Words("mandates.empty"))
        if len(value) > TEXT_CHARS_MAX.get(column, len(value)):
            self._problem(column, Words("mandates.too-long", count=len(value), most=TEXT_CHARS_MAX[column]))
        return value or None

    def _choice(self, column: str, kind: type[Any]) -> Any:  # noqa: ANN401 - one of the enum's own members
        try:
            return kind(self._row[column])
        except ValueError:
            known = ", ".join(str(k) for k in kind)
            self._problem(column, Words("mandates.none-of", value=_short(self._row[column]), known=known))
            return None

    def _fen(self, column: str) -> int | None:
        value = self._row[column]
        if not value:
            return None
        if not _digits(value, LIMIT_DIGITS_MAX):
            self._problem(column, Words("mandates.no-amount", value=_short(value), most=LIMIT_DIGITS_MAX))
            return None
        return int(value)

    def _problem(self, column: str, text: Text) -> None:
        self._problems.append(_at(self._number, column, text))


def _at(line: int, column: str | None, problem: Text) -> Words:
    return Words("mandates.problem", place=place_in(line, column), problem=problem)


def _digits(text: str, most: int) -> bool:
    """True when a text is a number as ledger and bank write it; `isdigit` alone takes those of other scripts."""
    return text.isascii() and text.isdigit() and len(text) <= most


def _short(value: str) -> str:
    return repr(value) if len(value) <= 40 else f"{value[:37]!r}..."


# --- rows of the ledger -------------------------------------------------------------------------------------------


def mandate_row(mandate: Mandate, now_us: int) -> dict[str, Any]:
    """Row of a mandate, as the ledger keeps it."""
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


def credential_row(credential: Credential) -> dict[str, Any]:
    """Row of a credential, as the ledger keeps it."""
    plate = credential.plate
    return {
        "kind": credential.kind.value,
        "key": credential.key,
        "mandate_id": credential.mandate_id,
        "plate": None if plate is None else plate.text,
        "plate_colour": None if plate is None or plate.colour is None else int(plate.colour),
    }


def read_mandate(row: Row[Any], plate: Plate | None = None, fuel: FuelTerms = NO_TERMS) -> Mandate:
    """Read a mandate from a row of the ledger, for the vehicle its credential names."""
    return Mandate(
        mandate_id=row.id,
        status=MandateStatus(row.status),
        funding=Funding(row.funding),
        channel=row.channel,
        contract_ref=row.contract_ref,
        limit_fen=row.limit_fen,
        stand_in_limit_fen=row.stand_in_limit_fen,
        plate=plate,
        fuel=fuel,
    )


def read_credential(row: Row[Any]) -> Credential:
    """Read a credential from a row of the ledger."""
    return Credential(CredentialKind(row.kind), row.key, row.mandate_id, _plate_of(row))


def _plate_of(row: Row[Any]) -> Plate | None:
    """Plate of the vehicle a credential was given for."""
    if not row.plate:
        return None
    return Plate(row.plate, None if row.plate_colour is None else PlateColour(row.plate_colour))
