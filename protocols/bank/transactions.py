"""The messages a charge point exchanges with its bank: built from plain values, read back into plain values.

A debit of a signed contract is a sale without card: 0200, F3 000000, F25 00, no PIN, no F2, no track; the contract
reference stands in F48. Where it stands is each partner's choice (inferred, no public sample), so it is data of the
`Profile`, like every other value a partner may want different.

Keys: a reversal repeats F3, F4, F11, F22, F25, F41, F42, F49 of its original, says why in F39, and names the
original by batch, STAN and date in F61. Sending it again changes nothing: public POS programs resend 0400 as it
was, although ISO 8583 would allow 0401, so the repeat code is data too. Advices repeat as 0221.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

from protocols.bank.anchors import Anchor, write_anchor
from protocols.bank.codec import HEADER_BYTES, TPDU_BYTES, TPDU_ID, Message
from protocols.bank.codings import Value
from protocols.bank.dialects import CUPS_POS_BCD, Dialect
from protocols.bank.responses import ResponseCode, ResponseTable
from protocols.errors import LocalProtocolError, RemoteProtocolError

STAN_MAX = 999_999
"""F11 has six digits; zero is not used, several hosts refuse it (inferred)."""

AMOUNT_FEN_MAX = 999_999_999_999
"""F4 has twelve digits."""

BEIJING_OFFSET_MIN = 8 * 60
"""Minutes east of UTC of the local time in F12 and F13."""

SIGN_IN, ECHO, SALE, REVERSAL, ADVICE = "0800", "0820", "0200", "0400", "0220"

AMOUNT, TRACE, TERMINAL, CURRENCY, BATCH = 4, 11, 41, 49, 60

ECHOED = frozenset({3, AMOUNT, TRACE, 25, TERMINAL, 42, CURRENCY, BATCH})
"""Fields that answers say again. Not F12 and F13: in the real answers of tests/vectors they are the host's own clock.
One of these samples has another merchant (F42) than its request, so that a partner's profile may leave fields out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Partner's variant of the messages, with our terminal and merchant numbers there."""

    terminal: str
    """F41, eight characters."""
    merchant: str
    """F42, fifteen characters."""
    dialect: Dialect = CUPS_POS_BCD
    tpdu: bytes = bytes.fromhex("6000030000")
    header: bytes = bytes.fromhex("603100310100")
    currency: str = "156"
    utc_offset_min: int = BEIJING_OFFSET_MIN
    operator: str = "01 "
    """F63 of a sign-in; two digits and a blank in every sample."""
    entry_mode: str = "012"
    """F22: stored data (01), no PIN (2)."""
    condition: str = "00"
    contract_field: int = 48
    anchor_field: int | None = 62
    """Field for our ledger position (`protocols.bank.anchors`); None: this partner has no room for it (inferred)."""
    sale_processing: str = "000000"
    sign_in_type: str = "00"
    sale_type: str = "22"
    advice_type: str = "30"
    """F60.1 of an off-line settlement, the UnionPay name of a sale decided before the bank was told."""
    refund_type: str = "25"
    refund_processing: str = "200000"
    sign_in_code: str = "001"
    """F60.3: 001 is sign-in without track keys; hosts with longer keys want 003, 004 or 005."""
    echo_code: str = "301"
    reversal_reason: str = "98"
    """F39 of a reversal: no answer came (inferred)."""
    reversal_repeat_mti: str = REVERSAL
    advice_repeat_mti: str = "0221"
    echoed: frozenset[int] = ECHOED
    """Fields of an answer that say again what was asked, where the host sends them at all, see `echoes`."""
    max_message_age_s: int = 180
    """Longest time a message can be under way in the bank's systems (inferred; ask the partner)."""

    def __post_init__(self) -> None:
        _check("terminal", len(self.terminal) == 8, "has eight characters (F41)")
        _check("merchant", len(self.merchant) == 15, "has fifteen characters (F42)")
        _check("tpdu", len(self.tpdu) == TPDU_BYTES and self.tpdu[0] == TPDU_ID, "is 60 and two addresses, 5 bytes")
        _check("header", len(self.header) in {0, HEADER_BYTES}, "has 6 bytes, or none where the host drops it")
        _check("anchor_field", self.anchor_field in {None, 62}, "is F62 or none")
        _check("contract_field", self.contract_field in {48, 57, 59, 63}, "is one of the private text fields")

    def at_terminal(self, terminal: str) -> Profile:
        """Profile of the same partner for another charge point."""
        return replace(self, terminal=terminal)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Content of a response. Fields a host may leave out are None."""

    mti: str
    stan: int
    response: ResponseCode
    terminal: str | None
    reference: str | None
    """F37."""
    settlement_date: str | None
    """F15, MMDD: the bank's day, which decides where the debit belongs, not our clock."""
    batch: str | None
    """F60.2."""
    text: str | None
    """F56 or F63 where the host explains itself."""


