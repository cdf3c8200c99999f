"""Erasing personal data: nothing of it is left in the file, what is open stays, and the ledger proves as before."""

import asyncio

import pytest
from sqlalchemy import select

from gateway.debit.claims import PurchaseResult
from gateway.ledger import engines, privacy, tables
from gateway.ledger.batches import Committer
from gateway.ledger.pace import Pace
from gateway.ledger.privacy import AGE_MIN_US, PAGE, WHY_KEPT, Erased, Selection, erase_all, look
from gateway.ledger.seals import CODES, DIGEST_BYTES, LAYOUTS, entries
from gateway.ledger.verify import verify
from gateway.model.clock import to_us
from gateway.model.passage import Funding, PurchaseOutcome, Release
from hardware.bench.chain_key import KEYS
from hardware.bench.clocks import StillClock
from hardware.bench.ledger_view import texts
from tests.gateway.debit.conftest import APPROVED, CONTEXT, DECLINED, SILENT, Box, charge, hold_request, payer_of

RULE = "of an erased passage nothing personal is left, and the journal tells of it"
PURSE_CARDS = ("99010000000000000001", "99010000000000000002")
DAY_US = AGE_MIN_US


class Desk:
    """A ledger with passages of every kind, and what erases in it."""

    def __init__(self, path):
        self.path = path
        self.box = Box(path)
        asyncio.run(self._fill())
        self.engine = engines.open_eraser(path)
        self.reader = engines.open_reader(path)
        self.now_us = to_us(self.box.clock.utcnow()) + 40 * DAY_US

    async def _fill(self):
        async with self.box as box:
            at = to_us(box.clock.utcnow())
            for n, card in enumerate((*PURSE_CARDS, PURSE_CARDS[0])):
                await charge(box, hold_request(f"purse {n}", card=card, at=at))
            box.bank.answers += [APPROVED, DECLINED, SILENT]
            for n in range(3):
                payer = payer_of(Funding.BANK_ONLINE, mandate=f"m{n}")
                await charge(box, hold_request(f"bank {n}", payer=payer, card=f"9901{n:014d}77", at=at))
            unknown = PurchaseResult(PurchaseOutcome.UNKNOWN)
            await charge(box, hold_request("unknown", card="99010000000000000009", at=at), result=unknown)
            sight = hold_request("turned away", card="99010000000000000008", at=at).sight
            await box.engine.refuse(sight, "card_listed_in_debt", Release.STOP, CONTEXT, timeout_s=5)

    def commit(self, change):
        return Committer(self.engine, StillClock(self.now_us), keys=KEYS).commit([change])[0]

    def erase(self, **which):
        told = []
        done = erase_all(
            self.reader,
            self.commit,
            Selection(**which),
            "wang",
            lambda found: told.append(found.passages),
            now_us=self.now_us,
            pace=Pace(),
        )
        assert max(told, default=0) == done.passages
        return done

    def look(self, **which):
        with self.reader.connect() as connection:
            return look(connection, Selection(**which), self.now_us)

    def everything(self):
        """What `erase` gets here when all that may go goes."""
        return self.erase(before_us=self.now_us)

    def rows(self, sql):
        return self.box_rows(sql)

    def box_rows(self, sql):
        with self.reader.connect() as connection:
            return [texts(row) for row in connection.exec_driver_sql(sql)]

    def subjects(self):
        with self.reader.connect() as connection:
            return [tuple(row) for row in connection.execute(select(tables.subject))]

    def verified(self):
        """Findings and heads."""
        checks = verify(self.reader, KEYS)
        return [f for c in checks for f in c.findings], {c.head.chain: c.head.digest for c in checks if c.head}

    def close(self):
        self.engine.dispose()
        self.reader.dispose()


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path / "ledger.db")
    yield desk
    desk.close()


def test_what_is_settled_goes_and_the_rest_stays(desk):
    assert desk.look(before_us=desk.now_us).passages == 5
    done = desk.everything()
    assert done.passages == 5, "three of the purse, one bank approved, one turned away"
    assert done.purchase_files == 4
    assert done.card_serials == 3, "of two purse cards and one bank card"
    assert done.obligors == 0, "the plate's owner still has an open hold, mandates are no plates"
    assert done.kept == {"debit_open": 3}
    left = desk.rows("select distinct state from debit d join passage p on p.id = d.passage_id"
                     " join subject s on s.id = p.id where s.erased_at is null order by state")  # fmt: skip
    assert left == [("debt",), ("held",), ("owed",)]


