"""Bugs of fuel islands that can be planted: at the seams of ledger, engine and pump, not inside a side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from drivers.pump_side import PumpSide
from gateway.debit import attempts, holds
from gateway.debit.engine import DebitEngine
from gateway.points.fuel import book, island, settling, side
from gateway.points.fuel.allowance import Allowance
from gateway.points.fuel.settling import Begun, Ended, Nothing, Sold, Unclear
from hardware.bench.simulation.planting import Bug, edit, put
from protocols.pump.types import AmountLimit, AskDelivered, Authorise, Clear, Command, Decimals, Outcome

Verdict = Sold | Nothing | Unclear
Planted = AbstractContextManager[None]


def _settled(change: Callable[[Begun, Ended, Decimals, Verdict], Verdict]) -> Callable[[], Planted]:
    """Patch what a sale comes to."""

    @contextmanager
    def patch() -> Iterator[None]:
        real = settling.settle

        def settle(begun: Begun, ended: Ended, decimals: Decimals, *, wraps_at_ml: int) -> Verdict:
            return change(begun, ended, decimals, real(begun, ended, decimals, wraps_at_ml=wraps_at_ml))

        with put(side, "settle", settle):
            yield

    return patch


def _recomputed(begun: Begun, ended: Ended, decimals: Decimals, verdict: Verdict) -> Verdict:
    shown = ended.delivered
    if not isinstance(verdict, Unclear) or verdict.reason != "pump_amount_differs" or shown is None:
        return verdict
    volume, price = shown.volume_ml or 0, shown.unit_price_milli or begun.unit_price_milli or 0
    return Sold(volume, decimals.amount_of(volume, price))


def _as_shown(_begun: Begun, ended: Ended, _decimals: Decimals, verdict: Verdict) -> Verdict:
    shown = ended.delivered
    if isinstance(verdict, Sold) or shown is None or not shown.volume_ml or not shown.amount_minor:
        return verdict
    return Sold(shown.volume_ml, shown.amount_minor)


def _of_before(begun: Begun, ended: Ended, decimals: Decimals, verdict: Verdict) -> Verdict:
    nothing = isinstance(verdict, Nothing) and not ended.watched
    return _as_shown(begun, ended, decimals, verdict) if nothing else verdict


def _unclear_as_shown(begun: Begun, ended: Ended, decimals: Decimals, verdict: Verdict) -> Verdict:
    return _as_shown(begun, ended, decimals, verdict) if isinstance(verdict, Unclear) else verdict


def _silence_is_nothing(_begun: Begun, _ended: Ended, _decimals: Decimals, verdict: Verdict) -> Verdict:
    return Nothing() if isinstance(verdict, Unclear) else verdict


def _pump(orders: Callable[[Command], tuple[Command, ...]]) -> Callable[[], Planted]:
    """Patch what is ordered at a pump: these commands instead of one; the first one's outcome counts."""

    @contextmanager
    def patch() -> Iterator[None]:
        real = PumpSide.do

        async def do(self: PumpSide, command: Command) -> Outcome:
            outcomes = [await real(self, one) for one in orders(command)]
            return outcomes[0]

        with put(PumpSide, "do", do):
            yield

    return patch


def _cleared_early(command: Command) -> tuple[Command, ...]:
    return (command, Clear()) if isinstance(command, AskDelivered) else (command,)


def _twice_the_limit(command: Command) -> tuple[Command, ...]:
    if isinstance(command, Authorise) and isinstance(command.limit, AmountLimit):
        return (Authorise(AmountLimit(2 * command.limit.amount_minor), command.nozzles),)
    return (command,)


@contextmanager
def _begun_later() -> Iterator[None]:
    """Store a sale with the next change, not before its pump is authorised."""
    real = book.begin
    kept: list[Callable[[Any], object]] = []

    def begin(tx: Any, *args: Any, begun: Begun, **values: Any) -> Allowance:  # noqa: ANN401 - as the original
        values["begun"] = begun
        earlier, kept[:] = list(kept), [partial(_again, real, args, values)]
        for one in earlier:
            one(tx)
        return Allowance(begun.limit_fen, None, AmountLimit(begun.limit_fen))

    with put(book, "begin", begin):
        yield


