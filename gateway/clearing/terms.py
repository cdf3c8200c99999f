"""Terms of the site that the day end must know, joined from its files by the caller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone

from gateway.clearing.rules import DEFAULTS, ClearingRules
from gateway.model.clearing import day_text, parse_day
from gateway.model.clock import from_us, to_us
from gateway.rules.loading import DebitRules, shipped_rules

MESSAGE_AGE_S_DEFAULT = 86_400.0
"""Longest time a message is under way at a bank that is no longer in the site file: a day."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Terms of clearing: its rules, and terminals, stations, zone and debit rules of this site."""

    rules: ClearingRules = DEFAULTS
    terminals: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Terminal numbers by bank channel."""
    stations: Mapping[str, str] = field(default_factory=dict)
    """Station by charge point, for splits."""
    message_age_s: Mapping[str, float] = field(default_factory=dict)
    """Longest time a message is under way in a bank's network, by channel."""
    utc_offset_min: int = 480
    debit_rules: DebitRules = field(default_factory=shipped_rules)
    """Debit rules: what becomes of a claim that turns into a debt here."""

    @property
    def zone(self) -> timezone:
        """The site's time zone."""
        return timezone(timedelta(minutes=self.utc_offset_min))

    def local_date(self, moment_us: int) -> date:
        """The site's date at a moment."""
        return from_us(moment_us).astimezone(self.zone).date()

    def day_bounds(self, day: str) -> tuple[int, int]:
        """Microseconds of a local day: its first, and the first after it."""
        begins = datetime.combine(parse_day(day), time(), self.zone)
        return to_us(begins), to_us(begins + timedelta(days=1))

    def booking_days(self, channel: str, sent_us: int, last_sent_us: int) -> tuple[str, str]:
        """First and last settlement day into which a bank may have booked a message sent between two moments."""
        age_us = int(self.message_age_s.get(channel, MESSAGE_AGE_S_DEFAULT) * 1e6)
        cut_over = self.rules.profile(channel).cut_over
        if cut_over is None:
            # The bank's day may have turned hours before midnight, or not until then.
            last = self.local_date(last_sent_us + age_us) + timedelta(days=1)
            return day_text(self.local_date(sent_us)), day_text(last)
        return self._bank_day(sent_us, cut_over), self._bank_day(last_sent_us + age_us, cut_over)

    def bank_day(self, channel: str, moment_us: int) -> str:
        """The settlement day of a moment, for banks that do not tell it with their answer."""
        return self._bank_day(moment_us, self.rules.profile(channel).cut_over or "24:00")

    def _bank_day(self, moment_us: int, cut_over: str) -> str:
        local = from_us(moment_us).astimezone(self.zone)
        turned = f"{local:%H:%M}" >= cut_over
        return day_text(local.date() + timedelta(days=1) if turned else local.date())
