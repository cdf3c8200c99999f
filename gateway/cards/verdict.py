"""Verdict on a card: would a charge point take it, and if not, every reason why.

A lane stops at the first reason; at a desk a person wants all of them, with the numbers the toll network knows them by
and with what to do. What cannot be judged, because nobody has said by which site, is told as a check not made: it is
never a check passed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import StrEnum
from typing import Final

from gateway.cards.contents import CardContents, CardKind
from gateway.model.money import CURRENCY, format_fen
from gateway.model.plate import PlateMatch, compare
from gateway.model.reasons import REASONS, Reason, Severity
from gateway.model.states import PurchaseState
from gateway.payers.list_file import StatusListError
from gateway.payers.mandates import Issuers, payer_of_charge_card
from gateway.payers.status_lists import ListKind, StatusLists, plate_key
from gateway.points.card.file_0019 import entry_of
from gateway.points.card.paying import PURSE_SUSPICIOUS, purse_problem
from gateway.points.etc.inspection import card_problems, plate_of
from gateway.texts.catalogue import Pair, Text, Words
from gateway.views.cards import CardStanding
from protocols.card.codes import CardType, TradeType
from protocols.card.files import CardFile
from protocols.card.purse import SEQUENCE_MAX
from protocols.card.station import Station
from protocols.codings import UNIX_UNSET
from protocols.crypto.algorithm import Algorithm

SEQUENCES_LEFT_LOW: Final = 1_000
"""Purchases left on a card whose counter is called nearly full: a year of commuting."""

CLOCK_AHEAD_MAX: Final = timedelta(minutes=10)
"""Time by which an entry may lie in the future: lanes' clocks differ."""

TRIP_MAX: Final = timedelta(days=7)
"""Time after which an entry is from a trip that has ended, whatever the card says."""

PURCHASES: Final = frozenset({0x05, TradeType.PURCHASE, TradeType.COMPOSITE})


class Check(StrEnum):
    """Check that a verdict consists of."""

    KIND = "kind"
    FILES = "files"
    ISSUER = "issuer"
    DATES = "dates"
    PLATE = "plate"
    LISTS = "lists"
    MANDATE = "mandate"
    LIMITS = "limits"
    PURSE = "purse"
    ENTRY = "entry"
    KEYS = "keys"
    COUNTER = "counter"
    PURCHASES = "purchases"
    DEBTS = "debts"


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason found. `refuses`: alone it keeps the card from being taken."""

    check: StrEnum
    """`Check`, or `gateway.cards.tag_verdict.TagCheck`."""
    reason: Reason
    refuses: bool
    detail: Text | None = None


@dataclass(frozen=True, slots=True)
class ListsInForce:
    """Status lists of a site at a moment; `problem`: why there are none that can be used."""

    lists: StatusLists | None
    age_limit: timedelta
    problem: Text | None = None


@dataclass(frozen=True, slots=True)
class SiteFacts:
    """Facts of a site by which cards are judged. `standing` is None where its ledger cannot be asked."""

    issuers: Issuers
    lists: ListsInForce
    standing: CardStanding | None
    limit_problem: str | None = None
    """Code of the reason why the mandate's limits leave no room, as `gateway.cards.standing` found it."""
    debts_refused: bool = True
    """True where the rules refuse payers who are on the box's own list."""


@dataclass(frozen=True, slots=True)
class Question:
    """Question put to a card: would it be taken at this moment, for this amount, by a terminal with these keys?"""

    at: datetime
    zone: timezone
    clock_trusted: bool
    amount_fen: int | None = None
    needs_entry: bool = False
    """True at an exit, where a card without an entry cannot be charged."""
    psam: frozenset[Algorithm] | None = None
    """Key sets of the terminal's PSAM; None where none was asked."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Verdict on a card: all that was found, in the order of the checks, and the checks that nobody could make."""

    findings: tuple[Finding, ...]
    not_made: tuple[Check, ...]

    @property
    def taken(self) -> bool:
        """True when nothing that was found keeps the card from being taken."""
        return not any(finding.refuses for finding in self.findings)


