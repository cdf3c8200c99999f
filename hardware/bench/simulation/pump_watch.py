"""Invariants of fuel: what the meters of the pumps count, against the sales and holds that were committed.

The watcher sees every permission that a pump takes, every delivery that its meter counts and every display that goes
out, at that very moment, and the rows of sales and debits after every commit. Who stands at which side it knows from
the workload, never from the ledger.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from hardware.bench.simulation.invariants import Debit, FuelSale, Watch
from hardware.emulators.dispenser import AT_WORK, Dispenser, Sale
from protocols.pump.types import SideState

TOTALS_DIFFER, AMOUNT_DIFFERS = "pump_totals_differ", "pump_amount_differs"
ENDED = ("billed", "nothing")
STEP_FEN = 1
"""Gap between volume times price and the amount that rounding explains."""


@dataclass(slots=True, eq=False)
class Grant:
    """Permission that a pump has taken: one delivery under one sale."""

    sale_id: str
    deliveries: list[Sale] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Move:
    """Move of a totaliser: a delivery, or a jump without one."""

    nozzle: int
    end_ml: int
    """Millilitres at its end."""
    delivery: Sale | None
    grant: Grant | None
    explained: bool = False
    """True when a row that is on people's list covers it."""


@dataclass(slots=True, eq=False)
class WatchedSide:
    """One side of the island."""

    number: int
    dispenser: Dispenser
    wraps_at_ml: int
    standing: frozenset[str] = frozenset()
    """Mandates of who stands at it with its nozzle in the hand; several where nobody outside could tell which."""
    at_work: bool = False
    flows: bool = False
    grant: Grant | None = None
    """The last one."""
    shown: Move | None = None
    """Delivery on its display."""
    seen: int = 0
    moves: list[Move] = field(default_factory=list)
    began: dict[int, int] = field(default_factory=dict)
    """Totaliser of each nozzle when the run began."""
    stood: dict[int, int] = field(default_factory=dict)
    """The same by the newest row that says so."""

    def known(self, nozzle: int) -> bool:
        """True when a row says where a nozzle's totaliser stands."""
        return self.stood[nozzle] != self.began[nozzle]

    def position(self, nozzle: int, told_ml: int) -> int:
        """Reckon how far a totaliser has really come that showed `told_ml` a while ago."""
        now = self.dispenser.nozzles[nozzle].volume_ml
        return now - (now - told_ml) % self.wraps_at_ml


