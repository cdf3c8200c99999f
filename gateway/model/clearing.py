"""Clearing arithmetic: splitting an amount, fees, and the match of our books with the lanes and the bank. Pure.

Amounts are integer fen. In this module a *signed* amount is positive where money came from the payer and negative where
it went back (a refund). Days are text, YYYYMMDD.

Theory of operation. Three witnesses tell of a day. The *ledger* says what a bank or issuer owes us (`OurRow`), the
*lane* wrote down what it decided (`LaneRecord`), the *bank's day file* says what the bank booked (`BankEntry`). `match`
compares them and puts every row of ours in exactly one state: `cleared` (the witnesses agree; it is settled),
`disputed` (they do not, or not yet), `rejected` (two people gave it up). Every disagreement is a `Difference` with a
kind; nothing that one witness alone tells is passed over. A row whose outcome we do not know ourselves is never cleared
by the file: the file's word is a finding for the debit engine, which settles the row by its own rules.

Of a *disputed* row (the bank knew its keys when they were sent for the first time) the file can prove one thing alone:
that nothing is booked under its keys. A line with them may be the earlier sale of a ledger that was lost, for fares
repeat and the file has no contract; and in a ledger that never lost anything it is ours only where the bank booked our
message and answered wrongly. So whatever its amount, such a line is a difference for people, never a finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum

from gateway.model.states import DebitState

BASIS_POINTS = 10_000

# --- splitting and fees ---------------------------------------------------------------------------------------------


def split_by_weight(amount_fen: int, weights: Sequence[int]) -> list[int]:
    """Shares of a signed amount in proportion to `weights`; they add up to the fen (largest remainder).

    Fen left over by rounding down go to the largest remainders, ties to the earlier unit. A refund is the mirror image
    of the fee, so paying both back and forth leaves nobody with a fen. Raises ValueError for weights that are negative
    or all zero.
    """
    whole = sum(weights)
    if whole <= 0 or min(weights) < 0:
        raise ValueError(f"weights {list(weights)} cannot split anything: none may be negative, one must be positive")
    if amount_fen < 0:
        return [-share for share in split_by_weight(-amount_fen, weights)]
    shares = [amount_fen * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(amount_fen * weights[i] % whole), i))
    for i in by_remainder[: amount_fen - sum(shares)]:
        shares[i] += 1
    return shares


class FeeRounding(StrEnum):
    """Rounding of parts of a fen; a fee on money that goes back is the mirror image."""

    HALF_UP = "half_up"
    HALF_EVEN = "half_even"
    DOWN = "down"
    UP = "up"


def fee_of(amount_fen: int, basis_points: int, rounding: FeeRounding) -> int:
    """Signed fee in fen on a signed amount: hundredths of a per cent of it, rounded."""
    fee, rest = divmod(abs(amount_fen) * basis_points, BASIS_POINTS)
    if rounding is FeeRounding.UP:
        more = rest > 0
    elif rounding is FeeRounding.DOWN:
        more = False
    elif rounding is FeeRounding.HALF_EVEN:
        more = rest * 2 > BASIS_POINTS or (rest * 2 == BASIS_POINTS and fee % 2 == 1)
    else:
        more = rest * 2 >= BASIS_POINTS
    fee += more
    return -fee if amount_fen < 0 else fee


# --- days -----------------------------------------------------------------------------------------------------------


def day_text(day: date) -> str:
    """YYYYMMDD."""
    return day.strftime("%Y%m%d")


def parse_day(text: str) -> date:
    """Day written as YYYYMMDD. Raises ValueError for anything else."""
    if len(text) != 8 or not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is no day; write it as YYYYMMDD")
    return date(int(text[:4]), int(text[4:6]), int(text[6:]))


def full_day(told: str, near: date) -> str:
    """YYYYMMDD of a settlement day as banks tell it: field 15 of ISO 8583 has MMDD only, the year nearest to `near`.

    Raises ValueError where it is no day.
    """
    if len(told) != 4:
        return day_text(parse_day(told))
    candidates = []
    for year in (near.year - 1, near.year, near.year + 1):
        try:
            candidates.append(parse_day(f"{year}{told}"))
        except ValueError:
            continue  # 0229 exists in some years only
    if not candidates:
        raise ValueError(f"{told!r} is no day; write it as MMDD")
    return day_text(min(candidates, key=lambda found: abs(found - near)))


def days_between(first: str, last: str) -> list[str]:
    """Every day from `first` to `last`, both included."""
    start, end = parse_day(first), parse_day(last)
    return [day_text(start + timedelta(days=i)) for i in range((end - start).days + 1)]


# --- the witnesses --------------------------------------------------------------------------------------------------


class RowState(StrEnum):
    """State of a row; each has exactly one."""

    CLEARED = "cleared"
    DISPUTED = "disputed"
    REJECTED = "rejected"


class Standing(StrEnum):
    """Standing of a row in our books."""

    POSTED = "posted"
    SUSPENSE = "suspense"
    """The bank approved it too late; it is being reversed."""
    REVERSED = "reversed"
    IN_DOUBT = "in_doubt"
    """Stored, unknown or being reversed: nobody here knows whether the bank booked it."""
    CONTRADICTED = "contradicted"
    """Approved, and then refused by the same bank: posted here, and the file says whether rightly."""
    DISPUTED = "disputed"
    """The bank knew its keys before: only that it booked nothing under them can be proved by its file."""
    NOT_POSTED = "not_posted"
    """Declined, or never sent."""


OPEN_STANDINGS = frozenset({Standing.IN_DOUBT, Standing.SUSPENSE, Standing.CONTRADICTED, Standing.DISPUTED})
"""Standings of rows of which the file may say that the bank booked nothing."""

PROVABLE_STANDINGS = frozenset({Standing.IN_DOUBT, Standing.CONTRADICTED})
"""Standings of rows of which a line with their keys says that the bank booked them."""


class BankLineKind(StrEnum):
    """Kind of a line in a bank's day file."""

    SALE = "sale"
    ADVICE = "advice"
    REFUND = "refund"
    REVERSAL = "reversal"
    """Takes back what the same keys booked."""


