"""The commands by which a bench steers the emulated antenna: one JSON line each, see `Commands.handlers`.

Every handler refuses keys it does not know, so that a misspelt one is not silently ignored.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TypeVar

from hardware.emulators.control import WAIT_MS_DEFAULT, Command, Handler
from hardware.emulators.flood import FLOOD_MS_MAX, PER_S_MAX
from hardware.emulators.road import Event, Fault, FaultKind, Forgery, PausePoint, Phase, Script, Vehicle, VehicleSpec
from hardware.emulators.rsu_antenna import NOISE, Antenna

WAIT_MS_MAX = 600_000
"""Longest wait for one event, ten minutes: no scenario waits longer."""
EXTRA_MS_MAX = 600_000
COUNT_MAX = 1_000_000
"""Largest count, far above what happens to one vehicle in a run; catches a slip of the pen."""

E = TypeVar("E", bound=Enum)


class Commands:
    """Steers one antenna."""

    def __init__(self, antenna: Antenna) -> None:
        self._antenna = antenna

    def handlers(self) -> dict[str, Handler]:
        """The commands by name."""
        return {
            "arrive": self._command_arrive,
            "leave": self._command_leave,
            "return": self._command_return,
            "forget_guard": self._command_forget_guard,
            "vehicles": self._command_vehicles,
            "cards": self._command_cards,
            "wait": self._command_wait,
            "fault": self._command_fault,
            "pause": self._command_pause,
            "continue": self._command_continue,
            "cut": self._command_cut,
            "down": self._command_down,
            "up": self._command_up,
            "unplug": self._command_unplug,
            "plug": self._command_plug,
            "restart": self._command_restart,
            "garbage": self._command_garbage,
            "flood": self._command_flood,
            "stats": self._command_stats,
        }

    async def _command_arrive(self, command: Command) -> Command:
        """`{"vehicle": {...}}`, see VehicleSpec: a new vehicle drives up."""
        _only(command, "vehicle")
        spec = VehicleSpec.from_json(command.get("vehicle"))
        vehicle = self._antenna.arrive(spec)
        return {"id": spec.id, "card_number": None if vehicle.card is None else vehicle.card.card_file.card_number}

    async def _command_leave(self, command: Command) -> Command:
        """`{"id"}`: it drives off, in the middle of whatever goes on. `gone` comes when the antenna is done with it."""
        _only(command, "id")
        vehicle = self._vehicle(command)
        if not vehicle.present:
            raise ValueError(f"id: {vehicle.spec.id} is not here")
        vehicle.drive_off()
        return {"id": vehicle.spec.id, "phase": vehicle.phase.value}

    async def _command_return(self, command: Command) -> Command:
        """`{"id"}`: the same vehicle and card, later; the antenna has forgotten its guard by then."""
        _only(command, "id")
        vehicle = self._vehicle(command)
        if vehicle.phase is not Phase.AWAY:
            raise ValueError(f"id: {vehicle.spec.id} is still {vehicle.phase.value}; leave, then wait for gone")
        self._antenna.enter(vehicle)
        return {"id": vehicle.spec.id}

    async def _command_forget_guard(self, command: Command) -> Command:
        """`{"id"}`: report a guarded or pausing vehicle again at once."""
        _only(command, "id")
        vehicle = self._vehicle(command)
        was_guarded = vehicle.phase is Phase.GUARDED
        vehicle.search_at = 0.0
        vehicle.wake.set()
        return {"id": vehicle.spec.id, "was_guarded": was_guarded}

    async def _command_vehicles(self, command: Command) -> Command:
        """State of every vehicle, with the messages about it and its events."""
        _only(command)
        return {"vehicles": [_state(vehicle) for vehicle in self._antenna.vehicles.values()]}

    async def _command_cards(self, command: Command) -> Command:
        """Account of every card, read as any reader would. Amounts are fen; vehicles without one are left out.

        `decrements` has the amount of every purchase since the vehicle first arrived, `transactions` the whole record.
        """
        _only(command)
        accounts = [_card_account(vehicle) for vehicle in self._antenna.vehicles.values()]
        return {"cards": [account for account in accounts if account is not None]}

    async def _command_wait(self, command: Command) -> Command:
        """`{"id", "event", "count": 1, "timeout_ms": 300000}`: answer when the event has happened so often."""
        _only(command, "id", "event", "count", "timeout_ms")
        vehicle = self._vehicle(command)
        event = _one_of("event", command.get("event"), Event)
        count = _integer(command, "count", 1, COUNT_MAX, 1)
        timeout_ms = _integer(command, "timeout_ms", 0, WAIT_MS_MAX, WAIT_MS_DEFAULT)
        try:
            await self._antenna.happened(vehicle, event, count, timeout_ms / 1000)
        except TimeoutError as error:
            seen = vehicle.events[event]
            raise TimeoutError(
                f"{vehicle.spec.id}: {seen} of {count} {event.value} within {timeout_ms} ms; it is"
                f" {vehicle.phase.value}"
            ) from error
        return {"id": vehicle.spec.id, "event": event.value, "count": vehicle.events[event]}

    async def _command_fault(self, command: Command) -> Command:
        """`{"id", "what", "times": 1}`, for slow also `extra_ms`, for forge_result and forge_proof also `forgery`.
        The vehicle need not have arrived."""
        what = _one_of("what", command.get("what"), FaultKind)
        slow, forged = what is FaultKind.SLOW, what in (FaultKind.FORGE_RESULT, FaultKind.FORGE_PROOF)
        _only(command, "id", "what", "times", *(("extra_ms",) if slow else ("forgery",) if forged else ()))
        forgery = Forgery.from_json(command.get("forgery")) if forged else Forgery()
        extra_ms = _integer(command, "extra_ms", 1, EXTRA_MS_MAX, None) if slow else 0
        times = _integer(command, "times", 1, COUNT_MAX, 1)
        script = self._script(command)
        script.arm(Fault(what, times, extra_ms, forgery))
        return {"id": command["id"], "faults": len(script.faults), "arrived": self._has_arrived(command)}

    async def _command_pause(self, command: Command) -> Command:
        """`{"id", "before": read | debit | result}`: hold it there, once. The vehicle need not have arrived."""
        _only(command, "id", "before")
        point = _one_of("before", command.get("before"), PausePoint)
        self._script(command).pause_before = point
        return {"id": command["id"], "before": point.value, "arrived": self._has_arrived(command)}

    async def _command_continue(self, command: Command) -> Command:
        """`{"id"}`: go on, or do not stop after all."""
        _only(command, "id")
        script = self._script(command)
        held = self._vehicle(command).paused_before if self._has_arrived(command) else None
        script.pause_before = None
        script.proceed.set()
        return {"id": command["id"], "was_paused_before": None if held is None else held.value}

    async def _command_cut(self, command: Command) -> Command:
        """Drop the lane's connection now. A serial line has none: unplug it."""
        _only(command)
        self._only_on(serial=False)
        return {"was_connected": self._antenna.hang_up()}

    async def _command_down(self, command: Command) -> Command:
        """Stop listening, and cut."""
        _only(command)
        self._only_on(serial=False)
        await self._antenna.unlisten()
        return {"listening": False}

    async def _command_up(self, command: Command) -> Command:
        """Listen again, on the same port."""
        _only(command)
        self._only_on(serial=False)
        await self._antenna.listen()
        return {"listening": True, "port": self._antenna.address[1]}

    async def _command_unplug(self, command: Command) -> Command:
        """Pull the serial cable out: the port and its name vanish."""
        _only(command)
        self._only_on(serial=True)
        was_plugged = self._antenna.listening
        await self._antenna.unlisten()
        return {"plugged": False, "was_plugged": was_plugged}

    async def _command_plug(self, command: Command) -> Command:
        """Plug it in again: another terminal under the same name."""
        _only(command)
        self._only_on(serial=True)
        await self._antenna.listen()
        return {"plugged": True}

    async def _command_restart(self, command: Command) -> Command:
        """Take its power away and give it back: nothing is remembered, and the lane has to start it anew."""
        _only(command)
        self._antenna.restart()
        return {"restarted": True}

    def _only_on(self, *, serial: bool) -> None:
        if self._antenna.serial is not serial:
            raise ValueError("a serial line knows unplug and plug" if serial is False else "TCP knows cut, down and up")

    async def _command_garbage(self, command: Command) -> Command:
        """`{"hex"}`: put these bytes on the line."""
        _only(command, "hex")
        data = bytes.fromhex(str(command.get("hex", "")))
        if not data:
            raise ValueError("hex: at least one byte is wanted")
        self._antenna.write_raw(data)
        return {"written": len(data)}

    async def _command_flood(self, command: Command) -> Command:
        """`{"what": reports | all_ff | false_headers, "ms", "per_s": 500}`: for so long, answered before.

        Reports are B2 of invented tags, each another one; a piece of noise has 256 bytes. No more is written
        than the lane reads.
        """
        _only(command, "what", "ms", "per_s")
        what = str(command.get("what"))
        if what not in ("reports", *NOISE):
            raise ValueError(f"what: {what!r} is not one of reports, {', '.join(NOISE)}")
        ms = _integer(command, "ms", 1, FLOOD_MS_MAX, None)
        self._antenna.flood(what, _integer(command, "per_s", 1, PER_S_MAX, 500), ms / 1000)
        return {"what": what, "ms": ms}

    async def _command_stats(self, command: Command) -> Command:
        """Counts of the line since the start."""
        _only(command)
        return {**self._antenna.stats()}

    def _vehicle(self, command: Command) -> Vehicle:
        vehicle = self._antenna.vehicles.get(_name(command))
        if vehicle is None:
            raise LookupError(f"id: no vehicle {command['id']!r} has arrived")
        return vehicle

    def _script(self, command: Command) -> Script:
        return self._antenna.script(_name(command))

    def _has_arrived(self, command: Command) -> bool:
        return _name(command) in self._antenna.vehicles


