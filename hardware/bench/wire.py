"""Wire traffic of a run, read with decoders of the bench's own.

An emulator that shares the gateway's codec would share its misunderstandings. So the bench reads the raw bytes both
emulators have recorded and finds the money in them with plain `struct`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hardware.bench.fillings import Filled
from hardware.bench.processes import LanePlan
from hardware.bench.reckoning import Line
from hardware.bench.scenario import ONLINE, Vehicle
from hardware.bench.wire_bank import BankWire, read_wire, split_stream
from hardware.bench.wire_rsu import orders, read_capture


def compare(
    vehicles: Sequence[Vehicle], folder: Path, plan: Sequence[LanePlan], filled: Sequence[Filled] = ()
) -> list[Line]:
    """Compare amounts in C6 frames and in 0200 messages with fares and fillings priced by hand."""
    ordered_of = {v.obu_id: v.fare_fen for v in vehicles if v.expected.charged}
    ordered_of |= {f.filling.vehicle.obu_id: f.priced_fen for f in filled if f.filling.purse_pays}
    asked_of = {v.contract_ref: v.fare_fen for v in vehicles if v.expected.charged and v.funding == ONLINE}
    asked_of |= {f.filling.vehicle.contract_ref: f.priced_fen for f in filled if f.filling.bank_is_asked}
    ordered = [
        (f.obu_id.hex(), f.amount_fen)
        for lane in plan
        for f in orders(read_capture(folder / f"{lane.name}.capture", lane.dialect))
    ]
    wrong_orders = sum(amount != ordered_of.get(obu) for obu, amount in ordered)
    asked = [m for m in _heard_by_bank(folder / "bank.capture") if m.mti == "0200"]
    wrong_sales = sum(m.contract is None or m.amount_fen != asked_of.get(m.contract) for m in asked)
    return [
        Line("C6 frames with a wrong amount (count)", wrong_orders, 0, f"{len(ordered)} C6 read off the wire"),
        Line("vehicles ordered to pay (count)", len({obu for obu, _ in ordered}), len(ordered_of), "scenario"),
        Line("0200 with a wrong amount (count)", wrong_sales, 0, f"{len(asked)} 0200 read off the wire"),
        Line("sales asked of the bank (count)", len(asked), len(asked_of), "scenario"),
    ]


def entry_on_card(file_0019: str) -> dict[str, Any]:
    """Network, station, lane, time and status of a card's file 0019, as a vehicle of the emulated road is told them."""
    data = bytes.fromhex(file_0019)
    lane, unix_seconds, _, status = struct.unpack(">BIBB", data[7:14])
    return {
        "network": data[3:5].hex(),
        "station": data[5:7].hex(),
        "lane": lane,
        "unix_seconds": unix_seconds,
        "status": status,
    }


def _heard_by_bank(capture: Path) -> list[BankWire]:
    """Every message the bank received, connection by connection."""
    streams: dict[str, bytearray] = {}
    with capture.open() as lines:
        for line in lines:
            entry = json.loads(line)
            if entry["dir"] == "in":
                streams.setdefault(entry["peer"], bytearray()).extend(bytes.fromhex(entry["hex"]))
    return [read_wire(message) for stream in streams.values() for message in split_stream(bytes(stream))]
