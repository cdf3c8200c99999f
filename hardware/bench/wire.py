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

from hardware.bench.processes import LanePlan
from hardware.bench.reckoning import Line
from hardware.bench.scenario import Vehicle
from hardware.bench.wire_bank import BankWire, read_wire, split_stream
from hardware.bench.wire_rsu import orders, read_capture


def compare(vehicles: Sequence[Vehicle], folder: Path, plan: Sequence[LanePlan]) -> list[Line]:
    """Compare amounts in C6 frames and in 0200 messages with the fares made by hand."""
    by_obu = {v.obu_id: v for v in vehicles}
    ordered = [
        (f.obu_id.hex(), f.amount_fen)
        for lane in plan
        for f in orders(read_capture(folder / f"{lane.name}.capture", lane.dialect))
    ]
    wrong_orders = sum(amount != by_obu[obu].fare_fen for obu, amount in ordered)
    asked = [m for m in _heard_by_bank(folder / "bank.capture") if m.mti == "0200"]
    by_contract = {v.contract_ref: v for v in vehicles if v.funding == "bank_online"}
    wrong_sales = sum(m.contract not in by_contract or m.amount_fen != by_contract[m.contract].fare_fen for m in asked)
    charged = sum(v.expected.charged for v in vehicles)
    charged_online = sum(v.expected.charged and v.funding == "bank_online" for v in vehicles)
    return [
        Line("C6 frames with a wrong amount (count)", wrong_orders, 0, f"{len(ordered)} C6 read off the wire"),
        Line("vehicles ordered to pay (count)", len({obu for obu, _ in ordered}), charged, "scenario"),
        Line("0200 with a wrong amount (count)", wrong_sales, 0, f"{len(asked)} 0200 read off the wire"),
        Line("sales asked of the bank (count)", len(asked), charged_online, "scenario"),
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
