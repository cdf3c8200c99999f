"""Contents of a tag and of the card in it, as an antenna reads them or as somebody has them in hex. Buys nothing.

An antenna gives what its dialect has: the system file in its first report, vehicle and card in the next. It is asked
for those two reports and then told to search again, as a lane does with a vehicle it turns away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from drivers.errors import DeviceTimeout, DeviceUnavailable, RequestOutcome
from drivers.link import Link
from drivers.rsu import RsuConfig, RsuDriver, RsuState
from gateway.cards.contents import APPLICATION, CARD_FILE, ENTRY, PURSE, CardContents, FileRead
from gateway.model.clock import Clock
from gateway.points.etc.dialogue import Dialogue, Gone
from gateway.points.etc.purchase import factor_of
from gateway.points.etc.rsu_errors import ReportType, RsuErrorProfile
from gateway.points.ports import Report
from gateway.texts.catalogue import Words
from protocols.card.apdu import SW_OK
from protocols.card.files import CARD_FILE_LENGTHS
from protocols.card.station import STATION_BYTES
from protocols.errors import ProtocolError
from protocols.obu import layout as obu_layout
from protocols.obu.commands import ROUTE_BYTES
from protocols.obu.route_file import HEADERS, RouteFile, decode_route_file
from protocols.obu.status import STATUS_BYTES, ObuStatus, decode_obu_status, obu_status_new
from protocols.obu.system_info import MOUNT_FITTED, SystemInfo, decode_system_info
from protocols.obu.vehicle_file import VehicleFile, decode_vehicle_file
from protocols.rsu.dialect import Dialect, Side
from protocols.rsu.messages import DeviceType, Message, ObuReport, StopType, UserReport, VehicleReport
from protocols.rsu.session import Received, Session

SYSTEM_LENGTHS: Final = (obu_layout.SYSTEM_SHORT.size, obu_layout.SYSTEM_LONG.size)
VEHICLE_LENGTHS: Final = (obu_layout.VEHICLE_HEAD.size, obu_layout.VEHICLE_59.size, obu_layout.VEHICLE_79.size)
SEALED_LENGTHS: Final = frozenset({32, 64, 72, 80, 88, 96})
"""Lengths of an encrypted vehicle file, which only a PSAM reads."""

DIALOGUE_S: Final = 2.0
"""Seconds for the reports of one tag: as long as a lane has."""

SENT_WITHIN_S: Final = 1.0
"""Seconds for the last order to leave."""

_NEARER: Final = "hold a tag still before the antenna"


class TagBytesWrong(ValueError):
    """Refusal of bytes that are nothing of a tag's."""

    def __init__(self, problem: Words) -> None:
        self.problem = problem
        super().__init__(str(problem))


@dataclass(frozen=True, slots=True)
class TagContents:
    """Contents of one tag. Files are the bytes that were read; None where there are none."""

    device_type: int = DeviceType.TWO_PIECE
    obu_id: bytes | None = None
    status_bytes: bytes | None = None
    system_file: bytes | None = field(default=None, repr=False)
    vehicle_file: bytes | None = field(default=None, repr=False)
    card_file: bytes | None = field(default=None, repr=False)
    station_file: bytes | None = field(default=None, repr=False)
    route_bytes: bytes | None = field(default=None, repr=False)
    balance_raw: int | None = None
    error: int = 0
    """Error byte of the report that tells nothing more."""
    fault: str | None = None
    """Code of the reason that the error byte means."""

    @property
    def status(self) -> ObuStatus | None:
        """Status bits, where a report gave them."""
        return None if self.status_bytes is None else decode_obu_status(self.status_bytes, self.device_type)

    @property
    def system(self) -> SystemInfo | None:
        """System file."""
        return None if self.system_file is None else decode_system_info(self.system_file)

    @property
    def vehicle(self) -> VehicleFile | None:
        """Vehicle file in clear."""
        return None if self.vehicle_file is None else decode_vehicle_file(self.vehicle_file)

    @property
    def route(self) -> RouteFile | None:
        """EF04."""
        return None if self.route_bytes is None else decode_route_file(self.route_bytes)

    @property
    def card(self) -> CardContents | None:
        """Card in the tag, as far as an antenna reads cards; None without its file 0015."""
        if self.card_file is None:
            return None
        files = {APPLICATION: b"", CARD_FILE: self.card_file}
        if self.station_file is not None:
            files[ENTRY] = self.station_file
        if self.balance_raw is not None:
            files[PURSE] = self.balance_raw.to_bytes(4, "big")
        return CardContents("", b"", {name: FileRead(name, SW_OK, data) for name, data in files.items()})

    @property
    def report(self) -> ObuReport | None:
        """First report as an antenna would make it of the system file; None without that.

        Where no report was heard, nothing is wrong with the tag but what its system file says.
        """
        system = self.system
        if system is None:
            return None
        mounted = MOUNT_FITTED if system.mount_flag is None else system.mount_flag
        return ObuReport(
            obu_id=self.obu_id or bytes(4),
            error=0,
            issuer=system.issuer,
            serial=system.contract_serial,
            issued=system.raw[18:22],
            expires=system.raw[22:26],
            equipment=0,
            status=self.status_bytes or obu_status_new(self.device_type, mount_flag=mounted),
            device_type=self.device_type,
        )

    def with_message(self, message: Message, errors: RsuErrorProfile) -> TagContents:
        """Contents with what a report adds. Raises TagBytesWrong for a message that is about no tag."""
        if not isinstance(message, ObuReport | VehicleReport | UserReport):
            raise TagBytesWrong(Words("tag.no-report", message=type(message).__name__))
        found = replace(self, obu_id=message.obu_id)
        if message.error:
            kind = ReportType.VEHICLE if isinstance(message, VehicleReport) else ReportType.USER
            reason = errors.meaning(kind, message.error).reason
            return replace(found, error=message.error, fault=None if reason is None else reason.code)
        if isinstance(message, ObuReport):
            kinds = bytes((message.contract_type or 0, message.contract_version or 0))
            return replace(
                found,
                device_type=message.device_type or DeviceType.TWO_PIECE,
                status_bytes=message.status,
                system_file=message.issuer + kinds + message.serial + message.issued + message.expires,
            )
        if isinstance(message, VehicleReport):
            return replace(found, vehicle_file=message.vehicle_file)
        return replace(
            found,
            vehicle_file=message.vehicle_file or found.vehicle_file,
            card_file=message.card_file,
            station_file=message.station if len(message.station) == STATION_BYTES else None,
            route_bytes=message.ef04 if message.ef04 is not None and len(message.ef04) == ROUTE_BYTES else None,
            balance_raw=message.balance_raw,
        )


