"""Entry lane: the entry of the trip is written on the card, and nothing is charged."""

from __future__ import annotations

from gateway.debit.claims import Decision, Identity
from gateway.model.passage import Occasion
from gateway.points.card.file_0019 import STATION_TAIL, entered_here, entry_record
from gateway.points.etc.dialogue import Gone
from gateway.points.etc.purchase import factor_of
from gateway.points.etc.rsu_errors import MoneyMeaning, ReportType
from gateway.points.etc.sale import problem_of
from gateway.points.etc.settings import EntryWrite
from gateway.points.etc.visit import EtcVisit, Read
from gateway.points.visit import REFUSAL_COMMIT_S
from protocols.card.files import CardFile
from protocols.card.station import decode_station
from protocols.rsu.messages import Debit, DebitResult, StopType, UserReport, WriteEntry, WriteResult


class Entry:
    """Errand of a vehicle that begins its trip here."""

    async def card(self, visit: EtcVisit, seen: Identity, read: Read) -> Decision | None:
        """Write the entry of the trip on the card. Written twice it says the same, so a lost answer costs nothing."""
        problem = problem_of(visit, read)
        if problem is not None:
            return await visit.turn_away(seen, problem)
        if entered_here(visit.settings, decode_station(read.user.station), visit.clock.utcnow()):
            return await self._entered_before(visit, seen)
        seconds = int(visit.clock.utcnow().timestamp())
        station = entry_record(visit.settings, read.vehicle, seconds)
        try:
            error = await self._write(visit, read.card, station, seconds)
        except Gone:
            return None
        meaning = visit.errors.meaning(ReportType.RESULT, error)
        if meaning.money is not MoneyMeaning.TAKEN:
            reason = "record_update_failed" if meaning.reason is None else meaning.reason.code
            return await visit.turn_away(seen, reason)
        return await self._admit(visit, seen)

    async def tag(self, visit: EtcVisit, seen: Identity, user: UserReport) -> Decision | None:
        """Refuse a tag without a card, on which no entry can be written."""
        del user
        return await visit.turn_away(seen, "one_piece_refused")

    async def _write(self, visit: EtcVisit, card: CardFile, station: bytes, seconds: int) -> int:
        """Write the entry; gives the answer's error byte. Its report is acknowledged when the entry is recorded."""
        antenna, factor = visit.antenna, factor_of(card.issuer)
        if visit.settings.entry_write is EntryWrite.COMMAND:
            command = WriteEntry(antenna.obu_id, factor, visit.local(seconds), station[STATION_TAIL])
            written: WriteResult | DebitResult = await antenna.ask(command, WriteResult, DebitResult)
            return written.error
        order = Debit(antenna.obu_id, factor, 0, visit.local(seconds), station)
        return (await antenna.ask(order, DebitResult)).error

    async def _entered_before(self, visit: EtcVisit, seen: Identity) -> Decision:
        """Handle an entry that is on the card already: recorded before and still here, or its answer was lost."""
        visit.occasion = Occasion.READING
        visit.antenna.stop(StopType.SEARCH_AGAIN)
        earlier = None
        if seen.card_number is not None:
            earlier = await visit.engine.newest_entry(seen.card_number, visit.settings.name)
        if earlier is not None and visit.within_window(earlier):
            decision = await visit.engine.repeat_entry(earlier, visit.context())
            visit.note_spent()
            return decision
        return await self._admit(visit, seen)

    async def _admit(self, visit: EtcVisit, seen: Identity) -> Decision:
        """Record the entry; the antenna is let go after it."""
        decision = await visit.engine.admit(visit.sight(seen), visit.context(), timeout_s=REFUSAL_COMMIT_S)
        visit.antenna.acknowledge()
        visit.note_spent()
        return decision
