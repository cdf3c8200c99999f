"""Builds the parts of a gateway from its site file: the only place that joins charge points, banks, engine and devices.

Product, simulation and tests call the same; they differ in the surroundings and the storage that they bring.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial, singledispatch
from typing import Protocol

from gateway.banks import assemble as banks
from gateway.config import SiteFile
from gateway.debit.engine import DebitEngine, Timing
from gateway.doors import Doors
from gateway.health import Tell
from gateway.ledger.batches import LedgerWriter
from gateway.ledger.reading import LedgerReader
from gateway.model.passage import DeclinePolicy, Funding
from gateway.outbox.worker import Backlog
from gateway.payers.mandates import IssuerPolicy, MandateReader
from gateway.payers.status_lists import StatusLists
from gateway.points.assemble import Common, Point
from gateway.points.config import ChargePoint
from gateway.points.counter import assemble as counter
from gateway.points.counter.config import CounterPoint
from gateway.points.fuel import assemble as fuel
from gateway.points.fuel.config import FuelIsland
from gateway.points.gate.assemble import RelayBoards
from gateway.points.toll import assemble as toll
from gateway.points.toll.config import ChargingLane, EntryLane
from gateway.rules.loading import DebitRules
from gateway.surroundings import Surroundings
from gateway.tariffs.quote import TariffSet
from gateway.timekeeping import Timekeeper
from protocols.bank.anchors import Anchor

Work = Callable[[], Awaitable[object]]


@singledispatch
def assemble_point(section: ChargePoint, common: Common) -> Point:
    """Assemble a charge point of any kind: one line a kind below."""
    del common
    raise TypeError(f"{section.name}: {type(section).__name__} is no kind of charge point that is known here")


assemble_point.register(ChargingLane, toll.assemble)
assemble_point.register(EntryLane, toll.assemble)
assemble_point.register(FuelIsland, fuel.assemble)
assemble_point.register(CounterPoint, counter.assemble)


@dataclass(frozen=True, slots=True)
class Storage:
    """Ledger as the parts use it: writer, reader and anchor."""

    writer: LedgerWriter
    reader: LedgerReader
    anchor: Callable[[], Anchor | None]
    """Gives the anchor (position of the journal) that banks are told; None before the first commit."""


@dataclass(frozen=True, slots=True)
class Documents:
    """Contents of a site's other files. Lists and tariffs are None where nothing needs them."""

    rules: DebitRules
    lists: StatusLists | None = None
    tariffs: TariffSet | None = None


class Listener(Protocol):
    """Receiver of what the parts report: health, timings and backlogs."""

    @property
    def tell(self) -> Tell: ...
    def note_timing(self, timing: Timing) -> None:
        """Take the timing of one finished passage."""
        ...

    def backlog(self, channel: str, backlog: Backlog) -> None:
        """Take the backlog of messages that wait for a bank."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """All parts of a gateway, made and not yet started."""

    engine: DebitEngine
    banks: Mapping[str, Work]
    """Tasks of the banks, by task name, in order of start."""
    points: list[Point]
    boards: RelayBoards
    doors: Doors
    decline_policies: Mapping[str, DeclinePolicy]
    """Decline policy by charge point, for debits that the last run left open."""


def assemble(
    site: SiteFile,
    surroundings: Surroundings,
    storage: Storage,
    documents: Documents,
    *,
    time: Timekeeper,
    listener: Listener,
) -> Parts:
    """Make every part of the site. Nothing is opened or started by it."""
    linked = {
        bank.name: banks.link(
            bank,
            {point.name: point.terminals.get(bank.name, []) for point in site.charge_points},
            surroundings,
            listener.tell,
            utc_offset_min=site.site.utc_offset_min,
            anchor=storage.anchor,
        )
        for bank in site.banks
    }
    engine = DebitEngine(
        storage.writer,
        storage.reader,
        {name: bank.channel for name, bank in linked.items()},
        clock=surroundings.clock,
        random=surroundings.chance,
        rules=documents.rules,
    )
    work: dict[str, Work] = {}
    for bank in linked.values():
        work |= banks.tasks(
            bank,
            engine,
            surroundings,
            writer=storage.writer,
            reader=storage.reader,
            rules=documents.rules,
            on_backlog=listener.backlog,
        )
    doors = Doors(partial(surroundings.http_server, site.http), surroundings.clock, listener.tell)
    boards = RelayBoards(site.relay_boards, surroundings, listener.tell)
    common = Common(
        merchant=site.site.merchant,
        utc_offset_min=site.site.utc_offset_min,
        sections=site.charge_points,
        engine=engine,
        writer=storage.writer,
        reader=storage.reader,
        mandates=MandateReader(storage.reader),
        issuers=issuers_of(site),
        lists=documents.lists,
        tariffs=documents.tariffs,
        boards=boards,
        doors=doors,
        surroundings=surroundings,
        time=time,
        note_timing=listener.note_timing,
        tell=listener.tell,
    )
    points = [assemble_point(section, common) for section in site.charge_points]
    return Parts(engine, work, points, boards, doors, {point.name: point.bank_declines for point in site.charge_points})


def issuers_of(site: SiteFile) -> dict[bytes, IssuerPolicy]:
    """Policies of the issuers whose cards are taken at a site, by the first four bytes of their identifier."""
    return {
        bytes.fromhex(issuer.region): IssuerPolicy(
            issuer.name,
            Funding.ISSUER_CLEARING if issuer.charge_card_without_mandate == "issuer_clearing" else None,
        )
        for issuer in site.issuers
    }
