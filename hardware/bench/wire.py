"""What really went over the wires, read with decoders of the bench's own.

An emulator that shares the gateway's codec would share its misunderstandings. So the bench reads the raw bytes both
emulators have recorded and finds the money in them with plain `struct`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from hardware.bench.reckoning import Line
from hardware.bench.scenario import Vehicle
from hardware.bench.wire_bank import read_wire, split_stream
from hardware.bench.wire_rsu import read_frames


def compare(vehicles: Sequence[Vehicle], folder: Path, lanes: Sequence[str]) -> list[Line]:
    """Amounts in C6 frames and in 0200 messages against the fares made by hand."""
    by_obu = {v.obu_id: v for v in vehicles}
    ordered = [(f.obu_id.hex(), f.amount_fen) for lane in lanes for f in _frames(folder / f"{lane}.capture", 0xC6)]
    wrong_orders = sum(amount != by_obu[obu].fare_fen for obu, amount in ordered)
    asked = [m for m in _bank_messages(folder / "bank.capture") if m.mti == "0200"]
    by_contract = {v.contract_ref: v for v in vehicles if v.funding == "bank_online"}
    wrong_sales = sum(m.contract not in by_contract or m.amount_fen != by_contract[m.contract].fare_fen for m in asked)
    expected_sales = sum(v.expected.charged and v.funding == "bank_online" for v in vehicles)
    return [
        Line("C6 frames with a wrong amount (count)", wrong_orders, 0, f"{len(ordered)} C6 read off the wire"),
        Line("vehicles ordered to pay (count)", len({obu for obu, _ in ordered}), _charged(vehicles), "scenario"),
        Line("0200 with a wrong amount (count)", wrong_sales, 0, f"{len(asked)} 0200 read off the wire"),
        Line("sales asked of the bank (count)", len(asked), expected_sales, "scenario"),
    ]


def _charged(vehicles: Sequence[Vehicle]) -> int:
    return sum(v.expected.charged for v in vehicles)


def _frames(capture: Path, code: int) -> Iterator[object]:
    yield from (frame for frame in read_frames(_bytes(capture, "in")) if frame.code == code)


def _bank_messages(capture: Path) -> Iterator[object]:
    for message in split_stream(_bytes(capture, "in")):
        yield read_wire(message)


def _bytes(capture: Path, direction: str) -> bytes:
    """Everything that went one way, in order."""
    data = bytearray()
    with capture.open() as lines:
        for line in lines:
            entry = json.loads(line)
            if entry["dir"] == direction:
                data += bytes.fromhex(entry["hex"])
    return bytes(data)
