"""Rules that differ by bank and by road owner, as data: fees, splits, shifts and the form of day files. One TOML file.

    version = "2026-11-01"                    # stored with every line that was cleared by it
    own_account = "main"                      # name of our own bank account in the ledger

    [fees.bank-1]                             # by payer: a bank's channel or an issuer; left out: no fee
    basis_points = 38                         # hundredths of a per cent
    rounding = "half_up"                      # half_up, half_even, down, up
    per = "debit"                             # debit: rounded for each; line: once for the day's sum
    borne_by = "collector"                    # collector: kept back from its payout; operator: ours

    [splits.lane-1]                           # by charge point or by station; left out: all to the collector
    road-1 = 60                               # weights; a fen left over goes to the earlier owner
    road-2 = 40

    [shifts]
    starts = ["00:00", "08:00", "16:00"]      # local time; the first is the first of the day

    [day_files.bank-1]                        # how this bank writes its day file; left out: as below
    encoding = "utf-8-sig"
    delimiter = ","
    header = true                             # columns are named by their titles; false: by number from 0
    amounts = "fen"                           # fen, yuan
    days = "YYYYMMDD"                         # YYYYMMDD, YYYY-MM-DD, MMDD
    cut_over = "23:00"                        # local time from which the bank counts the next day; left out: not known
    total = "required"                        # required, none: whether the last line tells count and sum
    [day_files.bank-1.columns]
    kind = "kind"
    settlement_day = "settlement_day"
    terminal = "terminal"
    batch = "batch"
    stan = "stan"
    retrieval_reference = "retrieval_reference"
    amount = "amount"
    count = "count"
    [day_files.bank-1.kinds]                  # the bank's words; reads "total" and "skip" beside the four kinds
    sale = "sale"
    advice = "advice"
    refund = "refund"
    reversal = "reversal"
    total = "total"

Unknown keys are errors: a misspelt key would be somebody's money.
"""

from __future__ import annotations

import codecs
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainValidator, ValidationError, model_validator

from gateway.documents import DocumentError, Section, TimeOfDay, not_toml, problem_of, too_large, unreadable
from gateway.model.clearing import FeeRounding
from gateway.text_files import text_of
from gateway.texts.catalogue import Words

FILE_BYTES_MAX = 1 << 20
"""Rules of a whole network have some hundred kilobytes."""

OWNERS_MAX = 50
"""Road owners that share one fee."""

SHIFTS_MAX = 24


class ClearingRulesError(DocumentError):
    """The rules cannot be used; every problem names key, value and cure."""


def _encoding(name: str) -> str:
    try:
        codecs.lookup(name)
    except LookupError as error:
        raise ValueError(Words("clearing-rules.no-encoding")) from error
    return name


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,39}$")]


def _title(given: object) -> str | int:
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise ValueError(Words("clearing-rules.no-title"))  # noqa: TRY004 - a schema hears no other
    return given


Title = Annotated[str | int, PlainValidator(_title)]
"""A column by its title, or by its number from 0."""


class Fee(Section):
    """[fees.PAYER]"""

    basis_points: Annotated[int, Field(ge=0, le=10_000)] = 0
    """hundredths of a per cent that the payer keeps"""
    rounding: FeeRounding = FeeRounding.HALF_UP
    """"half_up", "half_even", "down" or "up" to the fen"""
    per: Literal["debit", "line"] = "debit"
    """"debit": rounded for each; "line": once for the sum of a day"""
    borne_by: Literal["collector", "operator"] = "collector"
    """"collector": kept back from its payout; "operator": ours"""


NO_FEE = Fee()


class Shifts(Section):
    """[shifts]"""

    starts: Annotated[tuple[TimeOfDay, ...], Field(min_length=1, max_length=SHIFTS_MAX)] = ("00:00", "08:00", "16:00")
    """local times at which shifts begin, ascending; what comes before the first belongs to it too"""

    @model_validator(mode="after")
    def _ascending(self) -> Shifts:
        if list(self.starts) != sorted(set(self.starts)):
            raise ValueError(Words("clearing-rules.shifts-ascend"))
        return self


class Columns(Section):
    """[day_files.BANK.columns]"""

    kind: Title = "kind"
    """what the line tells, in the words of [day_files.BANK.kinds]"""
    settlement_day: Title = "settlement_day"
    """the bank's day"""
    terminal: Title = "terminal"
    """terminal number, field 41"""
    batch: Title = "batch"
    """batch number, field 60.2; zeros in front may be missing"""
    stan: Title = "stan"
    """trace number, field 11; zeros in front may be missing"""
    retrieval_reference: Title | None = "retrieval_reference"
    """the bank's own number, field 37"""
    amount: Title = "amount"
    """without sign: the kind tells the direction"""
    count: Title | None = "count"
    """on the line of totals: how many lines come before it"""