def _state(vehicle: Vehicle) -> Command:
    """State of a vehicle as JSON."""
    left_s = vehicle.search_at - asyncio.get_running_loop().time()
    waits = vehicle.phase in (Phase.GUARDED, Phase.SEARCHING) and left_s > 0
    return {
        "id": vehicle.spec.id,
        "phase": vehicle.phase.value,
        "present": vehicle.present,
        "paused_before": None if vehicle.paused_before is None else vehicle.paused_before.value,
        "quiet_ms": round(left_s * 1000) if waits else 0,
        "messages": dict(sorted(vehicle.messages.items())),
        "events": {event.value: vehicle.events[event] for event in Event},
        "last_stop": vehicle.last_stop,
        "seen_at": vehicle.seen_at,
        "faults": [{"what": fault.what.value, "times": fault.remaining} for fault in vehicle.script.faults],
    }


def _card_account(vehicle: Vehicle) -> Command | None:
    """One card's history as JSON, None without a card."""
    card, purse = vehicle.card, vehicle.purse
    if card is None or purse is None:
        return None
    purse.update()
    return {
        "id": vehicle.spec.id,
        "card_number": card.card_file.card_number,
        "type": card.card_file.card_type,
        "balance_start": purse.start_fen,
        "balance": purse.balance_fen(),
        "decrements": [item.amount_fen for item in purse.decrements],
        "transactions": [
            {
                "sequence": item.sequence,
                "amount_fen": item.amount_fen,
                "trade_type": item.trade_type,
                "terminal": item.terminal.hex(),
                "at": item.at,
            }
            for item in purse.decrements
        ],
        "offline_serial": card.offline_sequence,
        "file_0019": purse.station().hex(),
    }


# --- arguments of commands ------------------------------------------------------------------------------------------


def _only(command: Command, *known: str) -> None:
    unknown = sorted(command.keys() - {"cmd", *known})
    if unknown:
        raise ValueError(f"{unknown[0]}: unknown key; {command.get('cmd')} takes {', '.join(known) or 'none'}")


def _name(command: Command) -> str:
    name = command.get("id")
    if not isinstance(name, str) or not name:
        raise ValueError(f"id: a text is wanted, not {name!r}")
    return name


def _integer(command: Command, key: str, lowest: int, highest: int, default: int | None) -> int:
    value = command.get(key, default)
    if type(value) is not int or not lowest <= value <= highest:
        raise ValueError(f"{key}: a whole number from {lowest} to {highest} is wanted, not {value!r}")
    return value


def _one_of(key: str, value: object, choices: type[E]) -> E:
    try:
        return choices(value)
    except ValueError as error:
        known = ", ".join(choice.value for choice in choices)
        raise ValueError(f"{key}: {value!r} is not one of {known}") from error
