"""A plaza whose day is over: the real engine charged it, its bank has written a file, and the clearing runs on it."""

import asyncio
from dataclasses import replace
from datetime import date

import pytest

from gateway.banks.channel import BankAnswer
from gateway.clearing.day import run_day
from gateway.clearing.imports import import_file
from gateway.clearing.rules import ClearingRules
from gateway.clearing.terms import Terms
from gateway.ledger import engines
from gateway.ledger.writer import Committer
from gateway.model.answers import AnswerClass
from gateway.model.clock import to_us
from gateway.model.delivery import Delivery
from gateway.model.passage import Funding
from hardware.bench.chain_key import KEYS
from tests.gateway.debit.conftest import Box, charge, hold_request, payer_of

DAY, DAY_AFTER, DAY_BEFORE = "20231115", "20231116", "20231114"
"""The fake clock begins at 06:13 local time of the first."""

TODAY = date(2023, 11, 20)
HEAD = "kind,settlement_day,terminal,batch,stan,retrieval_reference,amount,contract,count"
TERMS = Terms(
    terminals={"bank-1": frozenset({"T0000001", "T0000002"})},
    stations={"lane-1": "99010101"},
    message_age_s={"bank-1": 60.0},
)


def approved(day="1115"):
    return BankAnswer(Delivery.ANSWERED, AnswerClass.APPROVED, "00", "000000000001", day)


class Plaza:
    """One box, one bank, one issuer, and the day end."""

    def __init__(self, folder):
        self.folder = folder
        self.box = Box(folder / "ledger.db")
        self.numbers = 0
        self.files = 0
        self.terms = TERMS

    def drive(self, scenario):
        """Run a coroutine with the engine at work."""

        async def inside():
            async with self.box:
                result = await scenario(self)
            self.box.keep_mark()
            self.box.open()
            return result

        return asyncio.run(inside())

    async def pass_bank(self, answer=None, amount=1500, **more):
        """A vehicle whose bank is asked; returns the debit's id."""
        self.numbers += 1
        if answer is not None:
            self.box.bank.answers.append(answer)
        payer = payer_of(Funding.BANK_ONLINE, mandate=f"m{self.numbers}")
        payer = replace(payer, contract_ref=f"62179901{self.numbers:08d}")
        return await self._pass(payer, amount, **more)

    async def pass_purse(self, amount=800, **more):
        self.numbers += 1
        return await self._pass(payer_of(Funding.PURSE), amount, **more)

    async def pass_issuer(self, amount=700, **more):
        self.numbers += 1
        return await self._pass(payer_of(Funding.ISSUER_CLEARING, mandate=f"m{self.numbers}"), amount, **more)

    async def _pass(self, payer, amount, **more):
        request = hold_request(
            f"k{self.numbers}",
            payer=payer,
            amount=amount,
            card=f"990100000000{self.numbers:08d}",
            at=to_us(self.box.clock.utcnow()),
        )
        identity = replace(request.sight.identity, plate=f"测A{self.numbers:05d}")
        day = f"{self.terms.local_date(request.sight.opened_at):%Y%m%d}"
        request = replace(request, sight=replace(request.sight, identity=identity, day=day))
        decision = await charge(self.box, request, **more)
        self.box.clock.now += 1
        return decision.debit_id

    # --- the bank's file ------------------------------------------------------------------------------------------

    def lines(self, day="1115"):
        """What an honest bank writes about a settlement day."""
        rows = self.box.rows(
            "select kind, terminal, batch, stan, amount"
            " from attempt join pos_attempt on attempt_id = id where state = 'approved' and settlement_day = :d"
            " order by created_at, id",
            d=day,
        )
        return [("sale" if kind == "recovery" else kind, *rest) for kind, *rest in rows]

    def file(self, lines, day=DAY):
        """Write a day file."""
        self.files += 1
        path = self.folder / f"day-{self.files}.csv"
        net = sum(-line[4] if line[0] in ("refund", "reversal") else line[4] for line in lines)
        body = [
            f"{kind},{day},{terminal},{batch},{stan},r{self.files},{amount},,"
            for kind, terminal, batch, stan, amount in lines
        ]
        path.write_text("\n".join([HEAD, *body, f"total,{day},,,,,{net},,{len(lines)}"]) + "\n", encoding="utf-8")
        return path

    def bring(self, lines, day=DAY, **more):
        return import_file(self.file(lines, day), "bank-1", day, self.commit, self.terms, **more)

    # --- the day end ----------------------------------------------------------------------------------------------

    def commit(self, change):
        engine = engines.open_writer(self.box.path)
        try:
            return Committer(engine, self.box.clock, keys=KEYS).commit([change])[0]
        finally:
            engine.dispose()

    def run(self, day=DAY, **more):
        result = run_day(day, self.box.reader, more.pop("commit", self.commit), self.terms, today=TODAY, **more)
        self.box.check()
        return result

    def rules(self, **values):
        self.terms = replace(self.terms, rules=ClearingRules(**values))

    def rows(self, sql, **values):
        return self.box.rows(sql, **values)

    def balances(self):
        return {f"{k}:{o}": b for k, o, b in self.rows("select kind, owner, balance from account") if b}

    def items(self):
        return self.rows("select kind, ref, amount, state from item where day is not null order by id")

    def counted(self):
        """Everything the ledger holds, table by table: to see that nothing was written."""
        names = [name for (name,) in self.rows("select name from sqlite_master where type = 'table' order by name")]
        return {name: self.rows(f"select count(*) from {name}")[0][0] for name in names}


@pytest.fixture
def plaza(tmp_path):
    plaza = Plaza(tmp_path)
    yield plaza
    plaza.box.database.dispose()
    plaza.box.reader.dispose()
