"""Doing an act: it becomes one change of the ledger, if the account may do it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from gateway.acts.actor import Actor, Role
from gateway.acts.acts import Act, Facts, Refused, Terms
from gateway.clearing.rules import load_rules as load_clearing_rules
from gateway.clearing.terms import Terms as ClearingTerms
from gateway.config import SiteFile
from gateway.ledger.transaction import Change, Transaction
from gateway.points.config import ChargePoint
from gateway.rules.loading import DebitRules, load_rules
from gateway.texts.catalogue import Words


def change_of(act: Act, actor: Actor, terms: Terms, groups: Mapping[Role, Iterable[str]]) -> Change[Facts]:
    """Change that does the act. Raises `Refused` where the account has not the role; the change raises it, too."""
    if not actor.has(act.role, groups):
        raise Refused("not_your_role", Words("acts.not-your-role", account=actor.name, role=act.role.value))

    def change(tx: Transaction) -> Facts:
        return act.do(tx, actor, terms)

    return change


def terms_of(site: SiteFile, rules: DebitRules | None = None) -> Terms:
    """Terms of a site for its acts. Raises `RulesError`."""
    found = load_rules(site.rules.file) if rules is None else rules
    return Terms(found, lambda: clearing_terms_of(site, found))


def clearing_terms_of(site: SiteFile, rules: DebitRules) -> ClearingTerms:
    """Rules of clearing with what they need of the site file. Raises `ClearingRulesError`."""
    points: Sequence[ChargePoint] = site.charge_points
    terminals = {
        bank.name: frozenset(number for point in points for number in point.terminals.get(bank.name, ()))
        for bank in site.banks
    }
    return ClearingTerms(
        rules=load_clearing_rules(site.clearing.rules),
        terminals=terminals,
        stations={point.name: point.station for point in points if point.station is not None},
        message_age_s={bank.name: float(bank.max_message_age_s) for bank in site.banks},
        utc_offset_min=site.site.utc_offset_min,
        debit_rules=rules,
    )
