"""Does the ledger agree with itself? Read only, over one snapshot of the database.

The sum over all accounts is zero by construction, so it proves little; the checks that bite compare each account with
its transfers, each debit with its money and with the journal, and each row that never changes with the digest it was
chained by. Chains alone cannot show that somebody rewrote rows and all digests behind them: for that, whoever noted a
head elsewhere gives it back, and it must still stand where it stood. What the world outside says (bank's book, purses)
is compared where that world can be asked: on the bench and at the day's end.

Nothing here reads what names a person: a ledger whose personal data was erased proves as much as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, Table, select, text

from gateway.ledger import chain, tables
from gateway.ledger.verify_rules import RULES, Rule
from gateway.rules.loading import digest_of_body

FINDINGS_MAX = 20
"""Bad rows named per check; the count goes on."""

ROWS_AT_ONCE = 10_000
"""Rows of a chain held in memory while it is recomputed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One row that breaks a rule."""

    check: str
    row: str
    problem: str


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain stands: noted elsewhere, it proves later that nothing up to here was rewritten."""

    chain: str
    number: int
    digest: str
    """SHA-256, hex."""


@dataclass(frozen=True, slots=True)
class Check:
    """What was checked and what was found."""

    name: str
    rows: int
    findings: tuple[Finding, ...]
    more: int = 0
    head: Head | None = None
    """Of a chain: the last row that holds."""

    @property
    def ok(self) -> bool:
        return not self.findings


_CHAINS = {
    "transfer": "the chain of transfers holds",
    "decision": "the chain of decisions holds",
    "journal": "the chain of the journal holds",
}
NOTED_HEADS = "heads noted elsewhere stand in their chains"

RULES_ON_FILE = "the rules on file are what their digests say"

CHECKS = (*_CHAINS.values(), RULES_ON_FILE, *(rule.name for rule in RULES))
"""Every check by its name, in the order in which they run."""


def verify(engine: Engine, progress: Callable[[str], None] | None = None, *, noted: Iterable[str] = ()) -> list[Check]:
    """Run every check over one snapshot; `noted` are digests (hex) of heads that were noted elsewhere before."""
    tell = progress or (lambda _: None)
    wanted = dict.fromkeys(bytes.fromhex(digest) for digest in noted)
    seen = {chain.GENESIS}
    checks = []
    with engine.connect() as connection, connection.begin():
        for table_name, name in _CHAINS.items():
            tell(name)
            checks.append(_walk(connection, name, tables.metadata.tables[table_name], wanted, seen))
        if wanted:
            tell(NOTED_HEADS)
            lost = [Finding(NOTED_HEADS, digest.hex(), "no row has it now") for digest in wanted if digest not in seen]
            checks.append(Check(NOTED_HEADS, len(wanted), tuple(lost[:FINDINGS_MAX]), max(0, len(lost) - FINDINGS_MAX)))
        tell(RULES_ON_FILE)
        checks.append(_rules_on_file(connection))
        for rule in RULES:
            tell(rule.name)
            checks.append(_run(connection, rule))
    return checks


def _walk(connection: Connection, name: str, table: Table, wanted: Iterable[bytes], seen: set[bytes]) -> Check:
    """Recompute a chain row by row, up to the first that does not hold; wanted digests met on the way go to `seen`."""
    number = table.c[chain.CHAINED[table.name]]
    columns = [column for column in table.columns if column.name != "chain"]
    place = columns.index(number)
    looked_for = frozenset(wanted)
    rows, digest = 0, chain.GENESIS
    problem = None
    found = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(
        select(*columns, table.c.chain).order_by(number)
    )
    for row in found:
        *values, stored = row
        if values[place] != rows + 1:
            problem = Finding(name, f"{table.name} {rows + 1}", f"is missing; the next there is has {values[place]}")
            break
        following = chain.link(digest, values)
        if following != stored:
            problem = Finding(
                name, f"{table.name} {rows + 1}", "is not what it was chained as: it was changed, or put in"
            )
            break
        rows, digest = rows + 1, following
        if digest in looked_for:
            seen.add(digest)
    found.close()
    if problem is None:
        problem = _wrong_head(connection, name, table, rows, digest)
    return Check(name, rows, () if problem is None else (problem,), head=Head(table.name, rows, digest.hex()))


def _wrong_head(connection: Connection, name: str, table: Table, rows: int, digest: bytes) -> Finding | None:
    """Rows cut off at the end leave a chain that holds; what tells is the head, written with every row."""
    head = connection.execute(select(tables.chain).where(tables.chain.c.name == table.name)).one_or_none()
    number, stored = (0, chain.GENESIS) if head is None else (int(head.number), bytes(head.digest))
    if (number, stored) == (rows, digest):
        return None
    what = f"the head says {number} rows, there are {rows}" if number != rows else "the head has another digest"
    return Finding(name, f"{table.name} {min(number, rows) + 1}" if number != rows else f"{table.name} {rows}", what)


def _rules_on_file(connection: Connection) -> Check:
    """Decisions name the version of the rules they followed: what stands under it must still be that."""
    rows = connection.execute(select(tables.rules.c.version, tables.rules.c.digest, tables.rules.c.body)).all()
    bad = [
        Finding(RULES_ON_FILE, f"rules {row.version}", "the text is another than the one its digest was made of")
        for row in rows
        if not _has_digest(row.body, row.digest)
    ]
    return Check(RULES_ON_FILE, len(rows), tuple(bad[:FINDINGS_MAX]), max(0, len(bad) - FINDINGS_MAX))


def _has_digest(body: str, digest: str) -> bool:
    try:
        return digest_of_body(body) == digest
    except ValueError:
        return False


def _run(connection: Connection, rule: Rule) -> Check:
    rows = int(connection.execute(text(rule.count)).scalar_one())
    bad = list(_bad_rows(connection, rule))
    return Check(rule.name, rows, tuple(bad[:FINDINGS_MAX]), max(0, len(bad) - FINDINGS_MAX))


def _bad_rows(connection: Connection, rule: Rule) -> Iterator[Finding]:
    for row, problem in connection.execute(text(rule.bad)):
        yield Finding(rule.name, str(row), str(problem))
