"""Bank channel over ISO 8583: orders become messages of a profile, answers become verdicts of the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from gateway.banks.channel import REPEATED_KINDS, BankAnswer
from gateway.banks.pos import PosChannel, PosLateAnswer, PosOrder
from gateway.model.answers import AnswerClass
from gateway.model.clock import EPOCH
from gateway.model.delivery import Delivery
from protocols.bank.codec import Message, decode, encode
from protocols.bank.echoes import differences
from protocols.bank.responses import (
    APPROVED_CODE,
    DUPLICATE_CODE,
    NOT_FOUND_CODE,
    PARTIAL_CODE,
    ResponseClass,
    ResponseCode,
    response_code,
)
from protocols.bank.transactions import (
    Answer,
    Profile,
    advice,
    parse_answer,
    refund,
    reversal,
    sale,
)
from protocols.errors import LocalProtocolError, RemoteProtocolError

_VERDICTS: Mapping[ResponseClass, AnswerClass] = {
    ResponseClass.APPROVED: AnswerClass.APPROVED,
    ResponseClass.DECLINED: AnswerClass.DECLINED,
    ResponseClass.DECLINED_FOR_NOW: AnswerClass.DECLINED_FOR_NOW,
    ResponseClass.MANUAL: AnswerClass.MANUAL,
    ResponseClass.UNKNOWN: AnswerClass.UNSETTLED,
    ResponseClass.KEYS: AnswerClass.UNSETTLED,
}

_NO_FINAL_WORD: Mapping[str, AnswerClass] = {
    # Part of a fare: nobody who has let a vehicle go can use that. A sale is reversed as after silence.
    PARTIAL_CODE: AnswerClass.UNSETTLED,
    DUPLICATE_CODE: AnswerClass.DUPLICATE,
}
_OF_REVERSAL: Mapping[str, AnswerClass] = {
    APPROVED_CODE: AnswerClass.APPROVED,
    NOT_FOUND_CODE: AnswerClass.NOT_FOUND,
}
"""Verdicts on answers to reversals, which are never declined: any that closes nothing is repeated."""


class TransportError(Exception):
    """Fault of the link: it could not carry an exchange through."""

    def __init__(self, problem: str, delivery: Delivery) -> None:
        self.delivery = delivery
        super().__init__(problem)


class Transport(Protocol):
    """Transport of messages: the link under a channel."""

    @property
    def up(self) -> bool:
        """True when it would carry a message at this moment."""
        ...

    async def exchange(self, request: bytes, *, timeout_s: float) -> Message:
        """Send these bytes and return the matching answer; raises `TransportError`."""
        ...


class Iso8583Channel(PosChannel):
    """Channel to a bank over any of the ISO 8583 dialects."""

    def __init__(
        self, name: str, profile: Profile, terminals: Mapping[str, Sequence[str]], transport: Transport
    ) -> None:
        """`profile.terminal` is replaced by each order's own terminal."""
        super().__init__(name, terminals)
        self._own = profile
        self._transport = transport

    @property
    def max_message_age_s(self) -> float:
        return float(self._own.max_message_age_s)

    @property
    def up(self) -> bool:
        """True when its link would carry a message at this moment."""
        return self._transport.up

    def message(self, kind: str, order: PosOrder) -> bytes:
        """Make the message: 0200, 0400 for the sale the order makes, or 0220."""
        profile = self._own.at_terminal(order.terminal)
        values: dict[str, Any] = {
            "stan": int(order.stan),
            "batch": order.batch,
            "amount_fen": order.amount_fen,
            "contract": order.contract_ref,
            "at": order.at,
        }
        if kind in REPEATED_KINDS:
            build = refund if kind == "refund" else advice
            return self._bytes(build(profile, **values, anchor=order.anchor))
        made = sale(profile, **values)
        return self._bytes(reversal(profile, made) if kind == "reversal" else made)

    def repeat(self, request: bytes) -> bytes:
        """Repeat the stored message with the type the profile uses for repetitions; not another byte changes."""
        message = decode(request, self._own.dialect)
        profile = self._own
        kinds = {"0400": profile.reversal_repeat_mti, "0220": profile.advice_repeat_mti}
        return self._bytes(replace(message, mti=kinds.get(message.mti, message.mti)))

    async def exchange(self, request: bytes, *, timeout_s: float) -> BankAnswer:
        """Send stored bytes and read the verdict."""
        try:
            return self._compared(request, await self._transport.exchange(request, timeout_s=timeout_s))
        except TransportError as error:
            delivery = Delivery.SILENT if error.delivery is Delivery.SILENT else Delivery.NOT_SENT
            return BankAnswer(delivery, detail=str(error))
        except RemoteProtocolError as error:
            # It answered, and not in a way that says what happened.
            return BankAnswer(Delivery.SILENT, detail=f"answer not understood: {error}")

    def heard_late(self, message: Message) -> None:
        """Take an answer that no exchange waits for, from the link."""
        try:
            answer = self._parsed(message)
        except RemoteProtocolError:
            return
        if self._late is None or message.mti not in ("0210", "0230", "0231"):
            return
        terminal = (answer.terminal or "").strip() or None

        compare = partial(self._compared, message=message)
        self._late(PosLateAnswer(terminal, f"{answer.stan:06d}", self._verdict(message), compare))

    def takes(self, contract_ref: str) -> bool:
        """True when the contract can be written in this dialect's field."""
        order = PosOrder(self._own.terminal, "000001", "000001", 1, contract_ref, EPOCH)
        try:
            self.message("sale", order)
        except LocalProtocolError:
            return False
        return True

    def _bytes(self, message: Message) -> bytes:
        return encode(message, self._own.dialect)

    def _compared(self, request: bytes, message: Message) -> BankAnswer:
        """Compare an answer with the message it is taken for. One that differs settles nothing; that the bank knows the
        keys is said all the same, for then nothing may be undone under them."""
        told = self._verdict(message)
        different = differences(self._own, decode(request, self._own.dialect), message)
        if not different:
            return told
        verdict = told.verdict if told.verdict is AnswerClass.DUPLICATE else AnswerClass.UNSETTLED
        return replace(told, verdict=verdict, difference="; ".join(map(str, different)))

    def _parsed(self, message: Message) -> Answer:
        return parse_answer(message, self._own.dialect.responses)

    def _verdict(self, message: Message) -> BankAnswer:
        """Verdict of an answer by itself."""
        answer = self._parsed(message)
        if message.mti.startswith("04"):
            verdict = _OF_REVERSAL.get(answer.response.code, AnswerClass.UNSETTLED)
        elif message.mti.startswith("023"):
            verdict = _of_advice(answer.response)
        else:
            verdict = _of_sale(answer.response)
        return BankAnswer(
            Delivery.ANSWERED,
            verdict,
            answer.response.code,
            retrieval_reference=answer.reference,
            settlement_day=answer.settlement_date,
            detail=answer.text,
        )


def words_of(code: str) -> tuple[str, str]:
    """Text of an answer code for people, in Chinese and English."""
    known = response_code(code)
    return known.chinese, known.english


def refuses_for_good(code: str) -> bool:
    """True when an answer code is a final refusal."""
    return response_code(code).response_class is ResponseClass.DECLINED


def _of_sale(response: ResponseCode) -> AnswerClass:
    return _NO_FINAL_WORD.get(response.code) or _VERDICTS[response.response_class]


def _of_advice(response: ResponseCode) -> AnswerClass:
    return _NO_FINAL_WORD.get(response.code) or _VERDICTS[response.in_doubt]
