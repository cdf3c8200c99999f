"""A bank with a book of its own, behind a network that loses, delays and repeats, and is told what to do next.

`book` is the truth: fen really taken from payers, by the keys of the message that took them. What the gateway is told
about it may be late, wrong in time, or missing.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

from gateway.banks.channel import BankAnswer
from gateway.banks.pos import PosChannel, PosLateAnswer
from gateway.model.answers import AnswerClass
from gateway.model.delivery import Delivery

APPROVED = BankAnswer(Delivery.ANSWERED, AnswerClass.APPROVED, "00")
DECLINED = BankAnswer(Delivery.ANSWERED, AnswerClass.DECLINED_FOR_NOW, "51")
NOT_FOUND = BankAnswer(Delivery.ANSWERED, AnswerClass.NOT_FOUND, "25")
UNSETTLED = BankAnswer(Delivery.ANSWERED, AnswerClass.UNSETTLED, "96")
SILENT = BankAnswer(Delivery.SILENT)
NOT_SENT = BankAnswer(Delivery.NOT_SENT)

AGE_S = 60.0
"""The network drops what is older."""

SALE = (
    "approve",
    "decline",
    "no final word, taken",
    "no final word, not taken",
    "answer lost",
    "answer late",
    "decline late",
    "delayed",
    "vanished",
    "not sent",
    "power cut, taken",
    "power cut, delayed",
    "power cut, not taken",
)
REVERSAL = ("honest", "blocks", "answer lost", "vanished", "other", "not sent")
ADVICE = ("approve", "decline", "answer lost", "answer late", "vanished", "other", "not sent")


@dataclass(frozen=True, slots=True)
class Wandering:
    """A sale still in the network."""

    key: tuple[str, str]
    amount: int
    sent_at: float


class ModelBank(PosChannel):
    """A `BankChannel`."""

    max_message_age_s = AGE_S
    up = True

    def __init__(self, clock):
        super().__init__("bank-1", {"lane-1": ("T0000001", "T0000002")})
        self.clock = clock
        self.plan = {"sale": deque(), "reversal": deque(), "advice": deque()}
        self.book = {}
        self.asked = {}
        self.reversed = set()
        self.declined = set()
        self.network = []
        self.late_answers = []
        self.heard = []
        self.power_cut = asyncio.Event()

    # --- BankChannel ----------------------------------------------------------------------------------------------

    def takes(self, contract_ref):
        return True

    def message(self, kind, order):
        return f"{kind} {order.terminal} {order.batch} {order.stan} {order.amount_fen} {order.contract_ref}".encode()

    def repeat(self, request):
        return request + b" again"

    async def exchange(self, request, *, timeout_s):
        words = request.decode().split()
        kind, terminal, _, stan, amount, contract = words[:6]
        key, amount = (terminal, stan), int(amount)
        self.heard.append(request.decode())
        await asyncio.sleep(0)
        plan = self.plan["advice" if kind == "refund" else kind]
        how = plan.popleft() if plan else {"reversal": "honest"}.get(kind, "approve")
        if how == "not sent":
            return NOT_SENT
        if kind == "sale":
            assert key not in self.asked, "a sale's keys are used once"
            self.asked[key] = contract
            answer = await self._sale(how, key, amount, timeout_s)
        elif kind == "reversal":
            answer = self._reversal(how, key)
        else:
            assert self.asked.setdefault(key, contract) == contract, "a repeated advice is the same message"
            # A refund is told as an advice is, and takes from the payer's account what is less than nothing.
            answer = self._advice(how, key, -amount if kind == "refund" else amount)
        if answer.delivery is Delivery.SILENT:
            self.clock.now += max(0.0, timeout_s)
        return answer

    async def _sale(self, how, key, amount, timeout_s):
        if how in ("approve", "no final word, taken", "answer lost", "answer late", "power cut, taken"):
            self._post(key, amount)
        elif how in ("decline", "decline late"):
            self.declined.add(key)
        elif how in ("delayed", "power cut, delayed"):
            self.network.append(Wandering(key, amount, self.clock.now))
        if how.startswith("power cut"):
            self.power_cut.set()
            await asyncio.Event().wait()
        if how in ("answer late", "decline late"):
            self.late_answers.append((key, APPROVED if how == "answer late" else DECLINED))
        if how.startswith("no final word"):
            return UNSETTLED
        return {"approve": APPROVED, "decline": DECLINED}.get(how, SILENT)

    def _reversal(self, how, key):
        if how == "vanished":
            return SILENT
        if how == "other":
            return UNSETTLED
        answer = NOT_FOUND
        if key in self.book:
            del self.book[key]
            self.reversed.add(key)
        if how == "blocks":
            # It closes what it never had, and refuses that when it comes.
            self.declined.add(key)
            answer = APPROVED
        if key in self.reversed:
            answer = APPROVED
        return SILENT if how == "answer lost" else answer

    def _advice(self, how, key, amount):
        if how == "vanished":
            return SILENT
        if how == "other":
            return UNSETTLED
        if key not in self.book and key not in self.declined:
            if how == "decline":
                self.declined.add(key)
            else:
                self._post(key, amount)
        answer = APPROVED if key in self.book else DECLINED
        if how == "answer late":
            self.late_answers.append((key, answer))
        return SILENT if how in ("answer lost", "answer late") else answer

    def _post(self, key, amount):
        assert key not in self.book, "the bank takes the money of one message once"
        self.book[key] = amount

    # --- what happens behind the gateway's back -------------------------------------------------------------------

    def arrive(self, index, *, answered):
        """A delayed sale arrives at last, unless it is too old; its answer may get through, late."""
        message = self.network.pop(index)
        if self.clock.now - message.sent_at >= AGE_S or message.key in self.reversed:
            return
        if message.key in self.declined:
            answer = DECLINED
        else:
            self._post(message.key, message.amount)
            answer = APPROVED
        if answered:
            self.late_answers.append((message.key, answer))

    def hear_late(self, index, *, twice=False, without_terminal=False):
        """An answer nobody waits for any more gets through."""
        (terminal, stan), answer = self.late_answers.pop(index)
        for _ in range(2 if twice else 1):
            self._late(PosLateAnswer(None if without_terminal else terminal, stan, answer))