def test_the_ledger_proves_what_it_proved_before(desk):
    findings, heads = desk.verified()
    assert findings == []
    desk.everything()
    findings, after = desk.verified()
    assert findings == []
    assert (heads["transfer"], heads["decision"]) == (after["transfer"], after["decision"])
    noted = next(c for c in verify(desk.reader, KEYS, noted=heads.values()) if "noted" in c.name)
    assert noted.ok


def test_the_journal_tells_who_erased_which_passage(desk):
    desk.everything()
    told = desk.rows("select ref, actor from journal where kind = 'passage' and event = 'erased' order by ref")
    erased = desk.rows("select p.id, 'wang' from passage p join subject s on s.id = p.id"
                       " where s.erased_at is not null order by p.id")  # fmt: skip
    assert told == erased
    assert len(told) == 5


def test_erased_once_is_erased(desk):
    desk.everything()
    again = desk.everything()
    assert (again.passages, again.kept) == (0, {"debit_open": 3})


def test_a_look_changes_nothing_and_says_the_same(desk):
    before = desk.subjects()
    would = desk.look(before_us=desk.now_us)
    assert desk.subjects() == before
    done = desk.everything()
    assert (would.passages, would.purchase_files, would.kept) == (done.passages, done.purchase_files, done.kept)


def bytes_of(path):
    return b"".join(part.read_bytes() for part in sorted(path.parent.glob(path.name + "*")))


def test_of_an_erased_card_not_one_byte_is_left_in_the_file(desk):
    card = PURSE_CARDS[1].encode()
    files = [b"beforepurse 1", b"afterpurse 1"]
    assert all(secret in bytes_of(desk.path) for secret in (card, *files))
    desk.erase(card_number=PURSE_CARDS[1])
    assert engines.forget_log(desk.engine)
    data = bytes_of(desk.path)
    assert not any(secret in data for secret in (card, *files))
    assert PURSE_CARDS[0].encode() in data


def test_what_is_overwritten_does_not_depend_on_how_the_library_was_built(desk):
    with desk.engine.connect() as connection:
        assert connection.exec_driver_sql("pragma secure_delete").scalar_one() == 1


def test_a_reader_keeps_the_log_for_a_while(desk):
    with desk.reader.connect() as connection:
        connection.execute(select(tables.subject)).first()
        desk.engine.dispose()
        desk.engine = engines.open_eraser(desk.path)
        desk.erase(card_number=PURSE_CARDS[1])
        with desk.engine.connect() as writer:
            writer.connection.driver_connection.execute("pragma busy_timeout = 0")
        assert not engines.forget_log(desk.engine)


def test_a_card_serial_goes_with_the_last_passage_of_its_card(desk):
    (one, two) = desk.rows("select p.id from passage p join subject s on s.id = p.id"
                           f" where s.card_number = '{PURSE_CARDS[0]}'")  # fmt: skip
    assert desk.erase(passage_id=one[0]).card_serials == 0
    assert desk.erase(passage_id=two[0]).card_serials == 1


def test_a_payer_known_by_its_plate_goes_unknown_with_its_last_passage(desk):
    """Only once nothing is open under that plate: settle the unknown purchase first."""
    key = desk.rows("select subject_key from obligor where subject_key is not null")
    assert len(key) == 1
    assert desk.everything().obligors == 0

    async def settle():
        box = Box(desk.path)
        box.clock.now += 100
        async with box:
            request = hold_request("unknown", card="99010000000000000009", at=to_us(box.clock.utcnow()))
            await charge(box, request)

    asyncio.run(settle())
    assert desk.everything().obligors == 1
    assert desk.rows("select count(*) from obligor where subject_key is not null") == [(0,)]
    assert desk.verified()[0] == []


@pytest.mark.parametrize(
    ("which", "passages"),
    [
        ({"plate": "测A00001"}, 5),
        ({"plate": "测A00002"}, 0),
        ({"card_number": PURSE_CARDS[0]}, 2),
        ({"passage_id": "0"}, 0),
    ],
    ids=str,
)
def test_by_plate_card_or_passage(desk, which, passages):
    assert desk.look(**which).passages == passages
    assert desk.erase(**which).passages == passages


