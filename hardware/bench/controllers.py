"""Emulated PTS-2 controllers at the forecourt of the bench, handled with the words of `hardware.emulators.pump`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hardware.emulators.control import ControlClient

STATES: Final[Mapping[str, str]] = {"authorised": "Filling", "idle": "idle"}
"""States of a pump there, by the words of the others: with its nozzle out it fills as soon as it is authorised."""

FULL: Final = "EndOfTransaction"


class Controller:
    """Controls of a controller, used like those of any line."""

    def __init__(self, control: ControlClient) -> None:
        self._control = control

    async def request(self, command: str, **values: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON values
        """Carry a command out."""
        if "side" in values:
            values["pump"] = values.pop("side")
        match command:
            case "return":
                command = "hang_up"
            case "wait":
                values["state"] = STATES[values["state"]]
        answer: dict[str, Any] = await self._control.request(command, **values)
        if command == "state":
            sides = [_side(int(number), shown) for number, shown in answer["pumps"].items()]
            return answer | {"sides": sides}
        if command == "book":
            sales = [
                {**sale, "side": sale["pump"], "shown_amount_minor": sale["amount_minor"]} for sale in answer["sales"]
            ]
            return answer | {"sales": sales}
        return answer


def _side(number: int, shown: Mapping[str, Any]) -> dict[str, Any]:
    state = "limit_reached" if shown["state"] == FULL else shown["state"]
    totals = [{"volume_ml": total} for total in shown["totals_ml"]]
    return {"side": number, "volume_ml": shown["volume_ml"], "state": state, "totals": totals}
