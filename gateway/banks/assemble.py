"""Assembly of a bank of the site file: its link, its channel, its outbox and the collector of its debts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from drivers.bank import BankLink, BankLinkConfig, BankLinkState, BankState
from drivers.errors import DeviceError
from gateway.banks.config import Bank
from gateway.banks.iso8583 import Iso8583Channel, TransportError
from gateway.debit.engine import DebitEngine
from gateway.health import Tell
from gateway.ledger.batches import LedgerWriter
from gateway.ledger.reading import LedgerReader
from gateway.outbox.collector import Collector
from gateway.outbox.worker import Backlog, OutboxWorker
from gateway.rules.loading import DebitRules
from gateway.surroundings import DELIVERIES, Surroundings
from protocols.bank.anchors import Anchor
from protocols.bank.codec import Message
from protocols.bank.dialects import CUPS_POS_BCD
from protocols.bank.responses import RESPONSE_TABLES
from protocols.bank.transactions import ECHOED, Profile


class BankTransport:
    """Transport over a bank link, in the shape a channel wants."""

    def __init__(self, make_link: Callable[[Callable[[Message], None]], BankLink]) -> None:
        """`make_link`: makes the link, given the handler of answers that no exchange waits for."""
        self._late: Callable[[Message], None] | None = None
        self._link = make_link(self._heard)
        self.run = self._link.run

    @property
    def up(self) -> bool:
        """True when the bank has signed every terminal in, and the line lives."""
        return self._link.state.state is BankState.UP

    def on_late(self, handler: Callable[[Message], None]) -> None:
        """Set the handler of answers that no exchange waits for."""
        self._late = handler

    def _heard(self, message: Message) -> None:
        if self._late is not None:
            self._late(message)

    async def exchange(self, request: bytes, *, timeout_s: float) -> Message:
        """Exchange one message; driver errors become transport errors with what is known of the request."""
        try:
            return await self._link.exchange(request, timeout_s=timeout_s)
        except DeviceError as error:
            raise TransportError(str(error), DELIVERIES[error.outcome]) from error


@dataclass(frozen=True, slots=True)
class LinkedBank:
    """Line and channel of one bank, before there is an engine to work with it."""

    section: Bank
    channel: Iso8583Channel
    run: Callable[[], Awaitable[object]]


def link(
    section: Bank,
    terminals: Mapping[str, Sequence[str]],
    surroundings: Surroundings,
    tell: Tell,
    *,
    utc_offset_min: int,
    anchor: Callable[[], Anchor | None],
) -> LinkedBank:
    """Link a bank. `terminals`: numbers at this bank by charge point. `anchor`: position of our ledger."""
    numbers = tuple(number for of_point in terminals.values() for number in of_point)
    profile = Profile(
        terminal=numbers[0] if numbers else "",
        merchant=section.merchant_no,
        tpdu=bytes.fromhex(section.tpdu),
        header=bytes.fromhex(section.header),
        utc_offset_min=utc_offset_min,
        dialect=replace(CUPS_POS_BCD, responses=RESPONSE_TABLES[section.response_codes]),
        echoed=ECHOED - frozenset(section.not_echoed),
        max_message_age_s=section.max_message_age_s,
        anchor_field=section.anchor_field or None,
    )
    device = f"bank/{section.name}"
    line = BankLinkConfig(
        device=device,
        profile=profile,
        terminals=numbers,
        echo_idle_s=section.echo_idle_s,
        backoff_max_s=section.reconnect_max_s,
    )
    transport = surroundings.device(
        device,
        lambda: BankTransport(
            lambda heard: BankLink(
                line,
                connect=partial(surroundings.connect, section.address, device=device),
                clock=surroundings.clock,
                chance=surroundings.chance,
                on_state=partial(_tell_state, tell, device),
                on_late=heard,
                anchor=anchor,
            )
        ),
    )
    channel = Iso8583Channel(section.name, profile, terminals, transport)
    transport.on_late(channel.heard_late)
    tell(device, False, "not connected yet", "bank_unavailable")
    return LinkedBank(section, channel, transport.run)


def tasks(
    bank: LinkedBank,
    engine: DebitEngine,
    surroundings: Surroundings,
    *,
    writer: LedgerWriter,
    reader: LedgerReader,
    rules: DebitRules,
    on_backlog: Callable[[str, Backlog], None],
) -> Mapping[str, Callable[[], Awaitable[object]]]:
    """Tasks of this bank, by task name."""
    name = bank.section.name
    worker = OutboxWorker(
        bank.channel,
        writer,
        reader,
        clock=surroundings.clock,
        random=surroundings.chance,
        rules=rules,
        fresh=partial(engine.banks.fresh, name),
        on_backlog=partial(on_backlog, name),
    )
    collector = Collector(name, engine, reader, clock=surroundings.clock)
    return {f"bank/{name}": bank.run, f"outbox/{name}": worker.run, f"debts/{name}": collector.run}


def _tell_state(tell: Tell, device: str, state: BankLinkState) -> None:
    up = state.state is BankState.UP
    code = "bank_misbehaves" if state.misbehaved else "bank_unavailable"
    tell(device, up, f"{state.state.value}: {state.cause}", None if up else code)
