"""A debt that nobody touches becomes old, and its payer is listed for it."""

import asyncio
from pathlib import Path

from gateway.model.passage import Funding
from gateway.outbox import collector
from gateway.outbox.collector import Collector
from gateway.rules.loading import parse_rules
from tests.gateway.debit.conftest import DECLINED, Box, charge, hold_request, payer_of

RULES = b'version = "t-1"\n[listing]\ndebts_fen = "never"\ndebts_count = "never"\ndebt_age_s = 7200\n'


def test_a_payer_is_listed_when_its_debt_has_become_old(tmp_path):
    async def story():
        async with Box(tmp_path / "ledger.db", rules=parse_rules(RULES, Path("rules.toml"))) as box:
            box.bank.answers.append(DECLINED)
            await charge(box, hold_request(payer=payer_of(Funding.BANK_ONLINE)))
            finder = Collector("bank-1", box.engine, box.queries, clock=box.clock)
            await finder.round()
            assert box.rows("select listed_at is null from obligor") == [(1,)]
            box.clock.now += 7200
            await finder.round()
            assert box.rows("select listed_at is null from obligor") == [(0,)]
            assert box.rows("select event from journal where kind = 'obligor'") == [("listed",)]
            box.clock.now += collector.LISTS_EVERY_S
            await finder.round()
            assert box.rows("select count(*) from journal where kind = 'obligor'") == [(1,)]
            box.check()

    asyncio.run(story())
