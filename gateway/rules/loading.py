"""Loading of debit rules: the shipped document, a site's own over it, and a stored one as it was.

A site's document states its version and what differs. What is then in force is named `version@shipped version`, so an
update of the software that ships other numbers cannot change what a recorded version means. A document whose version
already has that form is a complete one, as the ledger keeps them, and nothing is laid under it.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from gateway.documents import DocumentError, Problem, not_toml, problem_of, too_large, unreadable
from gateway.rules.schema import (
    Deadline,
    Debt,
    Document,
    LimitsByService,
    Listing,
    RefundByPeople,
    RetryByKind,
    Reversal,
    StandInByService,
)
from gateway.text_files import text_of
from gateway.texts.catalogue import Words

SHIPPED: Final = Path(__file__).with_name("default.toml")
FILE_BYTES_MAX: Final = 1 << 20
"""Largest document of rules: it has a few kilobytes; what is larger is not one."""


class RulesError(DocumentError):
    """Problem of rules that cannot be used; names key, value and cure of each."""


@dataclass(frozen=True, slots=True)
class DebitRules:
    """Debit rules of one version, complete."""

    version: str
    digest: str
    """Digest (SHA-256, hex) over the content: order, comments and notation of the document do not matter."""
    body: str
    """Content as TOML; read again it gives the same rules."""
    stand_in: StandInByService
    deadline: Deadline
    retry: RetryByKind
    reversal: Reversal
    debt: Debt
    refund: RefundByPeople
    listing: Listing
    limits: LimitsByService


def load_rules(path: Path | None) -> DebitRules:
    """Load the rules of a site's file, or those shipped. Raises `RulesError`."""
    if path is None:
        return shipped_rules()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RulesError(path, [unreadable(error)]) from error
    if len(data) > FILE_BYTES_MAX:
        raise RulesError(path, [too_large(len(data))])
    return parse_rules(data, path)


@cache
def shipped_rules() -> DebitRules:
    """Load the rules that come with the software."""
    return _rules(_validated(_shipped_table(), SHIPPED))


def parse_rules(data: bytes, path: Path) -> DebitRules:
    """Parse the rules of a document; `path` is for error messages. Raises `RulesError`."""
    table = _table(data, path)
    version = table.get("version")
    if isinstance(version, str) and "@" in version:
        return _rules(_validated(table, path))
    merged = _laid_over(_shipped_table(), table)
    if version is None:
        del merged["version"]
    rules = shipped_rules()
    if version == rules.version:
        found = _rules(_validated(merged, path))
        if found.digest != rules.digest:
            problem, cure = Words("rules.version-of-shipped"), Words("rules.give-own-version")
            raise RulesError(path, [Problem("version", repr(version), problem, cure)])
        return found
    document = _validated(merged, path)
    return _rules(document.model_copy(update={"version": f"{version}@{rules.version}"}))


def digest_of_body(body: str) -> str:
    """Digest of a stored text, whatever keys the software of its time knew.

    Raises ValueError for what is no TOML.
    """
    return _digest(tomllib.loads(body))


def diff(before: DebitRules, after: DebitRules) -> list[tuple[str, Any, Any]]:
    """Differences as (key, value before, value after) in the order of the document; None where a key is not there."""
    old, new = dict(flat(before)), dict(flat(after))
    keys = [*old, *(key for key in new if key not in old)]
    return [(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]


def flat(rules: DebitRules) -> Iterator[tuple[str, Any]]:
    """Keys and their values as the document writes them."""
    yield from _flat(tomllib.loads(rules.body), "")


def _flat(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@cache
def _shipped_bytes() -> bytes:
    return SHIPPED.read_bytes()


def _shipped_table() -> dict[str, Any]:
    return _table(_shipped_bytes(), SHIPPED)


def _table(data: bytes, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text_of(data))
    except ValueError as error:
        raise RulesError(path, [not_toml(error)]) from error


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a document over another: tables key by key, everything else as a whole."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _laid_over(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


def _validated(table: Mapping[str, Any], path: Path) -> Document:
    try:
        return Document.model_validate(table)
    except ValidationError as error:
        raise RulesError(path, [problem_of(found, Document) for found in error.errors()]) from error


def _rules(document: Document) -> DebitRules:
    content = document.model_dump(mode="json")
    return DebitRules(
        version=document.version,
        digest=_digest(content),
        body="\n".join(_toml(content, "")) + "\n",
        stand_in=document.stand_in,
        deadline=document.deadline,
        retry=document.retry,
        reversal=document.reversal,
        debt=document.debt,
        refund=document.refund,
        listing=document.listing,
        limits=document.limits,
    )


def _digest(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=str)
    return sha256(canonical.encode()).hexdigest()


def _toml(table: Mapping[str, Any], name: str) -> Iterator[str]:
    """Write a table of plain values and tables as TOML lines: values first, as what follows a heading belongs to it."""
    plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
    if name and (plain or not table):
        yield f"\n[{name}]"
    for key, value in plain.items():
        # JSON writes numbers, booleans, ASCII strings and lists of them in just the way TOML does.
        yield f"{key} = {json.dumps(value)}"
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _toml(value, f"{name}.{key}" if name else key)
