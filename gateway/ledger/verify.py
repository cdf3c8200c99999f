"""Verification of the ledger against itself. Read only, over one state of it, in one process or several (`workers`).

The sum over all accounts is zero by construction, so it proves little; the checks that bite compare each account with
its transfers, each debit with its money and with the journal, each row that never changes with the link it was chained
by, and each other row with its newest seal in the journal. Nobody without the key can make a chain anew; against those
who have it, whoever noted a head elsewhere gives it back, and it must still stand where it stood. What the world
outside says (bank's book, purses) is compared where that world can be asked: on the bench and at the day's end.

Nothing here shows what names a person, and a ledger whose personal data was erased proves as much as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from sqlalchemy import Connection, Engine, func, select

from gateway.ledger import tables, verify_chains, verify_seals
from gateway.ledger.chain import ChainKeys
from gateway.ledger.findings import FINDINGS_MAX, Check, Finding, Head, checked
from gateway.ledger.verify_chains import ChainWalks
from gateway.ledger.verify_rules import RULES, check_rule
from gateway.ledger.workers import reading
from gateway.rules.loading import digest_of_body

__all__ = ["CHECKS", "FINDINGS_MAX", "NOTED_HEADS", "Check", "Finding", "Head", "verify"]

NOTED_HEADS = "heads noted elsewhere stand in their chains"

RULES_ON_FILE = "the rules on file are what their digests say"

ROWS_OF_A_LARGE_ONE: Final = 100_000
"""Chained rows, whose verification takes about as long as a process needs to start."""

CHECKS = (*verify_chains.NAMES.values(), verify_seals.NAME, RULES_ON_FILE, *(rule.name for rule in RULES))
"""Names of all checks, in the order in which they are told."""


def verify(
    engine: Engine,
    keys: ChainKeys,
    progress: Callable[[str], None] | None = None,
    *,
    noted: Iterable[str] = (),
    workers: int = 1,
) -> list[Check]:
    """Run every check over one state of the ledger; `noted` are digests (hex) of heads noted elsewhere before.

    `workers`: processes to use, where there is enough to read. Raises `WorkerLost` when one of them is lost.
    """
    tell = progress or (lambda _: None)
    wanted = list(dict.fromkeys(bytes.fromhex(digest) for digest in noted))
    with reading(engine, workers if _is_large(engine) else 1) as readers:
        # The longest tasks first: who is done with the others early has nothing to help with.
        sealed = verify_seals.submit(readers)
        walks = ChainWalks(readers, keys, wanted)
        rules = [(rule.name, readers.submit(check_rule, number)) for number, rule in enumerate(RULES)]
        checks = _chains(walks, wanted, tell)
        tell(verify_seals.NAME)
        checks.append(verify_seals.answer(readers, sealed))
        tell(RULES_ON_FILE)
        checks.append(_rules_on_file(readers.connection))
        for name, task in rules:
            tell(name)
            checks.append(readers.answer(task))
    return checks


def _is_large(engine: Engine) -> bool:
    """True where several processes are through sooner than one, although they must be started."""
    with engine.connect() as connection:
        rows = connection.execute(select(func.sum(tables.chain.c.number))).scalar()
    return int(rows or 0) >= ROWS_OF_A_LARGE_ONE


def _chains(walks: ChainWalks, wanted: list[bytes], tell: Callable[[str], None]) -> list[Check]:
    """Check the chains; the journal first, because it knows of keys."""
    tell(verify_chains.NAMES["journal"])
    checks = [walks.journal()]
    for table in (tables.transfer, tables.decision):
        tell(verify_chains.NAMES[table.name])
        checks.append(walks.other(table))
    if wanted:
        tell(NOTED_HEADS)
        lost = [d.hex() for d in wanted if d not in walks.seen]
        checks.append(checked(NOTED_HEADS, len(wanted), (Finding(NOTED_HEADS, d, "no row has it now") for d in lost)))
    return checks


def _rules_on_file(connection: Connection) -> Check:
    """Check that each version of the rules named by decisions still has the text it had."""
    rows = connection.execute(select(tables.rules.c.version, tables.rules.c.digest, tables.rules.c.body)).all()
    problem = "the text is another than the one its digest was made of"
    bad = (row.version for row in rows if not _has_digest(row.body, row.digest))
    return checked(RULES_ON_FILE, len(rows), (Finding(RULES_ON_FILE, f"rules {v}", problem, "rules") for v in bad))


def _has_digest(body: str, digest: str) -> bool:
    try:
        return digest_of_body(body) == digest
    except ValueError:
        return False