def judge(contents: CardContents, question: Question, site: SiteFacts | None) -> Verdict:
    """Judge a card by what it holds, and by a site where one is given."""
    found = [*_kind(contents), *_files(contents)]
    card = contents.card_file
    not_made: list[Check] = []
    if card is None:
        made = {Check.KIND, Check.FILES}
        return Verdict(tuple(found), tuple(check for check in Check if check not in made))
    found += _issue(card, question, site)
    found += _plate(card)
    if site is None:
        not_made += [Check.ISSUER, Check.LISTS]
    else:
        found += _lists(card, question, site.lists)
    if not question.clock_trusted:
        not_made.append(Check.DATES)
    standing = None if site is None else site.standing
    if site is None or standing is None:
        not_made += [Check.MANDATE, Check.LIMITS, Check.PURCHASES, Check.DEBTS]
    else:
        found += _mandate(card, site, standing)
        found += _ledger(site, standing)
    found += _purse(contents, card, question)
    found += _entry(contents.station, card, question)
    if question.psam is None:
        not_made.append(Check.KEYS)
    else:
        found += _keys(card, question.psam)
    found += _counter(contents)
    order = list(Check)
    return Verdict(
        tuple(sorted(found, key=lambda finding: order.index(Check(finding.check)))),
        tuple(check for check in order if check in not_made),
    )


def _found(check: Check, code: str, detail: Text | None = None, *, refuses: bool | None = None) -> Finding:
    reason = REASONS[code]
    return Finding(check, reason, reason.severity is not Severity.NOTE if refuses is None else refuses, detail)


# --- what the card itself shows ---------------------------------------------------------------------------------------


def _kind(contents: CardContents) -> Iterator[Finding]:
    if contents.locked:
        yield _found(Check.KIND, "card_locked", Words("verdict.application-blocked"))
    code = {
        CardKind.BLANK: "card_blank",
        CardKind.PURSE: "card_not_etc",
        CardKind.OTHER: "card_not_etc",
    }.get(contents.kind)
    if code is not None:
        yield _found(Check.KIND, code)


def _files(contents: CardContents) -> Iterator[Finding]:
    if contents.locked and contents.card_file is None:
        return  # a blocked application gives nothing, which is no damage
    if contents.kind in (CardKind.ETC, CardKind.DAMAGED):
        for file in contents.damaged:
            yield _found(Check.FILES, "card_unreadable", _of_file(file.name, file.problem))


def _of_file(name: str, problem: Text | None) -> Text:
    return Words("verdict.of-file", file=name, problem=problem if problem is not None else "")


def _issue(card: CardFile, question: Question, site: SiteFacts | None) -> Iterator[Finding]:
    today = question.at.astimezone(question.zone).date() if question.clock_trusted else None
    details: dict[str, tuple[Check, Text]] = {
        "card_issuer_unknown": (Check.ISSUER, Pair.same(f"{card.region} {card.issuer[:4].hex().upper()}".strip())),
        "card_type_illegal": (Check.KIND, Pair.same(str(card.card_type))),
        "card_expired": (Check.DATES, Words("verdict.until", day=card.expires)),
        "card_not_yet_valid": (Check.DATES, Words("verdict.from", day=card.starts)),
    }
    for code in card_problems(card, today, None if site is None else site.issuers):
        check, detail = details[code]
        yield _found(check, code, detail)


def _plate(card: CardFile) -> Iterator[Finding]:
    if not plate_of(card.plate, card.plate_colour).text:
        yield _found(Check.PLATE, "plate_unknown")


def _purse(contents: CardContents, card: CardFile, question: Question) -> Iterator[Finding]:
    balance = contents.balance_raw
    if card.card_type != CardType.STORED_VALUE or balance is None:
        return
    amount_fen = 1 if question.amount_fen is None else question.amount_fen
    code = purse_problem(balance, amount_fen)
    if code is None:
        return
    if balance >= PURSE_SUSPICIOUS:
        detail: Text = Words("verdict.balance-raw", raw=f"{balance:08X}")
    else:
        detail = Words("verdict.balance", balance=_yuan(balance), amount=_yuan(amount_fen))
    yield _found(Check.PURSE, code, detail)


def _yuan(amount_fen: int) -> str:
    return f"{format_fen(amount_fen)} {CURRENCY}"


def _entry(station: Station | None, card: CardFile, question: Question) -> Iterator[Finding]:
    """Check the entry that the card carries: it keeps the card only from an exit."""
    if station is None:
        return
    refuses = question.needs_entry
    if isinstance(entry_of(station), str) or station.unix_seconds in UNIX_UNSET:
        yield _found(Check.ENTRY, "no_entry", refuses=refuses)
        return
    seconds = (station.unix_seconds or 0) - question.at.timestamp()
    if question.clock_trusted and not -TRIP_MAX.total_seconds() <= seconds <= CLOCK_AHEAD_MAX.total_seconds():
        detail = Words("verdict.entered", at=_time(station.unix_seconds or 0, question.zone))
        code = "entry_time_invalid" if seconds > 0 else "trip_too_long"
        yield _found(Check.ENTRY, code, detail, refuses=refuses)
    match = compare(plate_of(station.plate, station.plate_colour), plate_of(card.plate, card.plate_colour))
    if match in (PlateMatch.DIFFERENT_TEXT, PlateMatch.DIFFERENT_COLOUR):
        yield _found(Check.ENTRY, "plate_mismatch_entry", refuses=refuses)
    classes = {card.vehicle_class, station.vehicle_class} - {None, 0}
    if len(classes) > 1:
        detail = Words("verdict.classes", card=card.vehicle_class, entry=station.vehicle_class)
        yield _found(Check.ENTRY, "class_mismatch_entry", detail, refuses=refuses)