# --- building ---------------------------------------------------------------------------------------------------


def sign_in(profile: Profile, *, stan: int, batch: str, anchor: Anchor | None = None) -> Message:
    """0800 that opens a terminal's day and, at most hosts, tells its batch."""
    fields: dict[int, Value] = {
        11: _stan(stan),
        41: profile.terminal,
        42: profile.merchant,
        60: profile.sign_in_type + _batch(batch) + profile.sign_in_code,
        63: profile.operator,
    }
    return _message(profile, SIGN_IN, fields | _anchored(profile, anchor))


def echo(profile: Profile, *, stan: int, batch: str, anchor: Anchor | None = None) -> Message:
    """0820 that asks whether the host is there. F11 is our addition for matching (inferred: samples have none)."""
    fields: dict[int, Value] = {
        11: _stan(stan),
        41: profile.terminal,
        42: profile.merchant,
        60: profile.sign_in_type + _batch(batch) + profile.echo_code,
    }
    return _message(profile, ECHO, fields | _anchored(profile, anchor))


def sale(profile: Profile, *, stan: int, batch: str, amount_fen: int, contract: str, at: datetime) -> Message:
    """0200 that debits a contract now. Without an answer its outcome is unknown: reverse it."""
    fields = _debit_fields(
        profile, profile.sale_type, stan=stan, batch=batch, amount_fen=amount_fen, contract=contract, at=at
    )
    return _message(profile, SALE, fields)


def advice(
    profile: Profile,
    *,
    stan: int,
    batch: str,
    amount_fen: int,
    contract: str,
    at: datetime,
    anchor: Anchor | None = None,
) -> Message:
    """0220 that tells the bank of a debit decided without it. Repeat until answered, never reverse."""
    fields = _debit_fields(
        profile, profile.advice_type, stan=stan, batch=batch, amount_fen=amount_fen, contract=contract, at=at
    )
    return _message(profile, ADVICE, fields | _anchored(profile, anchor))


def refund(
    profile: Profile,
    *,
    stan: int,
    batch: str,
    amount_fen: int,
    contract: str,
    at: datetime,
    anchor: Anchor | None = None,
) -> Message:
    """0220 that pays back some of what a contract was debited (any day, in part). Repeat until answered."""
    fields = _debit_fields(
        profile, profile.refund_type, stan=stan, batch=batch, amount_fen=amount_fen, contract=contract, at=at
    )
    return _message(profile, ADVICE, fields | {3: profile.refund_processing} | _anchored(profile, anchor))


def reversal(profile: Profile, original: Message) -> Message:
    """0400 that undoes a sale, whether or not it happened, under the sale's own keys."""
    keys: dict[int, Value] = {number: _required(original, number) for number in (3, 4, 11, 22, 25, 41, 42, 49)}
    type_and_batch = _required(original, 60)[:8]
    named = type_and_batch[2:] + _required(original, 11) + _required(original, 13)
    return _message(profile, REVERSAL, keys | {39: profile.reversal_reason, 60: type_and_batch, 61: named})


def response_to(request: Message, code: str, fields: Mapping[int, Value], *, tpdu: bytes | None = None) -> Message:
    """The host's side: answer `request` with `code` and `fields`, TPDU addresses swapped, header as received."""
    source = request.tpdu if tpdu is None else tpdu
    swapped = source[:1] + source[3:5] + source[1:3]
    return Message(answer_mti(request.mti), {**fields, 39: code}, swapped, request.header)


# --- reading ----------------------------------------------------------------------------------------------------