class DifferenceKind(StrEnum):
    """Kind of a disagreement between the witnesses."""

    MISSING_AT_BANK = "missing_at_bank"
    """Posted here, not in the bank's file of its day."""
    MISSING_HERE = "missing_here"
    """In the bank's file, and our books have no such message."""
    AMOUNT_DIFFERS = "amount_differs"
    DUPLICATE_AT_BANK = "duplicate_at_bank"
    """Booked more than once for one message, in one file or in files of two days."""
    REVERSED_AT_BANK = "reversed_at_bank"
    """Posted here; the bank took it back."""
    NOT_POSTED_HERE = "not_posted_here"
    """Booked by the bank; reversed, in suspense or declined here."""
    IN_DOUBT = "in_doubt"
    """Booked by the bank, and we do not know yet: the file is the proof."""
    OTHER_DAY = "other_day"
    """Both agree on the money and not on the day: a message around the bank's cut-over."""
    MISSING_LANE_RECORD = "missing_lane_record"
    LANE_AMOUNT_DIFFERS = "lane_amount_differs"
    """The lane decided another amount than the books released."""
    LANE_WITHOUT_CLAIM = "lane_without_claim"
    """The lane let a vehicle go for a claim, and the books released none."""
    PROOF_MISSING = "proof_missing"
    """An issuer pays for a purchase with its TAC, and there is none."""


EXPLAINABLE = frozenset(
    {
        DifferenceKind.OTHER_DAY,
        DifferenceKind.MISSING_LANE_RECORD,
        DifferenceKind.LANE_AMOUNT_DIFFERS,
        DifferenceKind.PROOF_MISSING,
    }
)
"""Kinds that do not stop a row from being cleared once a person has explained them: the payer agrees on the money."""