def test_what_is_younger_than_asked_is_not_even_counted(desk):
    at = desk.now_us - 40 * DAY_US
    assert desk.look(before_us=at - DAY_US) == Erased()
    assert desk.look(before_us=at + DAY_US).passages == 5


def test_of_the_last_day_nothing_is_erased(desk):
    """A lane knows by the card's number that a vehicle which stands still has paid."""
    desk.now_us -= 39 * DAY_US + DAY_US // 2
    assert desk.erase(card_number=PURSE_CARDS[0]).kept == {"too_young": 2}
    assert desk.verified()[0] == []


def change(desk, *statements):
    with desk.engine.begin() as connection:
        for statement in statements:
            assert connection.exec_driver_sql(statement).rowcount == 1


APPROVED_DEBIT = "(select id from debit where state = 'funded' and funding = 'bank_online')"
STILL_OPEN = {
    "bank_in_doubt": [
        f"update attempt set state = 'reversing' where debit_id = {APPROVED_DEBIT}",
    ],
    "refund_open": [
        "insert into refund (id, idempotency_key, content_hash, debit_id, amount, reason, target, state, created_at,"
        f" changed_at) values ('r', 'k', 'h', {APPROVED_DEBIT}, 1, 'x', 'bank', 'decided', 0, 0)",
    ],
    "item_open": [
        "insert into item (id, kind, ref, debit_id, amount, state, created_at, changed_at)"
        f" values (99, 'x', 'x', {APPROVED_DEBIT}, 0, 'open', 0, 0)",
    ],
    "debit_open": [f"update debit set state = 'released' where id = {APPROVED_DEBIT}"],
}


@pytest.mark.parametrize("why", STILL_OPEN)
def test_what_somebody_still_works_on_stays(desk, why):
    before = desk.look(before_us=desk.now_us).kept[why]
    change(desk, *STILL_OPEN[why])
    done = desk.everything()
    assert done.passages == 4
    assert done.kept[why] == before + 1


def test_a_late_approval_that_is_being_reversed_is_still_open(desk):
    change(desk, f"update attempt set state = 'reversed', late_approval = 1 where debit_id = {APPROVED_DEBIT}")
    assert desk.everything().kept["bank_in_doubt"] == 1


def test_a_disputed_attempt_is_still_open(desk):
    change(desk, f"update attempt set state = 'disputed' where debit_id = {APPROVED_DEBIT}")
    assert desk.everything().kept["bank_in_doubt"] == 1


def test_a_passage_without_a_decision_stays(desk):
    with desk.engine.connect() as connection:
        connection.connection.driver_connection.execute("pragma foreign_keys = off")
    change(desk, "delete from decision where outcome = 'refused' and debit_id is null")
    assert desk.everything().kept["undecided"] == 1


def test_every_reason_is_told_in_words():
    from gateway.cli.privacy import WHY_KEPT as told

    assert tuple(told) == WHY_KEPT


@pytest.mark.parametrize("which", [{}, {"plate": "x", "card_number": "y"}])
def test_one_way_to_choose(which):
    with pytest.raises(ValueError, match="exactly one"):
        Selection(**which)


def test_more_than_a_page_is_erased_page_by_page(desk, monkeypatch):
    """Pages are made of passages looked at, whether they stay or go."""
    monkeypatch.setattr(privacy, "PAGE", 2)
    monkeypatch.setattr(privacy, "_PAGES", {name: page.limit(None).limit(2) for name, page in privacy._PAGES.items()})
    assert PAGE > 2
    done = desk.everything()
    assert (done.passages, done.kept) == (5, {"debit_open": 3})
    assert desk.look(before_us=desk.now_us).passages == 0


def test_the_engine_goes_on_after_an_erasure(desk):
    """The same card comes again: a new passage, charged like any other."""
    desk.everything()

    async def again():
        box = Box(desk.path)
        box.clock.now += 100
        async with box:
            assert box.previous(PURSE_CARDS[0]) is None
            await charge(box, hold_request("again", card=PURSE_CARDS[0], at=to_us(box.clock.utcnow())))
            assert box.previous(PURSE_CARDS[0]) is not None

    asyncio.run(again())
    assert desk.verified()[0] == []


