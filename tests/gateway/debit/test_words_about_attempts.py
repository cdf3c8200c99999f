"""What a day file or a person says of an attempt, in every state that the bank itself may have left it in."""

from dataclasses import replace

import pytest

from gateway.debit.late import LateEffect, resolve_attempt

from .conftest import APPROVED, DECLINED, NOT_SENT, POLICY, SILENT, claim_request, live
from .test_charge import until_the_fuse_burns
from .test_late import kept, recovery, refund, sale

pytestmark = pytest.mark.slow

SETTLED, REOPENED, CLOSED, IGNORED = (
    LateEffect.SETTLED,
    LateEffect.REOPENED,
    LateEffect.CLOSED,
    LateEffect.IGNORED,
)

# What led there; what "its money moved" does and leaves, and what "it did not" does and leaves: effect, state of the
# attempt, of its debit, fen in suspense. None: it is no news, and nothing changes.
TABLE = {
    "sale unknown": (sale, (SILENT,), 0, (SETTLED, "approved", "funded", 0), (CLOSED, "reversed", "owed", 0)),
    "sale not sent": (sale, (NOT_SENT,), 0, (REOPENED, "reversing", "owed", 1500), None),
    "reversing": (sale, (SILENT, SILENT), 1, (REOPENED, "reversing", "owed", 1500), (CLOSED, "reversed", "owed", 0)),
    "reversed": (sale, (SILENT, APPROVED), 1, (REOPENED, "reversing", "owed", 1500), None),
    "sale approved": (sale, (APPROVED,), 0, None, None),
    "sale declined": (sale, (DECLINED,), 0, (REOPENED, "reversing", "debt", 1500), None),
    "advice stored": (sale, (NOT_SENT, SILENT), 1, (SETTLED, "approved", "funded", 0), None),
    "advice approved": (sale, (NOT_SENT, APPROVED), 1, None, None),
    "advice declined": (sale, (NOT_SENT, DECLINED), 1, (SETTLED, "approved", "recovered", 0), None),
    "recovery unknown": (
        recovery,
        (SILENT,),
        1,
        (SETTLED, "approved", "recovered", 0),
        (CLOSED, "reversed", "debt", 0),
    ),
    "recovery reversed": (recovery, (SILENT, APPROVED), 2, (REOPENED, "reversing", "debt", 1500), None),
    "recovery approved": (recovery, (APPROVED,), 1, None, None),
    "recovery declined": (recovery, (DECLINED,), 1, (REOPENED, "reversing", "debt", 1500), None),
    "refund stored": (refund, (SILENT,), 1, (SETTLED, "approved", "funded", 0), None),
    "refund approved": (refund, (APPROVED,), 1, None, None),
    "refund declined": (refund, (DECLINED,), 1, (SETTLED, "approved", "funded", 0), None),
}
FIRST = ("sale unknown", "sale not sent", "reversing", "reversed", "sale approved", "sale declined")


@pytest.mark.parametrize("posted", [True, False], ids=["posted", "not posted"])
@pytest.mark.parametrize("case", TABLE)
def test_a_word_about_an_attempt_in_every_state(box, case, posted):
    begin, answers, drained, *words = TABLE[case]
    expected = words[0 if posted else 1]
    stan = "000001" if case in FIRST else "000002"

    async def scenario(box):
        await begin(box, *answers, drained=drained)
        before = kept(box, stan)
        attempt_id, debit_id = box.rows(
            "select id, debit_id from attempt join pos_attempt on attempt_id = id where stan = :s", s=stan
        )[0]
        effect = await box.resolve_attempt(attempt_id, posted=posted, source="file 1", actor="ann")
        box.check()
        said = box.rows("select ref, event, debit_id, detail, actor from journal where kind = 'person'")
        if expected is None:
            assert (effect, kept(box, stan)) == (IGNORED, before)
            assert said == []
        else:
            assert (effect, *kept(box, stan)[1:]) == expected
            word = "said_posted" if posted else "said_not_posted"
            assert said == [(attempt_id, word, debit_id, "file 1", "ann")]
        waiting = box.rows("select count(*) from outbox where done_at is null and attempt_id = :a", a=attempt_id)
        if effect in (SETTLED, CLOSED):
            assert waiting == [(0,)], "the bank need not be told any more"
        elif effect is REOPENED:
            assert waiting == [(1,)]

    live(box, scenario)


def test_what_the_bank_said_is_kept_whoever_has_the_last_word(box):
    said = "select response_code, retrieval_reference, settlement_day from attempt"
    told = [("00", "000000004711", "1114")]

    async def scenario(box):
        await box.charge(claim_request(), replace(APPROVED, retrieval_reference="000000004711", settlement_day="1114"))
        assert box.rows(said) == told
        await box.heard_late(DECLINED)
        ((attempt,),) = box.rows("select id from attempt")
        await box.resolve_attempt(attempt, posted=False, source="file 1", actor="ann")
        assert box.rows(said) == told

    live(box, scenario)
    assert box.states() == ["debt"]


def test_the_day_a_file_says_is_the_day_it_was_booked_on(box):
    async def scenario(box):
        await box.charge(claim_request(), SILENT)
        ((attempt,),) = box.rows("select id from attempt")
        word = {"posted": True, "source": "file 1", "actor": "ann", "rules": box.engine.rules}
        await box.in_books(lambda tx: resolve_attempt(tx, attempt, settlement_day="20231115", **word))

    live(box, scenario)
    assert box.rows("select state, settlement_day from attempt") == [("approved", "20231115")]


def test_an_approval_withdrawn_before_anything_is_decided_leaves_the_debit_held(box):
    """The power fails while its bank is asked; the bank then says yes, and no, and has booked nothing."""

    async def cut(box):
        await until_the_fuse_burns(box, box.charge(claim_request(), SILENT), 1, stored=False)

    async def words(box):
        await box.engine.start_up.recover({"lane-1": POLICY}, lambda tx, mandate: 100_000)
        await box.heard_late(APPROVED)
        await box.heard_late(DECLINED)
        assert box.items() == [("answer_contradicted", "open")]
        attempt_id = box.rows("select id from attempt")[0][0]
        effect = await box.resolve_attempt(attempt_id, posted=False, source="file 1", actor="ann")
        assert (effect, box.states(), box.states("attempt")) == (LateEffect.WITHDRAWN, ["held"], ["declined"])
        assert (box.balance("bank"), box.balance("debt"), box.balance("merchant")) == (0, 0, 0)
        box.check()

        await box.engine.start_up.close_backlog()
        assert (box.states(), box.balance("bank"), box.balance("merchant")) == (["debt"], 0, 1500)
        assert box.rows("select count(*) from debit where retry_at is null") == [(0,)], "it is tried again"

    live(box, cut, words, check=False)
    box.check()