LOSSES = frozenset(
    {
        DifferenceKind.MISSING_AT_BANK,
        DifferenceKind.AMOUNT_DIFFERS,
        DifferenceKind.REVERSED_AT_BANK,
        DifferenceKind.PROOF_MISSING,
    }
)
"""Kinds in which our books hold money that the payer does not grant: giving them up is a loss of ours."""


@dataclass(frozen=True, slots=True, order=True)
class WireKeys:
    """Keys that name a message at a bank, in its file and in our books."""

    terminal: str
    batch: str
    stan: str

    def __str__(self) -> str:
        return f"{self.terminal}/{self.batch}/{self.stan}"


@dataclass(frozen=True, slots=True)
class BankLine:
    """One line of a day file. The amount has no sign; the kind tells the direction."""

    line: int
    kind: BankLineKind
    keys: WireKeys
    amount_fen: int
    reference: str | None = None
    """The bank's own number of it, F37."""


@dataclass(slots=True)
class BankEntry:
    """All that one file tells of one message."""

    keys: WireKeys
    first_line: int
    amount_fen: int = 0
    """Signed, of the first line that booked it; of the reversal, mirrored, where that is all there is."""
    booked: int = 0
    taken_back: int = 0
    elsewhere: int = 0
    """Net bookings in files of other days: a message booked before the cut-over may be taken back after it."""

    @property
    def stands(self) -> int:
        """Number of times the message stays booked by this file."""
        return self.booked - self.taken_back

    @property
    def stands_in_all(self) -> int:
        """Number of times the message stays booked by all files that are known."""
        return self.stands + self.elsewhere


@dataclass(frozen=True, slots=True)
class LaneRecord:
    """Lane's record of a claim it let go."""

    debit_id: str
    record_no: int
    charge_point: str
    amount_fen: int
    released_fen: int
    """Amount the books had released for the claim when the lane decided; 0 where they released nothing."""


@dataclass(frozen=True, slots=True)
class OurRow:
    """One movement that our books expect of a payer: an attempt at a bank, a claim on an issuer, a refund."""

    ref: str
    debit_id: str
    amount_fen: int
    """Signed."""
    standing: Standing
    day: str | None
    """The payer's settlement day as we know it; None where nobody told."""
    keys: WireKeys | None = None
    """None for an issuer, who has no messages."""
    last_day: str | None = None
    """Last day into which the bank may have booked it, of a row in doubt."""
    needs_lane: bool = True
    proved: bool = True
    """False where an issuer wants a TAC and there is none."""
    cleared_on: str | None = None
    """The day whose run has cleared it already."""


# --- the match ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """One disagreement. `amount_fen` is what is at stake, signed: what we have more than the payer grants."""

    kind: DifferenceKind
    ref: str
    amount_fen: int
    debit_id: str | None = None
    ours_fen: int | None = None
    bank_fen: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class JudgedRow:
    """One row of ours with its state."""

    ref: str
    debit_id: str
    state: RowState
    amount_fen: int
    """Signed, by our books."""
    paid_fen: int
    """Signed, what the payer grants: the same where they agree, 0 where the row is given up."""
    other_day: bool = False


class DayFileWord(StrEnum):
    """Word of a day file on a row in doubt."""

    POSTED = "bank_says_posted"
    NOT_POSTED = "bank_says_not"


@dataclass(frozen=True, slots=True)
class Finding:
    """The bank's word on a row in doubt, for the debit engine."""

    word: DayFileWord
    attempt_id: str
    amount_fen: int
    """Signed, as the bank has it; ours where it has none."""


@dataclass(slots=True)
class Matching:
    """Result of `match`. A row stands in `rows` once."""

    rows: list[JudgedRow] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def count(self, state: RowState) -> int:
        """Rows in this state."""
        return sum(row.state is state for row in self.rows)


