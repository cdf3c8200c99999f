"""Schema of a document of debit rules: every key with its unit and meaning.

No key has a default here. What a site leaves out is as in `default.toml`, so the shipped numbers stand in one place.
Where something may be without limit, the document says so in a word ("unlimited", "never", "mandate"), which here is
None, or 0 in `Retry`, where 0 means the same.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer

from gateway.documents import Section
from gateway.model.money import FEN_MAX

DAY_S = 86_400
SECONDS_MAX = 366 * DAY_S
"""Longest time of a retry, a year: what shall wait longer is no retry any more."""
COUNT_MAX = 1_000_000
DELAYS_MAX = 50
"""Steps of one recovery schedule; more would be harassment."""

Cause = Literal["silent", "not_sent", "unsettled", "declined_for_now"]
"""Cause of a missing approval, see `gateway.rules.judge.cause_of`."""
Effect = Literal["refuse", "allow", "attendant"]


def _word(word: str, value: int | None) -> tuple[BeforeValidator, PlainSerializer]:
    """`word` in the document for `value` in the program."""

    def read(given: Any) -> Any:  # noqa: ANN401 - whatever stands in the document
        return value if given == word else given

    def write(held: Any) -> Any:  # noqa: ANN401 - a number or `value`
        return word if held == value else held

    return BeforeValidator(read), PlainSerializer(write, when_used="json")


_UNLIMITED_READ, _UNLIMITED_WRITE = _word("unlimited", None)
_MANDATE_READ, _MANDATE_WRITE = _word("mandate", None)
_NEVER_READ, _NEVER_WRITE = _word("never", None)
_ZERO_READ, _ZERO_WRITE = _word("unlimited", 0)
_ZERO_NEVER_READ, _ZERO_NEVER_WRITE = _word("never", 0)

Fen = Annotated[int, Field(ge=0, le=FEN_MAX)]
Count = Annotated[int, Field(ge=0, le=COUNT_MAX)]
FenOrUnlimited = Annotated[Fen | None, _UNLIMITED_READ, _UNLIMITED_WRITE]
FenOrMandate = Annotated[Fen | None, _MANDATE_READ, _MANDATE_WRITE]
FenFromNothingOrNever = Annotated[Annotated[int, Field(ge=0, le=FEN_MAX)] | None, _NEVER_READ, _NEVER_WRITE]
FenOrNever = Annotated[Annotated[int, Field(ge=1, le=FEN_MAX)] | None, _NEVER_READ, _NEVER_WRITE]
CountOrUnlimited = Annotated[Count | None, _UNLIMITED_READ, _UNLIMITED_WRITE]
CountOrNever = Annotated[Annotated[int, Field(ge=1, le=COUNT_MAX)] | None, _NEVER_READ, _NEVER_WRITE]
SecondsOrNever = Annotated[Annotated[int, Field(ge=1, le=10 * SECONDS_MAX)] | None, _NEVER_READ, _NEVER_WRITE]
Code = Annotated[str, Field(pattern=r"^[0-9A-Za-z_.\-]{1,32}$")]
Codes = Annotated[tuple[Code, ...], Field(strict=False, max_length=100)]
Delays = Annotated[tuple[Annotated[int, Field(ge=1, le=SECONDS_MAX)], ...], Field(strict=False, max_length=DELAYS_MAX)]


class RuleSection(Section):
    """Rules decide about money, so "5" is no number and true is no 1."""

    model_config = ConfigDict(strict=True)


class StandIn(RuleSection):
    """[stand_in.<service>]: deciding in the bank's place."""

    allowed: bool
    """whether this service stands in at all"""
    per_debit_fen: FenOrUnlimited
    """largest single debit stood in for, fen, or "unlimited" """
    per_obligor_owed_fen: FenOrMandate
    """what one payer may owe on our word, this debit included, fen; "mandate" leaves it to the mandate alone. Where
    both say something the smaller counts"""
    per_day_count: CountOrUnlimited
    """debits of one payer stood in for on one day in this service, or "unlimited" """
    allowed_in_debt: bool
    """whether a payer with unpaid debts is stood in for"""
    after: Annotated[tuple[Cause, ...], Field(strict=False)]
    """what must have happened at the bank: "silent" sent and not answered, "not_sent" it never saw the request,
    "unsettled" answered without saying whether money moved, or in part, "declined_for_now" a refusal that may pass"""
    also_after_codes: Codes
    """answer codes after which standing in is allowed besides, for example ["91"]; never after a final refusal: nobody
    will pay what is stood in for"""
    never_after_codes: Codes
    """answer codes after which it is not allowed, whatever the other keys say"""


class StandInByService(RuleSection):
    """[stand_in]"""

    toll: StandIn
    fuel: StandIn
    parking: StandIn
    counter: StandIn


class Deadline(RuleSection):
    """[deadline]: how the time of a passage is divided."""

    kept_back_ms: int = Field(ge=0, le=5000)
    """milliseconds kept for commit and barrier after the bank has had its say"""
    bank_worth_asking_ms: int = Field(ge=0, le=5000)
    """with fewer milliseconds left the bank is not asked: it could not answer, and would leave a reversal behind"""