class PumpWatch:
    """Watcher of the pumps of a run, see the module."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.sides: dict[int, WatchedSide] = {}
        self.grants: dict[str, Grant] = {}
        """Grants by sale."""

    def add(self, number: int, dispenser: Dispenser, wraps_at_ml: int) -> None:
        """Watch one more side."""
        stood = {nozzle: of.volume_ml for nozzle, of in dispenser.nozzles.items()}
        self.sides[number] = WatchedSide(number, dispenser, wraps_at_ml, began=dict(stood), stood=stood)

    # --- the pumps ------------------------------------------------------------------------------------------------

    def changed(self, number: int) -> None:
        """Look at a side at which something has just happened."""
        side = self.sides[number]
        of = side.dispenser
        for metered in of.book[side.seen :]:
            self._metered(side, metered)
        side.seen = len(of.book)
        at_work, flows = of.state in AT_WORK, of.state is SideState.FUELLING
        if at_work and not side.at_work:
            self._authorised(side)
        if flows and not side.flows:
            self._look_at_driver(side)
        side.at_work, side.flows = at_work, flows
        if side.shown is not None and not of.volume_ml:
            self._display_cleared(side, side.shown)
            side.shown = None

    def jumped(self, number: int, nozzle: int) -> None:
        """Note that a totaliser has jumped."""
        side = self.sides[number]
        side.moves.append(Move(nozzle, side.dispenser.nozzles[nozzle].volume_ml, None, None))

    def _authorised(self, side: WatchedSide) -> None:
        sales = [s for s in self._watch.sales.values() if s.side == side.number and s.state == "open"]
        if len(sales) != 1:
            self._broken(f"side {side.number} is authorised, and {len(sales)} sales are open there")
            side.grant = None
            return
        sale, debit = sales[0], self._debit(sales[0])
        if debit is None or debit.state != "held" or debit.hold != "pending":
            self._broken(f"side {side.number} is authorised for sale {sale.id}, its debit is {debit}")
            return
        self._watch.promise(not self._watch.in_nothing(debit.id), f"sale {sale.id} is stored in a file that is gone")
        self._watch.promise(sale.id not in self.grants, f"side {side.number} is authorised twice for sale {sale.id}")
        grey = [s.id for s in self._watch.sales.values() if s.state == "grey" and self._payer(s) == debit.mandate]
        self._watch.promise(
            not grey, f"side {side.number} is authorised for {debit.mandate}, whose sale {grey[:1]} is grey"
        )
        side.grant = self.grants[sale.id] = Grant(sale.id)
        self._watch.transitions["pump:authorised"] += 1

    def _look_at_driver(self, side: WatchedSide) -> None:
        """Check that fuel flows to whoever it will be charged to."""
        if side.grant is None:
            return
        payer = self._payer(self._watch.sales[side.grant.sale_id])
        if payer not in side.standing:
            who = sorted(side.standing) or "a stranger"
            self._broken(f"{who} fills up at side {side.number} on sale {side.grant.sale_id} of {payer}")

    def _metered(self, side: WatchedSide, metered: Sale) -> None:
        grant = None if metered.end == "alone" else side.grant
        self._watch.note_pump(f"side {side.number} delivers {metered.volume_ml} ml, {metered.shown_amount_minor} fen")
        self._watch.transitions[f"delivery:{metered.end}"] += 1
        move = Move(metered.nozzle, metered.total_volume_ml, metered, grant)
        side.moves.append(move)
        side.shown = move
        if metered.end == "alone":
            return
        if grant is None or not side.at_work:
            self._broken(f"side {side.number} has delivered, and nothing let it")
            return
        grant.deliveries.append(metered)
        sale = self._watch.sales[grant.sale_id]
        debit = self._debit(sale)
        if sale.state != "open" or debit is None or debit.state != "held":
            self._broken(f"side {side.number} has delivered under sale {sale.id}, which is {sale.state}")
        if metered.amount_minor > sale.limit_fen:
            self._broken(f"side {side.number} has delivered {metered.amount_minor} fen, allowed {sale.limit_fen}")

    def _display_cleared(self, side: WatchedSide, shown: Move) -> None:
        """Check that the ledger has what the display has shown."""
        # One that nobody of ours let begin may end while a display is being cleared; its totaliser tells all the same.
        if shown.grant is not None and self._watch.sales[shown.grant.sale_id].state == "open":
            self._broken(f"the display of side {side.number} is cleared, and nothing is stored of {shown.delivery}")

    # --- the ledger -----------------------------------------------------------------------------------------------

    def committed(self) -> None:
        """Look at the sales and debits that a commit has changed."""
        for sale in self._watch.sales_moved:
            self._look_at_sale(sale)
        for debit in self._watch.touched():
            sales = [s for s in self._watch.sales.values() if s.debit_id == debit.id]
            self._watch.promise(len(sales) <= 1, f"debit {debit.id} has {len(sales)} sales")
            for sale in sales:
                self._look_at_debit(sale, debit)

    def _look_at_sale(self, sale: FuelSale) -> None:
        side = self.sides[sale.side]
        before = side.stood[sale.nozzle] if sale.volume_before is None else self._position(sale, sale.volume_before)
        after = None if sale.volume_after is None else self._position(sale, sale.volume_after)
        if sale.state in ("open", "delivered", "billed") and sale.debit_id is not None:
            listed: Iterator[Move] = iter(())
        else:
            top = side.dispenser.nozzles[sale.nozzle].volume_ml if after is None else after
            listed = self._between(side, sale.nozzle, before, top)
        covered = list(listed)
        if after is None and sale.state == "delivered":  # the totaliser was not read, and what has flowed is known
            after = side.stood[sale.nozzle] + (sale.volume or 0)
        if after is not None:
            side.stood[sale.nozzle] = max(after, side.stood[sale.nozzle])
        if sale.debit_id is None:
            self._look_at_unexplained(sale, covered)
        else:
            self._look_at_ours(side, sale, covered)
        if sale.state == "grey" or sale.debit_id is None:
            for move in covered:
                move.explained = True

    def _look_at_unexplained(self, sale: FuelSale, covered: list[Move]) -> None:
        """Check a delivery that nobody of ours let begin: there was one, and it is on people's list."""
        if not self._watch.item_about(sale.id):
            self._broken(f"delivery {sale.id} is unexplained, and nobody is told")
        if sale.changes > 1:
            return
        fresh = [move for move in covered if not move.explained and move.grant is None]
        if not fresh:
            self._broken(f"delivery {sale.id} is said to be unexplained, and there was none")
        elif sale.state == "billed" and [
            (m.delivery.volume_ml, m.delivery.shown_amount_minor) for m in fresh if m.delivery
        ] != [(sale.volume, sale.amount)]:
            self._broken(f"delivery {sale.id} says {sale.volume} ml, {sale.amount} fen, there were {fresh}")

    def _look_at_ours(self, side: WatchedSide, sale: FuelSale, covered: list[Move]) -> None:
        grant = self.grants.get(sale.id)
        metered = [] if grant is None else grant.deliveries
        if sale.state != "open" and grant is not None and side.grant is grant and side.at_work:
            self._broken(f"sale {sale.id} is {sale.state}, and side {side.number} is at work for it")
        if sale.state in ("delivered", "billed"):
            self._look_at_delivery(sale, metered)
        elif sale.state == "nothing" and metered:
            self._broken(f"sale {sale.id} ends with nothing, its pump has delivered {metered}")
        elif sale.state == "grey":
            self._look_at_grey(sale, metered, covered)

    def _look_at_delivery(self, sale: FuelSale, metered: list[Sale]) -> None:
        """Check a delivery that is, or will be, charged: exactly what the pump has delivered, and shown."""
        if len(metered) != 1:
            self._broken(f"sale {sale.id} is {sale.state} with {sale.volume} ml, its pump has delivered {metered}")
            return
        shown = metered[0].amount_minor if sale.was_grey else metered[0].shown_amount_minor
        if (sale.volume, sale.amount) != (metered[0].volume_ml, shown):
            self._broken(f"sale {sale.id} says {sale.volume} ml, {sale.amount} fen, its pump {metered[0]}")
        if abs(metered[0].shown_amount_minor - metered[0].amount_minor) > STEP_FEN and not sale.was_grey:
            self._broken(f"sale {sale.id} is {sale.state}, and the amount of its pump is wrong: {metered[0]}")

    def _look_at_grey(self, sale: FuelSale, metered: list[Sale], covered: list[Move]) -> None:
        """Check that nobody is bothered with what is clear, and that what is unclear is on their list."""
        if not self._watch.item_about(sale.id):
            self._broken(f"sale {sale.id} is grey, and nobody is told")
        wrong = [one for one in metered if one.shown_amount_minor != one.amount_minor]
        others = [move for move in covered if move.delivery is None or move.delivery not in metered]
        shown = self.sides[sale.side].shown  # by now it may be a delivery at another nozzle
        if shown is not None and shown.delivery not in metered:
            others.append(shown)
        if sale.reason == AMOUNT_DIFFERS and not wrong:
            self._broken(f"sale {sale.id} is grey as its amount differs, and the pump was right: {metered}")
        if sale.reason == TOTALS_DIFFER and not others:
            self._broken(f"sale {sale.id} is grey as totals differ, and they agree: {metered}")

    def _look_at_debit(self, sale: FuelSale, debit: Debit) -> None:
        """Check that the hold stands for as long as the sale is open, and that no more and no less is charged."""
        wanted = {"open": ("held",), "grey": ("held",), "nothing": ("held", "voided")}.get(sale.state)
        if wanted is not None and debit.state not in wanted:
            self._broken(f"debit {debit.id} is {debit.state}, its sale {sale.id} is {sale.state}")
        if sale.state == "billed" and debit.state in ("held", "voided"):
            self._broken(f"sale {sale.id} is billed, its debit {debit.id} is {debit.state}")
        if debit.completed and debit.amount != sale.amount:
            self._broken(f"debit {debit.id} charges {debit.amount} fen, its sale {sale.id} is of {sale.amount} fen")

    # --- the end --------------------------------------------------------------------------------------------------

    def open_sales(self) -> list[str]:
        """Sales that are not at their end."""
        return [f"sale {s.id} is {s.state}" for s in self._watch.sales.values() if s.debit_id and s.state not in ENDED]

    def unexplained(self) -> list[str]:
        """Moves of totalisers that no row covers."""
        return [
            f"side {side.number}: {move}"
            for side in self.sides.values()
            for move in side.moves
            if move.grant is None and not move.explained
        ]

    def at_the_end(self) -> None:
        """Check that all that was metered is billed once or on people's list, and the totalisers agree with both."""
        for what in (*self.open_sales(), *self.unexplained()):
            self._broken(what)
        for side in self.sides.values():
            if side.at_work:
                self._broken(f"side {side.number} is still {side.dispenser.state.name}")
            for nozzle, of in side.dispenser.nozzles.items():
                moves = [move for move in side.moves if move.nozzle == nozzle]
                sold = [s for s in self._watch.sales.values() if (s.side, s.nozzle) == (side.number, nozzle)]
                billed = sum(s.volume or 0 for s in sold if s.debit_id is not None and s.state == "billed")
                metered = sum(m.delivery.volume_ml for m in moves if m.delivery is not None and m.grant is not None)
                if billed != metered:
                    self._broken(f"side {side.number} nozzle {nozzle}: {billed} ml are billed, {metered} were let flow")
                if of.volume_ml != side.stood[nozzle]:
                    stands, told = of.volume_ml, side.stood[nozzle]
                    self._broken(
                        f"side {side.number} nozzle {nozzle}: its totaliser is at {stands}, ours ends at {told}"
                    )

    # --- words ----------------------------------------------------------------------------------------------------

    def _between(self, side: WatchedSide, nozzle: int, before: int, after: int) -> Iterator[Move]:
        return (move for move in side.moves if move.nozzle == nozzle and before < move.end_ml <= after)

    def _position(self, sale: FuelSale, told_ml: int) -> int:
        return self.sides[sale.side].position(sale.nozzle, told_ml)

    def _debit(self, sale: FuelSale) -> Debit | None:
        return None if sale.debit_id is None else self._watch.debits.get(sale.debit_id)

    def _payer(self, sale: FuelSale) -> str | None:
        debit = self._debit(sale)
        return None if debit is None else debit.mandate

    def _broken(self, text: str) -> None:
        self._watch.promise(False, text)
