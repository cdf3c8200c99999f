"""Desk with card readers and emulated cards: `etcbench cards`. A person lays cards into readers and breaks them.

The readers are virtual ones of a card service of our own, so whatever speaks PC/SC meets these cards as it meets metal.
What is done by hand is a line each (`COMMANDS`); the desk is the only one that moves cards, but for faults that pull
them.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from gateway.cli.screen import Heading, Screen
from hardware.bench.pcsc_daemon import READERS_MAX, SLOTS_OF_READER, PcscDaemon, Slot
from hardware.bench.show import screen_of_person
from hardware.bench.texts import Words, say
from hardware.emulators.card_faults import FaultyChip, fault_of
from hardware.emulators.card_store import CardStore
from hardware.emulators.profiles import Profile
from hardware.emulators.virtual_reader import ATR, VirtualCard

SLOTS_MAX: Final = READERS_MAX * SLOTS_OF_READER

EMPTY_S: Final = 1.0
"""Seconds between a card and the next one in the same reader: the service looks every 0.4 s, and a change that falls
between two looks is none to it."""

LINES_MAX: Final = 100
"""Lines that wait to be done."""

PART_BYTES: Final = 4096


class Mistake(Exception):
    """A line that cannot be done; says why."""

    def __init__(self, words: Words) -> None:
        self.words = words
        super().__init__(str(words))


@dataclass
class Card:
    """One card on the desk or in a reader."""

    profile: Profile
    chip: FaultyChip
    slot: Slot | None = None
    inside: VirtualCard | None = None

    @property
    def reader(self) -> str | None:
        """Reader it lies in, None on the desk. A fault may have pulled it."""
        return self.slot.reader if self.slot is not None and self.inside is not None and self.inside.inside else None


class Desk:
    """Cards and readers, and what a person does with them."""

    def __init__(self, slots: Sequence[Slot], cards: Mapping[str, Card]) -> None:
        self.slots = tuple(slots)
        self.cards = dict(cards)

    def lay_out(self) -> None:
        """Lay the first cards into the readers, one into each."""
        for slot, card in zip(self.slots, self.cards.values(), strict=False):
            self._insert(card, slot)

    def clear(self) -> None:
        """Pull all cards."""
        for card in self.cards.values():
            self._pull(card)

    async def do(self, line: str) -> Words | None:
        """Do what a line says, and tell what came of it; None to show the desk. Raises Mistake, and OSError."""
        word, *rest = line.split()
        if word == "list" and not rest:
            return None
        if word == "pull" and len(rest) == 1:
            return self._pulled(self._card(rest[0]))
        if word == "insert" and rest:
            return await self._inserted(self._card(rest[0]), " ".join(rest[1:]))
        if word == "swap" and len(rest) > 1:
            return await self._swapped(self._slot(" ".join(rest[:-1])), self._card(rest[-1]))
        if word == "fault" and len(rest) > 1:
            return self._planned(self._card(rest[0]), " ".join(rest[1:]))
        if word == "mend" and len(rest) == 1:
            self._card(rest[0]).chip.plan.clear()
            return Words("cards.mended", card=rest[0])
        raise Mistake(Words("cards.unknown", line=line.strip(), commands="; ".join(COMMANDS)))

    def in_slot(self, slot: Slot) -> Card | None:
        """Card that lies in a slot."""
        return next((card for card in self.cards.values() if card.slot is slot and card.reader is not None), None)

    def _pulled(self, card: Card) -> Words:
        reader = card.reader
        if reader is None:
            raise Mistake(Words("cards.not-in", card=card.profile.name))
        self._pull(card)
        return Words("cards.pulled", card=card.profile.name, reader=reader)

    async def _inserted(self, card: Card, where: str) -> Words:
        if card.reader is not None:
            raise Mistake(Words("cards.is-in", card=card.profile.name, reader=card.reader))
        slot = self._slot(where) if where else self._empty(card)
        other = self.in_slot(slot)
        if other is not None:
            raise Mistake(Words("cards.is-in", card=other.profile.name, reader=slot.reader))
        await asyncio.sleep(EMPTY_S)
        self._insert(card, slot)
        return Words("cards.inserted", card=card.profile.name, reader=slot.reader)

    async def _swapped(self, slot: Slot, card: Card) -> Words:
        other = self.in_slot(slot)
        if other is card:
            raise Mistake(Words("cards.is-in", card=card.profile.name, reader=slot.reader))
        for leaving in (other, card):
            if leaving is not None:
                self._pull(leaving)
        await asyncio.sleep(EMPTY_S)
        self._insert(card, slot)
        return Words("cards.inserted", card=card.profile.name, reader=slot.reader)

    def _planned(self, card: Card, plan: str) -> Words:
        try:
            fault = fault_of(plan)
        except ValueError as error:
            raise Mistake(Words("cards.no-fault", problem=str(error))) from error
        card.chip.plan.append(fault)
        return Words("cards.planned", card=card.profile.name, fault=str(fault))

    def _empty(self, card: Card) -> Slot:
        """Slot for a card that names none: its last one, or any empty one."""
        slots = [slot for slot in (card.slot, *self.slots) if slot is not None and self.in_slot(slot) is None]
        if not slots:
            raise Mistake(Words("cards.all-full"))
        return slots[0]

    def _card(self, name: str) -> Card:
        if name not in self.cards:
            raise Mistake(Words("cards.no-card", card=name, names=", ".join(self.cards)))
        return self.cards[name]

    def _slot(self, name: str) -> Slot:
        """Slot by its number, or by its reader's name or a part of it that no other has."""
        if name.isdecimal() and 0 < int(name) <= len(self.slots):
            return self.slots[int(name) - 1]
        found = [slot for slot in self.slots if name in slot.reader]
        if len(found) != 1:
            raise Mistake(Words("cards.no-reader", reader=name, names=", ".join(slot.reader for slot in self.slots)))
        return found[0]

    @staticmethod
    def _insert(card: Card, slot: Slot) -> None:
        atr = card.profile.facts.atr
        card.slot, card.inside = slot, VirtualCard(slot.port, card.chip, atr=ATR if atr is None else atr)

    @staticmethod
    def _pull(card: Card) -> None:
        if card.inside is not None:
            card.inside.remove()
            card.inside = None