# --- what the journal keeps of who was meant --------------------------------------------------------------------------


def sealed(desk, table):
    """Every seal the journal holds of rows of a table, in order: (key, seal)."""
    code = CODES[table]
    contents = desk.rows("select content from journal where event = 'sealed' order by number")
    return [(key, seal) for (content,) in contents for found, key, _, seal in entries(content) if found == code]


def test_a_salt_hides_who_is_meant_and_goes_with_it(desk):
    """Whoever knows every row but the salt finds no commitment that fits; with the salt each would."""
    before = {row[0]: row for row in desk.subjects()}
    layout = LAYOUTS[tables.subject]
    made = [layout.seal(row) for row in before.values()]
    kept = [seal for _, seal in sealed(desk, "subject")]
    assert all(seal in kept for seal in made), "what the journal holds is the seal of the row"
    desk.everything()
    gone = {row[0] for row in desk.rows("select id from subject where plate is null")}
    erased = [row for row in before.values() if row[0] in gone]
    assert len(erased) == 5
    digests = {seal[:DIGEST_BYTES] for _, seal in sealed(desk, "subject")}
    for row in erased:
        for salt in (None, b"", bytes(16), row[0].encode()):
            assert layout.seal((*row[:-1], salt))[:DIGEST_BYTES] not in digests
    assert desk.rows("select count(*) from subject where erased_at is not null and salt is not null") == [(0,)]


def test_tags_of_two_columns_do_not_give_each_other_away(desk):
    """A tag alone is 8 bits: the pads of a row's columns are independent, so no pair of values can be tested."""
    layout = LAYOUTS[tables.subject]
    row = desk.subjects()[0]
    apart = set()
    for n in range(1_000):
        tags = layout.seal((*row[:-1], n.to_bytes(16)))[DIGEST_BYTES:]
        i, j = layout.columns.index("plate"), layout.columns.index("card_number")
        apart.add(tags[i] ^ tags[j])
    assert len(apart) > 240


@pytest.mark.parametrize("table", ["purchase_file", "card_serial"])
def test_a_row_that_was_erased_is_sealed_as_gone(desk, table):
    before = len(desk.rows(f"select * from {table}"))
    desk.everything()
    left = desk.rows(f"select * from {table}")
    gone = [key for key, seal in sealed(desk, table) if seal is None]
    assert len(gone) == before - len(left) > 0


def test_nothing_in_the_journal_names_anybody(desk):
    personal = {value for row in desk.rows("select obu_id, contract, card_number, plate from subject") for value in row}
    text = [str(row) for row in desk.rows("select kind, ref, event, detail, actor from journal")]
    blobs = b"".join(content for (content,) in desk.rows("select content from journal where content is not null"))
    for value in filter(None, personal):
        assert not any(value in line for line in text)
        assert value.encode() not in blobs
        assert ascii(value).strip("'").encode() not in blobs


# --- the rule that watches over it ----------------------------------------------------------------------------------

ERASED = "(select id from subject where erased_at is not null order by id limit 1)"


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (f"update subject set plate = '测A00001' where id = {ERASED}", "some of it is left"),
        (f"update subject set plate_colour = 0 where id = {ERASED}", "some of it is left"),
        (f"update subject set card_number = '1' where id = {ERASED}", "some of it is left"),
        (
            "insert into purchase_file select p.id, x'00', x'00', null from purchase p"
            " join debit d on d.id = p.debit_id join subject s on s.id = d.passage_id"
            " where s.erased_at is not null order by p.id limit 1",
            "some of it is left",
        ),
        ("update subject set erased_at = 1 where card_number like '%9'", "does not tell by whom"),
        (f"update subject set erased_at = null where id = {ERASED}", "by the journal alone"),
    ],
)
def test_the_rule_of_erased_passages_turns_red(desk, statement, words):
    desk.everything()
    change(desk, statement)
    (check,) = (check for check in verify(desk.reader, KEYS) if check.name == RULE)
    (finding,) = check.findings
    assert finding.row.startswith("passage ")
    assert words in finding.problem
