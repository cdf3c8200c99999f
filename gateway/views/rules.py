"""Debit rules in force, key by key, beside those that are shipped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.documents import parameters
from gateway.rules.loading import DebitRules, diff, flat
from gateway.rules.schema import Document
from gateway.texts.catalogue import Pair


@dataclass(frozen=True, slots=True)
class Rule:
    """One key of the rules with its value (None where it is not there) and the value shipped."""

    key: str
    value: Any
    as_shipped: bool
    shipped: Any
    meaning: Pair


@dataclass(frozen=True, slots=True)
class Difference:
    """A key that is not the same in two documents; None where it is not there."""

    key: str
    a: Any
    b: Any


def rules_beside(rules: DebitRules, shipped: DebitRules) -> tuple[Rule, ...]:
    """Every key but the version."""
    before = {key: value for key, value, _ in diff(shipped, rules)}
    meanings = {key: text for key, _, text in parameters(Document)}
    return tuple(
        Rule(
            key,
            value,
            key not in before,
            before.get(key, value),
            # A key inside a table of free keys means what the table does.
            meanings.get(key) or meanings[key.rpartition(".")[0]],
        )
        for key, value in flat(rules)
        if key != "version"
    )


def differences(a: DebitRules, b: DebitRules) -> tuple[Difference, ...]:
    """Differences between two documents."""
    return tuple(Difference(*found) for found in diff(a, b))