COMMANDS: Final = (
    "list",
    "pull CARD",
    "insert CARD [READER]",
    "swap READER CARD",
    "fault CARD pull-after debit",
    "mend CARD",
    "quit",
)


READER_LETTERS: Final = "ABCDEFGH"


async def serve(profiles: Sequence[Profile], *, state: Path | None, readers: int | None, as_json: bool) -> None:
    """Keep cards in readers until `quit` or a signal. Raises ServiceMissing, ServiceFailed, StateError, OSError."""
    screen = screen_of_person()
    with (
        tempfile.TemporaryDirectory(prefix="cards") as folder,
        nullcontext() if state is None else CardStore(state) as store,
    ):
        talk = Talk(screen, as_json=as_json)
        cards = {}
        for one in profiles:
            chip = one.make() if store is None else store.insert(one)
            cards[one.name] = Card(one, FaultyChip(chip, tell=partial(talk.happened, one.name)))
        wanted = min(len(cards), SLOTS_MAX) if readers is None else SLOTS_OF_READER * readers
        daemon = PcscDaemon(
            Path(folder), [f"Bench {letter}" for letter in READER_LETTERS[: -(-wanted // SLOTS_OF_READER)]]
        )
        daemon.start()
        desk = Desk(daemon.slots, cards)
        try:
            desk.lay_out()
            talk.begin(desk, daemon.environment)
            async for line in _lines():
                if line.split() == ["quit"]:
                    return
                if line.strip():
                    await talk.do(desk, line)
            await asyncio.Event().wait()  # nobody writes any more; until a signal
        finally:
            desk.clear()
            daemon.stop()


class Talk:
    """Talk with whoever sits at the desk: a person, or a program that reads a JSON object a line."""

    def __init__(self, screen: Screen, *, as_json: bool) -> None:
        self._screen = screen
        self._as_json = as_json

    def begin(self, desk: Desk, environment: Mapping[str, str]) -> None:
        """Tell how programs find the readers, and what lies in them."""
        if self._as_json:
            self._json({"environment": dict(environment), **self._facts(desk)})
            return
        for name, value in environment.items():
            self._screen.line(f"export {name}={shlex.quote(value)}")
        self._show(desk)
        self._screen.note(say(self._screen, "cards.commands", commands="; ".join(COMMANDS)))

    async def do(self, desk: Desk, line: str) -> None:
        """Do a line and tell what came of it."""
        try:
            done = await desk.do(line)
        except (Mistake, OSError) as error:
            told = self._screen.word(error.words) if isinstance(error, Mistake) else str(error)
            self._json({"error": told}) if self._as_json else self._screen.note(told)
            return
        if self._as_json:
            self._json(self._facts(desk) if done is None else {"done": self._screen.word(done)})
        elif done is None:
            self._show(desk)
        else:
            self._screen.note(self._screen.word(done))

    def happened(self, card: str, fault: str) -> None:
        """Tell of a fault that came."""
        if self._as_json:
            self._json({"card": card, "fault": fault})
        else:
            self._screen.note(say(self._screen, "cards.happened", card=card, fault=fault))

    def _json(self, facts: Mapping[str, Any]) -> None:
        self._screen.json(facts, in_a_line=True)
        sys.stdout.flush()

    def _facts(self, desk: Desk) -> dict[str, Any]:
        return {
            "readers": [slot.reader for slot in desk.slots],
            "cards": [
                {
                    "name": card.profile.name,
                    "kind": card.profile.kind,
                    "reader": card.reader,
                    "faults": list(map(str, card.chip.plan)),
                    "happened": card.chip.happened,
                }
                for card in desk.cards.values()
            ],
        }

    def _show(self, desk: Desk) -> None:
        screen = self._screen
        titles = (Words("cards.reader"), Words("lab.card"), Words("lab.kind"), Words("cards.faults"))
        columns = [Heading("#", right=True), *(Heading(screen.word(title)) for title in titles)]
        rows: list[list[str]] = []
        for number, slot in enumerate(desk.slots, 1):
            card = desk.in_slot(slot)
            rows.append([str(number), slot.reader, *([""] * 3 if card is None else _cells(card))])
        rows += [["", say(screen, "cards.desk"), *_cells(card)] for card in desk.cards.values() if card.reader is None]
        screen.table(columns, rows)
        sys.stdout.flush()


def _cells(card: Card) -> list[str]:
    return [card.profile.name, card.profile.kind, "; ".join(map(str, card.chip.plan))]


async def _lines() -> AsyncIterator[str]:
    """Lines of standard input, a file as well as a terminal. Its thread ends with the process: nothing wakes it."""
    loop, lines = asyncio.get_running_loop(), asyncio.Queue[str | None](LINES_MAX)
    source = sys.stdin.fileno()  # read without a buffer, whose lock the thread would keep from an ending interpreter

    def hand_over(line: str | None) -> None:
        asyncio.run_coroutine_threadsafe(lines.put(line), loop).result()

    def read() -> None:
        rest = b""
        with suppress(RuntimeError, CancelledError):  # the loop has ended meanwhile
            while part := os.read(source, PART_BYTES):
                *whole, rest = (rest + part).split(b"\n")
                for line in whole:
                    hand_over(line.decode(errors="replace"))
            hand_over(None)

    threading.Thread(target=read, name="standard input", daemon=True).start()
    while (line := await lines.get()) is not None:
        yield line