DayFileWord = Literal["sale", "advice", "refund", "reversal", "total", "skip"]


def _own_words() -> dict[str, DayFileWord]:
    return {"sale": "sale", "advice": "advice", "refund": "refund", "reversal": "reversal", "total": "total"}


class DayFileProfile(Section):
    """[day_files.BANK]: the form of one bank's day file."""

    encoding: Annotated[str, AfterValidator(_encoding)] = "utf-8-sig"
    """for example "utf-8-sig" or "gb18030" """
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """one character between two columns"""
    header: bool = True
    """true: columns are named by their titles; false: by number from 0"""
    amounts: Literal["fen", "yuan"] = "fen"
    """unit of the amounts"""
    days: Literal["YYYYMMDD", "YYYY-MM-DD", "MMDD"] = "YYYYMMDD"
    """how days are written"""
    cut_over: TimeOfDay | None = None
    """local time from which the bank counts the next day; left out: not known"""
    total: Literal["required", "none"] = "required"
    """"required": the last line tells count and sum, so that a file cut short is noticed"""
    columns: Columns = Columns()
    kinds: dict[str, DayFileWord] = Field(default_factory=_own_words)
    """the bank's words for sale, advice, refund, reversal, total, and for lines to skip"""

    @model_validator(mode="after")
    def _whole(self) -> DayFileProfile:
        named = [getattr(self.columns, name) for name in Columns.model_fields]
        if any(isinstance(column, int) == self.header for column in named if column is not None):
            raise ValueError(Words("clearing-rules.columns-by-header"))
        if self.total == "required" and ("total" not in self.kinds.values() or self.columns.count is None):
            raise ValueError(Words("clearing-rules.total-needs"))
        return self


OURS = DayFileProfile()
"""The form that the bench's bank writes, and that a bank without one of its own is asked for."""


class ClearingRules(Section):
    """The whole file."""

    version: Annotated[str, Field(min_length=1, max_length=40)] = "none"
    """name of this version; every line cleared by it carries it"""
    own_account: Name = "main"
    """name of our own bank account, into which banks and issuers settle"""
    fees: dict[Name, Fee] = Field(default_factory=dict)
    """by bank channel or issuer"""
    splits: dict[Name, dict[Name, Annotated[int, Field(ge=0, le=10**9)]]] = Field(default_factory=dict)
    """by charge point or station: owners with their weights"""
    shifts: Shifts = Shifts()
    day_files: dict[Name, DayFileProfile] = Field(default_factory=dict)
    """by bank channel"""

    @model_validator(mode="after")
    def _weighty(self) -> ClearingRules:
        for place, owners in self.splits.items():
            if not any(owners.values()) or len(owners) > OWNERS_MAX:
                raise ValueError(Words("clearing-rules.split-owners", place=place, most=OWNERS_MAX))
        return self

    def fee(self, payer: str) -> Fee:
        """Fee that a payer keeps for itself."""
        return self.fees.get(payer, NO_FEE)

    def profile(self, channel: str) -> DayFileProfile:
        """The form of a bank's day file."""
        return self.day_files.get(channel, OURS)

    def owners(self, charge_point: str, station: str | None, collector: str) -> dict[str, int]:
        """Owners who share what is collected at a charge point, by weight, in the order of the file."""
        found = self.splits.get(charge_point)
        if found is None and station is not None:
            found = self.splits.get(station)
        return found if found is not None else {collector: 1}


DEFAULTS = ClearingRules()


def load_rules(file: Path | None) -> ClearingRules:
    """Read and check a file of rules; without one there is no fee, no split, and every bank writes our form.

    Raises `ClearingRulesError`.
    """
    if file is None:
        return DEFAULTS
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ClearingRulesError(file, [unreadable(error)]) from error
    if len(data) > FILE_BYTES_MAX:
        raise ClearingRulesError(file, [too_large(len(data))])
    try:
        return ClearingRules.model_validate(tomllib.loads(text_of(data)))
    except ValidationError as error:
        raise ClearingRulesError(file, [problem_of(found, ClearingRules) for found in error.errors()]) from error
    except ValueError as error:
        raise ClearingRulesError(file, [not_toml(error)]) from error