def answer_mti(mti: str) -> str:
    """The response to a request: function digit plus one, and never a repeat (0221 is answered by 0230)."""
    if not is_request(mti):
        raise LocalProtocolError(f"MTI {mti} is not a request", field="MTI")
    return f"{mti[:2]}{int(mti[2]) + 1}0"


def answer_mtis(mti: str) -> frozenset[str]:
    """Responses accepted for a request: gateways exist that answer 0400 with 0430, or keep the repeat digit."""
    regular = answer_mti(mti)
    accepted = {regular, regular[:3] + mti[3]}
    if mti[1] == "4":
        accepted |= {"0410", "0430"}
    return frozenset(accepted)


def is_request(mti: str) -> bool:
    """True when a message wants an answer: requests (0) and advices (2)."""
    return mti[2] in "02"


def parse_answer(message: Message, responses: ResponseTable) -> Answer:
    """Read a response of a host with these answer codes. Raises RemoteProtocolError when F11 or F39 is missing or a
    number is malformed."""
    if is_request(message.mti):
        raise RemoteProtocolError(f"MTI {message.mti} is a request, an answer was expected", field="MTI")
    batch_field = message.text(60)
    return Answer(
        mti=message.mti,
        stan=int(_required(message, 11)),
        response=responses.meaning(_required(message, 39)),
        terminal=message.text(41),
        reference=_stripped(message, 37),
        settlement_date=message.text(15),
        batch=batch_field[2:8] if batch_field is not None and len(batch_field) >= 8 else None,
        text=_stripped(message, 56) or _stripped(message, 63),
    )


def local_time(at: datetime, utc_offset_min: int) -> datetime:
    """`at` as the wall clock of the bank's country. Raises LocalProtocolError for a time without a zone."""
    if at.tzinfo is None:
        raise LocalProtocolError("time without a zone", field="F12", hint="pass aware UTC")
    return at.astimezone(timezone(timedelta(minutes=utc_offset_min)))


# --- parts ------------------------------------------------------------------------------------------------------


def _debit_fields(
    profile: Profile,
    transaction_type: str,
    *,
    stan: int,
    batch: str,
    amount_fen: int,
    contract: str,
    at: datetime,
) -> dict[int, Value]:
    _check("contract", bool(contract), "is not empty")
    local = local_time(at, profile.utc_offset_min)
    return {
        3: profile.sale_processing,
        4: _amount(amount_fen),
        11: _stan(stan),
        12: local.strftime("%H%M%S"),
        13: local.strftime("%m%d"),
        22: profile.entry_mode,
        25: profile.condition,
        41: profile.terminal,
        42: profile.merchant,
        profile.contract_field: contract,
        49: profile.currency,
        60: transaction_type + _batch(batch),
    }


def _anchored(profile: Profile, anchor: Anchor | None) -> dict[int, Value]:
    return {} if anchor is None or profile.anchor_field is None else {profile.anchor_field: write_anchor(anchor)}


def _message(profile: Profile, mti: str, fields: Mapping[int, Value]) -> Message:
    return Message(mti, fields, profile.tpdu, profile.header)


def _stan(stan: int) -> str:
    _check("stan", 1 <= stan <= STAN_MAX, f"lies between 1 and {STAN_MAX}")
    return f"{stan:06d}"


def _batch(batch: str) -> str:
    _check("batch", len(batch) == 6 and batch.isascii() and batch.isdigit(), "has six digits")
    return batch


def _amount(amount_fen: int) -> str:
    _check("amount_fen", 0 < amount_fen <= AMOUNT_FEN_MAX, f"lies between 1 and {AMOUNT_FEN_MAX} fen")
    return f"{amount_fen:012d}"


def _check(name: str, fine: bool, rule: str) -> None:
    if not fine:
        raise LocalProtocolError(f"{name} {rule}", field=name)


def _required(message: Message, number: int) -> str:
    value = message.text(number)
    if value is None:
        raise RemoteProtocolError(f"{message.mti} without F{number}", field=f"F{number}")
    return value


def _stripped(message: Message, number: int) -> str | None:
    """Text without its padding; None when absent, blank, or not text (hosts put bytes into F63)."""
    value = message.fields.get(number)
    return value.strip() or None if isinstance(value, str) else None
