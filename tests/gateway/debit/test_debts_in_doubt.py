"""A debt about which a bank has yet to say what became of an earlier try is not tried again."""

from gateway.banks.channel import NewAttempt
from gateway.debit.attempts import Asking, Recovery, store_recovery
from gateway.debit.states import debit_row

from .conftest import APPROVED, DECLINED, claim_request, live

HOUR_S = 3601


def test_a_debt_whose_sale_is_in_doubt_gets_no_further_try(box):
    """Declined, and approved afterwards: the money may have moved, and is on its way back."""

    async def scenario(box):
        debit_id = (await box.charge(claim_request(), DECLINED)).debit_id
        await box.heard_late(APPROVED)
        assert (box.states(), box.states("attempt")) == (["debt"], ["reversing"])
        box.clock.now += HOUR_S
        await box.collector.round()
        assert box.states("attempt") == ["reversing"]
        # Nor does it when somebody else finds it due.

        def change(tx):
            new = NewAttempt("a" * 32, box.clock.utcnow())
            return store_recovery(tx, Asking(box.bank, new), debit_row(tx, debit_id))

        assert await box.in_books(change) is Recovery.NOT_DUE
        assert box.states("attempt") == ["reversing"]

    live(box, scenario)