def _time(unix_seconds: int, zone: timezone) -> str:
    return f"{datetime.fromtimestamp(unix_seconds, zone):%Y-%m-%d %H:%M:%S}"


def _keys(card: CardFile, psam: frozenset[Algorithm]) -> Iterator[Finding]:
    wanted = card.algorithm
    if wanted in psam:
        return
    detail = Words("verdict.keys", wanted=wanted.title, there=", ".join(sorted(one.title for one in psam)) or "-")
    # A card for SM4 has 3DES keys as well in most issues, and lanes fall back to those (inferred).
    yield _found(Check.KEYS, "psam_keys_missing", detail, refuses=Algorithm.DES3 not in psam)


def _counter(contents: CardContents) -> Iterator[Finding]:
    sequences = [record.sequence for record in contents.log if record.trade_type in PURCHASES]
    left = SEQUENCE_MAX - max(sequences, default=0)
    if left <= SEQUENCES_LEFT_LOW:
        code = "card_counter_full" if left == 0 else "card_counter_low"
        yield _found(Check.COUNTER, code, Words("verdict.purchases-left", left=left))


# --- what the site knows ----------------------------------------------------------------------------------------------


def _lists(card: CardFile, question: Question, site: ListsInForce) -> Iterator[Finding]:
    lists = site.lists
    if lists is None:
        yield _found(Check.LISTS, "list_unavailable", site.problem)
        return
    plate = plate_of(card.plate, card.plate_colour)
    keys = [(ListKind.CARD, card.card_number), *([(ListKind.PLATE, plate_key(plate))] if plate.known else [])]
    for kind, key in keys:
        try:
            hit = lists.lookup(kind, key)
        except StatusListError as damage:
            yield _found(Check.LISTS, "list_unavailable", Pair.same(str(damage)))
            return
        if hit is not None:
            detail = Words("verdict.listed", version=hit.list_version, type=hit.list_type)
            yield Finding(Check.LISTS, hit.reason, refuses=True, detail=detail)
    if question.clock_trusted and lists.stale(question.at, site.age_limit):
        hours = lists.age(question.at).total_seconds() / 3600
        limit = site.age_limit.total_seconds() / 3600
        detail = Words("verdict.list-age", version=lists.version, age=f"{hours:.1f}", limit=f"{limit:g}")
        yield _found(Check.LISTS, "list_stale", detail)


def _mandate(card: CardFile, site: SiteFacts, standing: CardStanding) -> Iterator[Finding]:
    issuer = site.issuers.of(card.issuer)
    if issuer is None or card.card_type != CardType.CHARGE:
        return
    payer = payer_of_charge_card(issuer, standing.mandate, plate_of(card.plate, card.plate_colour))
    if isinstance(payer, str):
        mandate = standing.mandate
        detail = None if mandate is None else Words("verdict.mandate", mandate=mandate.mandate_id)
        yield _found(Check.MANDATE, payer, detail)


def _ledger(site: SiteFacts, standing: CardStanding) -> Iterator[Finding]:
    if site.limit_problem is not None:
        yield _found(Check.LIMITS, site.limit_problem, _exposure(standing))
    if standing.purchase is not None:
        code = "purchase_disputed" if standing.purchase.state is PurchaseState.DISPUTED else "purchase_open"
        detail = Words("verdict.passage", passage=standing.purchase.passage_id)
        yield _found(Check.PURCHASES, code, detail)
    if standing.debts or standing.listed:
        detail = Words("verdict.debts", count=standing.debts, amount=_yuan(standing.debts_fen))
        barred = standing.listed and site.debts_refused
        yield _found(Check.DEBTS, "debts_listed" if barred else "payer_in_debt", detail)


def _exposure(standing: CardStanding) -> Text | None:
    mandate, exposure = standing.mandate, standing.exposure
    if mandate is None or exposure is None or mandate.limit_fen is None:
        return None
    used = exposure.held_fen + exposure.open_fen + exposure.debt_fen
    return Words("verdict.exposure", used=_yuan(used), limit=_yuan(mandate.limit_fen))
