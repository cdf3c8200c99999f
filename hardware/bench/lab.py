"""Laboratory for cards under the published test keys: MACs of purchases recomputed, and a purchase from end to end.

Everything here follows from facts and from `test_keys.ROOTS`, which are no secret; keys of a session or a card are not
shown all the same, so that nobody gets used to seeing such. `etcgw` has no keys and asks a PSAM instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from drivers.card_slot import CardSlot
from hardware.emulators.test_keys import LeafKeys
from protocols.card import commands, psam, purse
from protocols.card.apdu import Command, Response
from protocols.card.codes import TradeType
from protocols.card.files import CARD_FILE_LENGTHS, CardFile, decode_card_file
from protocols.card.psam import KeyKind
from protocols.card.station import STATION_BYTES
from protocols.codings import time_bytes
from protocols.crypto import (
    Algorithm,
    MacVerdict,
    Trade,
    judge_vehicle_mac,
    mac1,
    mac2,
    open_vehicle,
    session_key,
    tac,
    vehicle_mac,
)


@dataclass(frozen=True, slots=True)
class Purchase:
    """Facts of a purchase that its TAC follows from."""

    trade: Trade
    terminal_serial: int
    time: str
    """YYYYMMDDhhmmss"""
    inner_number: bytes = field(repr=False)
    region: bytes
    """8-byte factor."""
    algorithm: Algorithm

    @property
    def tac(self) -> bytes:
        """TAC that the card gives."""
        leaf = self._leaf(KeyKind.TAC)
        return tac(leaf, self.trade, self.terminal_serial, time_bytes(self.time), self.algorithm)

    def macs(self, card_random: bytes, offline_sequence: int) -> tuple[bytes, bytes]:
        """MAC1 and MAC2 with what the card said to 8050."""
        leaf = self._leaf(KeyKind.PURCHASE)
        session = session_key(leaf, card_random, offline_sequence, self.terminal_serial, self.algorithm)
        first = mac1(session, self.trade, time_bytes(self.time), self.algorithm)
        return first, mac2(session, self.trade, self.algorithm)

    def _leaf(self, kind: KeyKind) -> bytes:
        return LeafKeys((self.region, self.inner_number))[kind, self.algorithm]


@dataclass(frozen=True, slots=True)
class OpenedVehicle:
    """Vehicle file of a tag in clear."""

    data: bytes = field(repr=False)
    verdict: MacVerdict


def open_vehicle_file(
    cipher: bytes, rsu_random: bytes, contract_serial: bytes, region: bytes, algorithm: Algorithm
) -> OpenedVehicle:
    """Vehicle file from a tag's answer to GetSecure. Raises RemoteProtocolError where the test keys do not open it."""
    leaf = LeafKeys((region, contract_serial))[KeyKind.VEHICLE, algorithm]
    block = open_vehicle(leaf, cipher, algorithm)
    computed = vehicle_mac(leaf, block.data, rsu_random, algorithm)
    return OpenedVehicle(block.data, judge_vehicle_mac(block.mac, computed, algorithm))


# --- a purchase ------------------------------------------------------------------------------------------------------

CARD, PSAM = "card", "psam"
"""Chips of a purchase."""


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a purchase and its answer."""

    who: str
    what: str
    """Name of the step."""
    command: bytes
    response: bytes
    private: bool
    """True where the bytes tell whose card it is."""


@dataclass(frozen=True, slots=True)
class Check:
    """A value that a chip gave, and the one that follows from the test keys."""

    what: str
    given: bytes
    computed: bytes

    @property
    def same(self) -> bool:
        """True when the two agree."""
        return self.given == self.computed


class StepRefused(Exception):
    """A chip answered a step with another status word than 9000."""

    def __init__(self, step: Step, sw: int) -> None:
        super().__init__(f"{step.who} answered {sw:04X} to {step.what}")
        self.step, self.sw = step, sw


@dataclass
class LabPurchase:
    """One composite purchase at a card and a PSAM, told step by step."""

    amount_fen: int
    time: str
    steps: list[Step] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    card_file: CardFile | None = None
    balance_before: int | None = None
    balance_after: int | None = None
    debited: bool = False
    _slots: dict[str, CardSlot] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """True for a debit whose every MAC is what the test keys say."""
        return self.debited and all(check.same for check in self.checks)

    async def run(self, card: CardSlot, sam: CardSlot) -> None:
        """Do all steps. Raises StepRefused, and the errors of the slots."""
        self._slots = {CARD: card, PSAM: sam}
        async with card.alone(), sam.alone():
            await self._ask(CARD, "select", commands.select_id(commands.ETC_APPLICATION), private=True)
            self.card_file = file = await self._read_card_file()
            read = commands.read_record(commands.SFI_STATIONS, 1, STATION_BYTES)
            station = await self._ask(CARD, "entry", read, private=True)
            self.balance_before = await self._balance()
            await self._ask(PSAM, "root", commands.select_id(commands.MF))
            terminal = psam.decode_terminal(await self._ask(PSAM, "terminal", psam.read_terminal()))
            await self._ask(PSAM, "application", commands.select_id(psam.PSAM_APPLICATION))
            init = purse.init_purchase(file.algorithm.purse_key_index, self.amount_fen, terminal)
            opened = purse.parse_purchase_opened(await self._ask(CARD, "init", init))
            cache = purse.update_cache(commands.RECORD_AA, station)
            await self._ask(CARD, "cache", cache, private=True)
            made = psam.parse_sam_purchase(
                await self._ask(
                    PSAM,
                    "mac1",
                    psam.init_sam_for_purchase(
                        opened,
                        amount_fen=self.amount_fen,
                        trade_type=TradeType.COMPOSITE,
                        time=self.time,
                        inner_number=file.inner_number,
                        region=file.region_factor,
                    ),
                    private=True,
                )
            )
            trade = Trade(self.amount_fen, TradeType.COMPOSITE, terminal)
            facts = Purchase(
                trade, made.terminal_serial, self.time, file.inner_number, file.region_factor, opened.algorithm
            )
            first, second = facts.macs(opened.card_random, opened.offline_sequence)
            self.checks.append(Check("MAC1", made.mac1, first))
            debit = purse.debit(made.terminal_serial, self.time, made.mac1)
            proof = purse.parse_debit(await self._ask(CARD, "debit", debit))
            self.debited = True
            self.checks += [Check("TAC", proof.tac, facts.tac), Check("MAC2", proof.mac2, second)]
            await self._ask(PSAM, "mac2", psam.credit_sam_for_purchase(proof.mac2))
            self.balance_after = await self._balance()
            prove = purse.transaction_prove(opened.proof_sequence)
            proved = purse.parse_transaction_prove(await self._ask(CARD, "prove", prove))
            self.checks.append(Check("805A", proved.mac2 + proved.tac, proof.mac2 + proof.tac))

    async def _read_card_file(self) -> CardFile:
        longer, shorter = (commands.read_binary(commands.SFI_CARD_FILE, length) for length in CARD_FILE_LENGTHS)
        try:
            return decode_card_file(await self._ask(CARD, "card-file", longer, private=True))
        except StepRefused:
            return decode_card_file(await self._ask(CARD, "card-file", shorter, private=True))

    async def _balance(self) -> int:
        return purse.parse_balance(await self._ask(CARD, "balance", purse.get_balance()))

    async def _ask(self, who: str, what: str, command: Command, *, private: bool = False) -> bytes:
        response: Response = await self._slots[who].transmit(command)
        step = Step(who, what, command.encode(), response.encode(), private)
        self.steps.append(step)
        if not response.ok:
            raise StepRefused(step, response.sw)
        return response.data
