"""Relay boards of a site, and the barriers and lamps wired to them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Iterator
from functools import partial

from drivers.errors import DeviceError
from drivers.lane_io import LaneOutputs
from drivers.modbus import BoardState
from gateway.health import Tell
from gateway.points.gate import config
from gateway.points.ports import OutputFault
from gateway.surroundings import DELIVERIES, Surroundings

log = logging.getLogger(__name__)


class Outputs:
    """Barrier and its lamps in the shape a charge point wants."""

    def __init__(self, driver: LaneOutputs) -> None:
        self.driver = driver

    async def open_barrier(self, record_no: int, *, timeout_s: float) -> None:
        """Lift the barrier for the decision of this record."""
        with _as_output_fault():
            await self.driver.open_barrier(record_no, timeout_s=timeout_s)

    async def confirm_opening(self, record_no: int) -> None:
        """Confirm an opening whose fault was not certain."""
        with _as_output_fault():
            await self.driver.confirm_opening(record_no)

    async def show_go(self, *, timeout_s: float) -> None:
        """Show green."""
        with _as_output_fault():
            await self.driver.show_go(timeout_s=timeout_s)

    async def show_stop(self, *, timeout_s: float) -> None:
        """Show red."""
        with _as_output_fault():
            await self.driver.show_stop(timeout_s=timeout_s)

    async def make_safe(self) -> None:
        """Set barrier coil off, red on: a board that comes up may have lost power."""
        try:
            await self.driver.safe_state()
        except DeviceError as error:
            log.warning("outputs not in their safe state: %s", error)

    async def close(self) -> None:
        """End a barrier pulse that is still running; a coil left on would swallow the next opening."""
        try:
            await self.driver.close()
        except DeviceError as error:
            log.warning("a barrier coil may still be on: %s", error)


@contextlib.contextmanager
def _as_output_fault() -> Iterator[None]:
    try:
        yield
    except DeviceError as error:
        raise OutputFault(str(error), DELIVERIES[error.outcome]) from error


class RelayBoards:
    """Relay boards of the site. `run` of each must be running."""

    def __init__(self, sections: Iterable[config.RelayBoard], surroundings: Surroundings, tell: Tell) -> None:
        self._surroundings = surroundings
        self._tell = tell
        self._outputs: dict[str, list[Outputs]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self.boards = {
            section.name: surroundings.board(section, partial(self._heard, section.name)) for section in sections
        }
        for name in self.boards:
            tell(f"board/{name}", False, "not connected yet", "barrier_fault")

    def outputs(self, owner: str, section: config.Outputs) -> Outputs:
        """Make barrier and lamps of a charge point."""
        driver = LaneOutputs(
            self.boards[section.board],
            barrier_coil=section.barrier,
            green_coil=section.green,
            red_coil=section.red,
            pulse_ms=section.pulse_ms,
            closed_limit=section.closed_limit,
            travel_ms=section.travel_ms,
        )
        outputs = self._surroundings.device(f"{owner}/outputs", lambda: Outputs(driver))
        self._outputs.setdefault(section.board, []).append(outputs)
        return outputs

    async def close(self) -> None:
        """Switch off what is still switched on for a moment."""
        for outputs in (o for of_board in self._outputs.values() for o in of_board):
            await outputs.close()

    def _heard(self, name: str, state: BoardState, cause: str) -> None:
        up = state is BoardState.UP
        self._tell(f"board/{name}", up, cause, None if up else "barrier_fault")
        if up:
            for outputs in self._outputs.get(name, ()):
                task = asyncio.get_running_loop().create_task(outputs.make_safe())
                self._background.add(task)
                task.add_done_callback(self._background.discard)