def _again(real: Callable[..., object], args: tuple[Any, ...], values: dict[str, Any], tx: Any) -> object:  # noqa: ANN401
    return real(tx, *args, **values)


@contextmanager
def _freed_at_start() -> Iterator[None]:
    """Take a hold behind an open sale for one under which nothing was delivered."""
    real = book.held_for_nothing

    def held(connection: Any, charge_point: str) -> list[str]:  # noqa: ANN401 - as the original
        open_ones = (sale.debit_id for sale in book.open_sales(connection, charge_point) if sale.sold is None)
        return [*real(connection, charge_point), *open_ones]

    with put(book, "held_for_nothing", held):
        yield


@contextmanager
def _one_fen_more() -> Iterator[None]:
    """Charge another amount than was delivered."""
    real = DebitEngine.complete

    def complete(self: DebitEngine, debit_id: str, amount_fen: int, *args: Any, **values: Any) -> Any:  # noqa: ANN401
        return real(self, debit_id, amount_fen + 1, *args, **values)

    with put(DebitEngine, "complete", complete):
        yield


def _instead(owner: Any, name: str, value: Any) -> Callable[[], Planted]:  # noqa: ANN401 - a function of any kind
    return lambda: put(owner, name, value)


def _fuel(what: str, patch: Callable[[], Planted]) -> Bug:
    return Bug(what, patch, "fuel")


FUEL_BUGS: Mapping[str, Bug] = {
    "sale_stored_late": _fuel("a pump is authorised before the sale is stored", _begun_later),
    "hold_freed_behind_pump": _fuel("a start frees the hold behind an open sale", _freed_at_start),
    "completed_again": _fuel(
        "a delivery that is charged already is charged again after a start",
        edit(
            (holds, "complete", "if debit.state != DebitState.HELD:", "if False:"),
            (
                attempts,
                "store_sale",
                "if debit.state != DebitState.HELD or debit.contract_ref is None or",
                "if False and",
            ),
        ),
    ),
    "wrap_not_understood": _fuel(
        "a totaliser that begins again at zero is taken for one that went back",
        edit((settling, "_grown", "(after - before) % wraps_at_ml", "(after - before)")),
    ),
    "display_cleared_early": _fuel("the display is cleared before the sale is stored", _pump(_cleared_early)),
    "preset_too_high": _fuel("a pump is let deliver more than is held", _pump(_twice_the_limit)),
    "amount_recomputed": _fuel(
        "volume times price is billed where the pump's amount is another", _settled(_recomputed)
    ),
    "amount_not_explained": _fuel(
        "an amount that volume and price do not explain is billed",
        edit((Decimals, "explains", "return gap <=", "return True or gap <=")),
    ),
    "served_vehicle_proves": _fuel(
        "a vehicle that has filled up proves who lifts another nozzle",
        edit((island.Island, "served", "self._served[name] = self._clock.monotonic()", "pass")),
    ),
    "grey_billed": _fuel("what the pump shows is billed though its totaliser disagrees", _settled(_unclear_as_shown)),
    "display_of_before": _fuel("what is shown of the last customer is billed to the next", _settled(_of_before)),
    "silence_is_nothing": _fuel("what is not known of a delivery counts as nothing", _settled(_silence_is_nothing)),
    "grey_served_again": _fuel(
        "whoever has a grey sale may fill up again", _instead(book, "has_grey", lambda *_: False)
    ),
    "open_sales_forgotten": _fuel(
        "sales that were open at the start are forgotten", _instead(book, "open_sales", lambda *_: [])
    ),
    "grey_told_to_nobody": _fuel(
        "a sale becomes grey, and stands on nobody's list",
        edit((book, "leave_grey", "add_item(tx,", "(lambda *_, **__: None)(tx,")),
    ),
    "unexplained_swallowed": _fuel(
        "a delivery that no sale explains is stored nowhere", _instead(book, "find", lambda *_, **__: None)
    ),
    "another_amount_charged": _fuel("another amount is charged than was delivered", _one_fen_more),
}
