"""Verification of the ledger against itself. Read only, over one snapshot of the database.

The sum over all accounts is zero by construction, so it proves little; the checks that bite compare each account with
its transfers, each debit with its money and with the journal, each row that never changes with the link it was chained
by, and each other row with its newest seal in the journal. Nobody without the key can make a chain anew; against those
who have it, whoever noted a head elsewhere gives it back, and it must still stand where it stood. What the world
outside says (bank's book, purses) is compared where that world can be asked: on the bench and at the day's end.

Nothing here shows what names a person, and a ledger whose personal data was erased proves as much as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from sqlalchemy import Connection, Engine, select, text

from gateway.ledger import tables, verify_chains, verify_seals
from gateway.ledger.chain import ChainKeys
from gateway.ledger.findings import FINDINGS_MAX, Check, Finding, Head, checked
from gateway.ledger.verify_chains import ChainWalks
from gateway.ledger.verify_rules import RULES, Rule
from gateway.ledger.verify_seals import SealedRows
from gateway.rules.loading import digest_of_body

__all__ = ["CHECKS", "FINDINGS_MAX", "NOTED_HEADS", "Check", "Finding", "Head", "verify"]

NOTED_HEADS = "heads noted elsewhere stand in their chains"

RULES_ON_FILE = "the rules on file are what their digests say"

CHECKS = (*verify_chains.NAMES.values(), verify_seals.NAME, RULES_ON_FILE, *(rule.name for rule in RULES))
"""Names of all checks, in the order in which they are told."""


def verify(
    engine: Engine,
    keys: ChainKeys,
    progress: Callable[[str], None] | None = None,
    *,
    noted: Iterable[str] = (),
) -> list[Check]:
    """Run every check over one snapshot; `noted` are digests (hex) of heads that were noted elsewhere before."""
    tell = progress or (lambda _: None)
    wanted = list(dict.fromkeys(bytes.fromhex(digest) for digest in noted))
    with engine.connect() as connection, connection.begin(), SealedRows() as sealed:
        checks = _chains_and_seals(connection, ChainWalks(connection, keys, wanted), sealed, wanted, tell)
        tell(RULES_ON_FILE)
        checks.append(_rules_on_file(connection))
        for rule in RULES:
            tell(rule.name)
            checks.append(_run(connection, rule))
    return checks


def _chains_and_seals(
    connection: Connection, walks: ChainWalks, sealed: SealedRows, wanted: list[bytes], tell: Callable[[str], None]
) -> list[Check]:
    """Check chains and seals; the journal is walked first, because it knows of keys and seals."""
    tell(verify_chains.NAMES["journal"])
    checks = [walks.journal(sealed.read)]
    for table in (tables.transfer, tables.decision):
        tell(verify_chains.NAMES[table.name])
        checks.append(walks.other(table))
    if wanted:
        tell(NOTED_HEADS)
        lost = [d.hex() for d in wanted if d not in walks.seen]
        checks.append(checked(NOTED_HEADS, len(wanted), (Finding(NOTED_HEADS, d, "no row has it now") for d in lost)))
    tell(verify_seals.NAME)
    checks.append(sealed.check(connection))
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


def _run(connection: Connection, rule: Rule) -> Check:
    rows = int(connection.execute(text(rule.count)).scalar_one())
    return checked(rule.name, rows, _bad_rows(connection, rule))


def _bad_rows(connection: Connection, rule: Rule) -> Iterator[Finding]:
    for row, problem, *more in connection.execute(text(rule.bad)):
        if rule.unless is None or not rule.unless(*more):
            yield Finding(rule.name, str(row), str(problem))