async def tag_at(
    config: RsuConfig, errors: RsuErrorProfile, connect: Callable[[], Awaitable[Link]], clock: Clock, *, wait_s: float
) -> TagContents:
    """Start an antenna, read the next tag before it, and leave the antenna. Nobody else may use it.

    Raises DeviceUnavailable when it does not work, and DeviceTimeout when no tag comes within `wait_s`.
    """
    sent = asyncio.Event()
    driver = RsuDriver(
        config,
        connect=connect,
        clock=clock,
        on_trace=lambda direction, _: sent.set() if direction == "out" else None,
    )
    running = asyncio.ensure_future(driver.run())
    try:
        async with asyncio.timeout(wait_s):
            return await _read_tag(driver, errors, clock, sent)
    except TimeoutError as error:
        condition = driver.condition
        if condition.state is not RsuState.UP:
            raise DeviceUnavailable(condition.cause, device=config.device) from error
        raise DeviceTimeout(
            f"no tag within {wait_s:g} s", device=config.device, outcome=RequestOutcome.NOT_SENT, hint=_NEARER
        ) from error
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _read_tag(driver: RsuDriver, errors: RsuErrorProfile, clock: Clock, sent: asyncio.Event) -> TagContents:
    """Read the next tag that a running antenna reports, and let it go. `sent` is set when bytes go to the antenna."""
    async for report in driver.reports():
        first = report.message
        if not isinstance(first, ObuReport):
            continue  # of a tag that somebody else dealt with before
        inbox: asyncio.Queue[Report] = asyncio.Queue()
        dialogue = Dialogue("tag", report, inbox, deadline_s=DIALOGUE_S, clock=clock)
        dialogue.factor = factor_of(first.issuer)
        found = TagContents().with_message(first, errors)
        forwarding = asyncio.ensure_future(_forward(driver, first.obu_id, inbox))
        try:
            if not first.error:
                found = found.with_message(await dialogue.read_user(), errors)
        except Gone as gone:
            raise DeviceTimeout("the tag went away before its card was read", device="antenna", hint=_NEARER) from gone
        finally:
            forwarding.cancel()
            await asyncio.gather(forwarding, return_exceptions=True)
            await _let_go(dialogue, sent)
        return found
    raise RuntimeError("reports have no end")


async def _let_go(dialogue: Dialogue, sent: asyncio.Event) -> None:
    """Tell the antenna to search for the next tag, and see that it has gone out."""
    sent.clear()
    dialogue.stop(StopType.SEARCH_AGAIN)
    try:
        async with asyncio.timeout(SENT_WITHIN_S):
            await sent.wait()
    except TimeoutError:
        return  # an antenna that hears nothing any more starts over by itself


async def _forward(driver: RsuDriver, obu_id: bytes, inbox: asyncio.Queue[Report]) -> None:
    """Hand on what is reported of one tag; others wait for their turn, and are reported again."""
    async for report in driver.reports():
        if getattr(report.message, "obu_id", b"") == obu_id:
            inbox.put_nowait(report)


# --- from bytes -----------------------------------------------------------------------------------------------------


def tag_of(pieces: Iterable[bytes], dialect: Dialect, errors: RsuErrorProfile) -> TagContents:
    """Contents of files and frames that somebody has in hex. Raises TagBytesWrong for one that is none of a tag's."""
    found = TagContents()
    for piece in pieces:
        name = _file_of(piece)
        if name is not None:
            file: dict[str, Any] = {name: piece}
            found = replace(found, **file)
        elif len(piece) in SEALED_LENGTHS:
            raise TagBytesWrong(Words("tag.sealed", count=len(piece)))
        else:
            for message in _messages(piece, dialect):
                found = found.with_message(message, errors)
    return found


def _file_of(piece: bytes) -> str | None:
    """Name of the file by its length, and where two share it by its head."""
    if len(piece) == STATION_BYTES and (piece[1:3] == b"\x29\x00" or piece[:3] in HEADERS):
        return "station_file"
    lengths = {
        "status_bytes": (STATUS_BYTES,),
        "system_file": SYSTEM_LENGTHS,
        "vehicle_file": VEHICLE_LENGTHS,
        "card_file": CARD_FILE_LENGTHS,
        "route_bytes": (ROUTE_BYTES,),
    }
    return next((name for name, known in lengths.items() if len(piece) in known), None)


def _messages(frame: bytes, dialect: Dialect) -> list[Message]:
    session = Session(dialect, Side.LANE)
    try:
        events = session.receive(frame, 0.0).events
    except ProtocolError as error:
        raise TagBytesWrong(Words("tag.no-frame", count=len(frame), dialect=dialect.name)) from error
    messages = [event.message for event in events if isinstance(event, Received)]
    if not messages:
        raise TagBytesWrong(Words("tag.no-frame", count=len(frame), dialect=dialect.name))
    return messages