class Retry(RuleSection):
    """[retry.<kind>]: how a message that a bank must still hear is repeated, and when somebody is told."""

    first_pause_s: float = Field(gt=0, le=3600)
    """seconds of pause after the first try"""
    factor: float = Field(ge=1, le=10)
    """by which the pause grows with each further try"""
    max_pause_s: float = Field(gt=0, le=DAY_S)
    """longest pause, seconds"""
    answer_timeout_s: float = Field(gt=0, le=120)
    """seconds to wait for the answer to one try"""
    expire_after_s: Annotated[int, Field(ge=0, le=10 * SECONDS_MAX), _ZERO_NEVER_READ, _ZERO_NEVER_WRITE]
    """seconds after which the message goes to a person instead, or "never" """
    max_tries: Annotated[int, Field(ge=0, le=COUNT_MAX), _ZERO_READ, _ZERO_WRITE]
    """tries after which it goes to a person, or "unlimited" """
    alarm_age_s: int = Field(ge=1, le=SECONDS_MAX)
    """seconds after which a message still waiting is an alarm"""
    alarm_count: int = Field(ge=1, le=COUNT_MAX)
    """messages waiting at one bank that are an alarm"""
    messages_per_s: Annotated[float, Field(ge=0, le=1000), _ZERO_READ, _ZERO_WRITE]
    """pace of a backlog at one bank, messages a second, or "unlimited" """
    yield_to_fresh: bool
    """whether a backlog waits while a vehicle's own request is under way at that bank"""


class RetryByKind(RuleSection):
    """[retry]"""

    reversal: Retry
    advice: Retry
    refund: Retry
    recovery: Retry


class Reversal(RuleSection):
    """[reversal]: what is not the bank's own profile (closing codes, longest age of a message)."""

    not_found_pause_s: float = Field(gt=0, le=3600)
    """seconds to the next try after "original not found", while the original may still be under way"""


class RecoveryByClass(RuleSection):
    """[debt.recovery_after_s]"""

    D: Delays
    """after a final refusal: normally none, asking again does not help"""
    L: Delays
    """after a refusal that may pass, such as insufficient funds: seconds from each refusal to the next try"""
    M: Delays
    """after an answer that a person must look at"""


class Debt(RuleSection):
    """[debt]: getting money for what was let go and finally not paid."""

    recovery_after_s: RecoveryByClass
    recovery_by_code: dict[Code, Delays]
    """schedules of single answer codes, which go before those of the classes, and of "unanswered": a bank that was
    silent"""
    max_tries: Count
    """tries of one debt; where a schedule is shorter its last pause is repeated, an empty one stays empty"""
    minimum_fen: Fen
    """debts below this are not tried again by themselves: the message costs more"""
    four_eyes: bool
    """whether writing off needs a second person"""


class RefundByPeople(RuleSection):
    """[refund]: money that people give back."""

    second_person_above_fen: FenFromNothingOrNever
    """a refund of more than this is paid when a second person asks for the same, fen; 0 = every one, or "never" """


class ListingEffects(RuleSection):
    """[listing.effect]: what becomes of a listed payer's next debit."""

    toll: Effect
    """ "refuse", "allow" or "attendant" at toll lanes"""
    fuel: Effect
    """the same at pumps"""
    parking: Effect
    """the same at car parks"""
    counter: Effect
    """the same at counters"""


class Listing(RuleSection):
    """[listing]: when a payer goes on the box's own list of debtors."""

    debts_fen: FenOrNever
    """sum of unpaid debts that lists a payer, fen, or "never" """
    debts_count: CountOrNever
    """number of unpaid debts that lists a payer, or "never" """
    debt_age_s: SecondsOrNever
    """age of the oldest unpaid debt that lists a payer, seconds, or "never" """
    released_at_fen: Fen
    """a listed payer is released once its unpaid debts are no more than this and reach none of the marks above, fen;
    0 = when all are recovered"""
    effect: ListingEffects


class Limit(RuleSection):
    """[limits.<service>]"""

    per_debit_fen: FenOrUnlimited
    """largest single debit, fen, or "unlimited" """
    per_day_fen: FenOrUnlimited
    """sum of one payer's debits of a day, holds included, fen, or "unlimited" """
    per_day_count: CountOrUnlimited
    """number of one payer's debits of a day, holds included, or "unlimited" """


class LimitsByService(RuleSection):
    """[limits]: for mandates that state none themselves."""

    all: Limit
    """all services of a payer together"""
    toll: Limit
    fuel: Limit
    parking: Limit
    counter: Limit


VERSION_PATTERN = r"^[0-9A-Za-z][0-9A-Za-z.\-]{0,18}(@[0-9A-Za-z][0-9A-Za-z.\-]{0,18})?$"
"""At most 39 characters: the ledger keeps the version with every decision."""


class Document(RuleSection):
    """The whole document."""

    version: Annotated[str, Field(pattern=VERSION_PATTERN)]
    """name of these rules, at most 19 letters, digits, dots and hyphens, for example "2026-12-1"; every decision
    carries it, so changed rules need another one"""
    stand_in: StandInByService
    deadline: Deadline
    retry: RetryByKind
    reversal: Reversal
    debt: Debt
    refund: RefundByPeople
    listing: Listing
    limits: LimitsByService