class Resolution(StrEnum):
    """Resolution by people of a difference that was found before."""

    EXPLAINED = "explained"
    WRITTEN_OFF = "written_off"


Resolutions = Mapping[tuple[str, str], Resolution]
"""Resolutions by kind and ref of the difference."""

NO_RESOLUTIONS: Resolutions = {}


def gather(lines: Iterable[BankLine]) -> dict[WireKeys, BankEntry]:
    """The lines of a file by message, in the order of the file."""
    entries: dict[WireKeys, BankEntry] = {}
    for line in lines:
        entry = entries.get(line.keys)
        if entry is None:
            entry = entries[line.keys] = BankEntry(line.keys, line.line)
        amount = -line.amount_fen if line.kind is BankLineKind.REFUND else line.amount_fen
        if line.kind is BankLineKind.REVERSAL:
            entry.taken_back += 1
            if not entry.booked:
                entry.amount_fen = amount
        else:
            if not entry.booked:
                entry.amount_fen = amount
            entry.booked += 1
    return entries


def match(
    day: str,
    ours: Iterable[OurRow],
    bank: Mapping[WireKeys, BankEntry] | None,
    lanes: Mapping[str, LaneRecord],
    *,
    verdicts: Resolutions = NO_RESOLUTIONS,
) -> Matching:
    """Match the rows of one payer and day. `lanes` by debit; `bank` is None for an issuer, who sends no file.

    `ours` holds every row of that day and every row that the file names, each once. `verdicts` is what people said of
    differences of an earlier run: an explained one may let its row be cleared, one that was written off ends it.
    """
    found = Matching()
    seen: set[WireKeys] = set()
    for row in ours:
        entry = None
        if bank is not None and row.keys is not None:
            entry = bank.get(row.keys)
            seen.add(row.keys)
        _Judge(day, row, entry, lanes.get(row.debit_id), verdicts, found, bank is None).judge()
    for keys, entry in (bank or {}).items():
        if keys in seen:
            continue
        if entry.stands_in_all:
            at_stake = -entry.amount_fen * entry.stands
            note = f"line {entry.first_line}"
            found.differences.append(
                Difference(DifferenceKind.MISSING_HERE, str(keys), at_stake, bank_fen=-at_stake, note=note)
            )
    return found


def check_lanes(lanes: Iterable[LaneRecord]) -> list[Difference]:
    """Lane records of a day that the books do not bear out."""
    found = []
    for lane in lanes:
        if not lane.released_fen and lane.amount_fen:
            kind = DifferenceKind.LANE_WITHOUT_CLAIM
        elif lane.released_fen != lane.amount_fen:
            kind = DifferenceKind.LANE_AMOUNT_DIFFERS
        else:
            continue
        note = f"record {lane.record_no} of {lane.charge_point}: {lane.amount_fen} fen, books {lane.released_fen} fen"
        found.append(Difference(kind, lane.debit_id, lane.released_fen - lane.amount_fen, lane.debit_id, note=note))
    return found


@dataclass(slots=True)
class _Judge:
    """Judge of one row against the other two witnesses."""

    day: str
    row: OurRow
    entry: BankEntry | None
    lane: LaneRecord | None
    verdicts: Resolutions
    found: Matching
    issuer: bool
    open_kinds: list[DifferenceKind] = field(default_factory=list)
    given_up: bool = False
    paid_fen: int = 0

    def judge(self) -> None:
        """Put the row in its state."""
        row = self.row
        self.paid_fen = row.amount_fen
        if row.standing is not Standing.POSTED:
            self._not_ours()
            return
        if row.cleared_on is not None and row.cleared_on != self.day:
            self._again()
            return
        if not self.issuer:
            if not self._bank():
                return
        elif not row.proved:
            self._differ(DifferenceKind.PROOF_MISSING, row.amount_fen)
        if row.needs_lane:
            self._lane()
        self._add(self._state())

    def _bank(self) -> bool:
        """Compare with the file; False where the row is none of this day's business."""
        row, entry = self.row, self.entry
        if entry is None or entry.stands < 0 < entry.stands_in_all:
            # Not in the file, or only what takes a second booking back.
            if row.day != self.day:
                return False
            self._differ(DifferenceKind.MISSING_AT_BANK, row.amount_fen, bank_fen=0)
            return True
        if entry.stands <= 0 or entry.stands_in_all <= 0:
            self._differ(DifferenceKind.REVERSED_AT_BANK, row.amount_fen, bank_fen=0)
            return True
        if entry.amount_fen != row.amount_fen:
            self._differ(DifferenceKind.AMOUNT_DIFFERS, row.amount_fen - entry.amount_fen, bank_fen=entry.amount_fen)
            self.paid_fen = entry.amount_fen
        if entry.stands_in_all > 1:
            self._note(DifferenceKind.DUPLICATE_AT_BANK, -entry.amount_fen * (entry.stands_in_all - 1))
        if row.day != self.day:
            self._note(DifferenceKind.OTHER_DAY, 0, f"the bank has it on {self.day}, we on {row.day}")
        return True

    def _again(self) -> None:
        """Note what this day's file says of a row that was cleared on another day."""
        entry = self.entry
        if entry is None:
            return
        if entry.stands > 0:
            self._note(DifferenceKind.DUPLICATE_AT_BANK, -entry.amount_fen * entry.stands)
        elif entry.stands < 0 and entry.stands_in_all <= 0:
            self._note(DifferenceKind.REVERSED_AT_BANK, self.row.amount_fen)

    def _not_ours(self) -> None:
        """Judge a row that our books do not count as paid."""
        row, entry = self.row, self.entry
        booked = entry is not None and entry.stands > 0 and entry.stands_in_all > 0
        in_doubt = row.standing in OPEN_STANDINGS
        if entry is not None and booked:
            self.paid_fen = entry.amount_fen
            at_stake = self._ours_fen() - entry.amount_fen * entry.stands
            kind = DifferenceKind.NOT_POSTED_HERE
            if row.standing in PROVABLE_STANDINGS:
                kind = DifferenceKind.IN_DOUBT
                self.found.findings.append(Finding(DayFileWord.POSTED, row.ref, entry.amount_fen))
            elif row.standing is Standing.DISPUTED:
                kind = DifferenceKind.IN_DOUBT
            self._differ(kind, at_stake, bank_fen=entry.amount_fen * entry.stands, note=row.standing.value)
            self._add(self._state())
        elif in_doubt and (entry is not None or (row.last_day is not None and row.last_day <= self.day)):
            self.found.findings.append(Finding(DayFileWord.NOT_POSTED, row.ref, row.amount_fen))

    def _lane(self) -> None:
        lane = self.lane
        if lane is None:
            self._differ(DifferenceKind.MISSING_LANE_RECORD, 0)
        elif lane.released_fen != lane.amount_fen:
            # The difference itself belongs to the lane's day, see `check_lanes`; here it only holds the row back.
            self._weigh(DifferenceKind.LANE_AMOUNT_DIFFERS, self.row.debit_id)

    def _differ(self, kind: DifferenceKind, at_stake: int, *, bank_fen: int | None = None, note: str = "") -> None:
        """Note a difference that holds the row back."""
        self._note(kind, at_stake, note, bank_fen)
        self._weigh(kind, self.row.ref)

    def _weigh(self, kind: DifferenceKind, ref: str) -> None:
        verdict = self.verdicts.get((kind, ref))
        if verdict is Resolution.EXPLAINED and kind in EXPLAINABLE:
            return
        if verdict is Resolution.WRITTEN_OFF and kind is DifferenceKind.AMOUNT_DIFFERS:
            return  # the loss is booked; what is left is agreed
        if verdict is Resolution.WRITTEN_OFF:
            self.given_up = True
            return
        self.open_kinds.append(kind)

    def _note(self, kind: DifferenceKind, at_stake: int, note: str = "", bank_fen: int | None = None) -> None:
        row = self.row
        ours = self._ours_fen()
        self.found.differences.append(Difference(kind, row.ref, at_stake, row.debit_id, ours, bank_fen, note))

    def _ours_fen(self) -> int:
        """Signed amount of the row in our books."""
        posted = self.row.standing in (Standing.POSTED, Standing.CONTRADICTED)
        return self.row.amount_fen if posted else 0

    def _state(self) -> RowState:
        if self.open_kinds:
            return RowState.DISPUTED
        return RowState.REJECTED if self.given_up else RowState.CLEARED

    def _add(self, state: RowState) -> None:
        row = self.row
        ours = self._ours_fen()
        paid = 0 if state is RowState.REJECTED else self.paid_fen
        other_day = row.day != self.day and not self.issuer
        self.found.rows.append(JudgedRow(row.ref, row.debit_id, state, ours, paid, other_day))


# --- vehicles -------------------------------------------------------------------------------------------------------


class VehicleKind(StrEnum):
    """Kind of a vehicle in a shift's report: the number of vehicles is the sum of all kinds."""

    PAID = "paid"
    ENTERED = "entered"
    """Its entry was written; what it pays follows at an exit."""
    SPECIAL = "special"
    """Let through for nothing by rule: an exempt vehicle."""
    REFUSED = "refused"
    """Turned away, and charged nothing."""
    VIOLATION = "violation"
    """Gone without valid payment: a debt, a run-through."""
    UNRESOLVED = "unresolved"
    """Owed, not established, or sent to somebody else."""


VIOLATION_REASONS = frozenset({"run_through", "vehicle_followed"})
SPECIAL_REASONS = frozenset({"vehicle_exempt", "stay_free"})

_OF_DEBIT: Mapping[str, VehicleKind] = {
    DebitState.RELEASED: VehicleKind.PAID,
    DebitState.FUNDED: VehicleKind.PAID,
    DebitState.RECOVERED: VehicleKind.PAID,
    DebitState.DEBT: VehicleKind.VIOLATION,
    DebitState.WRITTEN_OFF: VehicleKind.VIOLATION,
}


def vehicle_kind(outcome: str, reason: str | None, debit_state: str | None) -> VehicleKind:
    """Kind of a vehicle by the newest decision of its passage and where its claim stands now."""
    if reason in VIOLATION_REASONS:
        return VehicleKind.VIOLATION
    if reason in SPECIAL_REASONS:
        return VehicleKind.SPECIAL
    if outcome == "entered":
        return VehicleKind.ENTERED
    if outcome == "refused" and debit_state in (None, DebitState.VOIDED):
        return VehicleKind.REFUSED
    return _OF_DEBIT.get(debit_state or "", VehicleKind.UNRESOLVED)


@dataclass(frozen=True, slots=True)
class NumberRange:
    """Record numbers from `first` to `last`; `missing` are the first few gaps, as ranges of their own."""

    first: int
    last: int
    missing: tuple[tuple[int, int], ...] = ()


GAPS_SHOWN_MAX = 20
"""Most gaps that are shown; more are one finding: the ledger's own check lists them all."""


def number_range(numbers: Iterable[int]) -> NumberRange | None:
    """First, last and gaps of ascending numbers; None where there are none."""
    first: int | None = None
    last = 0
    gaps: list[tuple[int, int]] = []
    for number in numbers:
        if first is None:
            first = number
        elif number != last + 1 and len(gaps) < GAPS_SHOWN_MAX:
            gaps.append((last + 1, number - 1))
        last = number
    return None if first is None else NumberRange(first, last, tuple(gaps))
