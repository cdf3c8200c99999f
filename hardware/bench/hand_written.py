"""The loop a person would write for the same debits: plain sqlite3, a statement a row, nothing shared with the engine.

It asks what must be asked (is the key known, has the card an open purchase, who owes, what stands on the account), and
writes every row with its identifiers, digests, chains and seals. It knows one way only: no refusal, no limits, no
second attempt, no bank, and nobody who waits for an answer.
"""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
import time
import zlib
from pathlib import Path
from typing import Any, Final

from gateway.ledger import engines, schema
from gateway.ledger.engines.sqlite import CACHE_KIB
from hardware.bench.chain_key import BENCH_KEY

CHAINS: Final = {"transfer": "id", "decision": "record_no", "journal": "number"}
TABLES: Final = {
    "account": 3,
    "obligor": 4,
    "debit": 5,
    "subject": 8,
    "passage": 9,
    "purchase": 10,
    "purchase_file": 11,
    "card_serial": 12,
}
"""Codes of the sealed tables it writes to."""
SALTED: Final = ("obligor", "subject", "purchase_file", "card_serial")
_random = random.SystemRandom()


class HandWritten:
    """A ledger of its own; `charge` and `passage` make one group of debits durable."""

    def __init__(self, path: Path, *, fare_fen: int, vehicles: int, day: str) -> None:
        self.path = path
        self._fare, self._vehicles, self._day = fare_fen, vehicles, day
        engine = engines.open_new(path)
        schema.upgrade(engine)
        engine.dispose()
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._run = self._connection.execute
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"busy_timeout={engines.BUSY_TIMEOUT_MS}",
            f"cache_size=-{CACHE_KIB}",
        ):
            self._run(f"PRAGMA {pragma}")
        clocks = (time.time_ns() // 1000, time.monotonic_ns() // 1000)
        self._run("insert into clock_reading values (1, 'this start', ?, ?, 0)", clocks)
        for name in CHAINS:
            self._run("insert into chain values (?, 0, ?)", (name, bytes(32)))
        self._heads: dict[str, tuple[int, bytes]] = {}
        self._touched: dict[tuple[str, Any], tuple[Any, ...]] = {}
        self._now = 0
        self._begin()
        nothing = f"transfer 0 {bytes(32).hex()}, decision 0 {bytes(32).hex()}"
        self._journal("chain_key", BENCH_KEY.id.hex(), None, "begun", f"after none; {nothing}")
        self._run("insert into account values (1, 'merchant', 'road', 0, 0, 0)")
        self._seal("account", (1, "merchant", "road"))
        self._store()

    def close(self) -> None:
        """Let go of the ledger."""
        self._connection.close()

    def charge(self, numbers: range) -> None:
        """Claim, release and decision of these debits in one transaction."""
        self._begin()
        for number in numbers:
            key = bytes.fromhex(f"{number:064d}")
            content = _digest("lane-1", "toll", "road", "issuer_clearing", "issuer-9901", None, self._fare, None)
            if self._run("select * from debit where idempotency_key = ?", (key,)).fetchone() is not None:
                raise ValueError(key)
            if self._run("select * from refusal where idempotency_key = ?", (key,)).fetchone() is not None:
                raise ValueError(key)
            obligor, account = self._obligor(number)
            passage = self._sight(number)
            debit = self._id()
            hold = self._claim(number, debit, content, passage, obligor, account, "issuer_clearing", "released")
            self._post(debit, account, hold)
            self._decide(passage, debit, "issuer_clearing")
            self._run(
                "update account set balance = balance - ?, version = version + 1 where id = ?", (self._fare, account)
            )
        moved = self._fare * len(numbers)
        self._run("update account set balance = balance + ?, version = version + 1 where id = 1", (moved,))
        self._commit()

    def passage(self, numbers: range) -> None:
        """Holds and intents of these debits in one transaction, results and decisions in another."""
        self._begin()
        held = [self._hold(number) for number in numbers]
        self._commit()
        self._begin()
        issuer = self._account("issuer", "issuer-9901")
        for number, passage in zip(numbers, held, strict=True):
            self._bring_in(number, *passage, issuer)
        moved = self._fare * len(numbers)
        self._run("update account set balance = balance + ?, version = version + 1 where id = 1", (moved,))
        self._run("update account set balance = balance - ?, version = version + 1 where id = ?", (moved, issuer))
        self._commit()

    def _hold(self, number: int) -> tuple[bytes, bytes, str, bytes]:
        key, card = bytes.fromhex(f"{number:064d}"), f"{number % self._vehicles:020d}"
        before = bytes(43)
        content = _digest("lane-1", "toll", "road", "purse", "issuer-9901", None, self._fare, before)
        if self._run("select * from debit where idempotency_key = ?", (key,)).fetchone() is not None:
            raise ValueError(key)
        if self._run("select * from refusal where idempotency_key = ?", (key,)).fetchone() is not None:
            raise ValueError(key)
        waiting = self._run(
            "select purchase.id from subject join passage on passage.id = subject.id"
            " join debit on debit.passage_id = passage.id join purchase on purchase.debit_id = debit.id"
            " where subject.card_number = ? and purchase.state in (?, ?) limit 1",
            (card, "intent", "unknown"),
        ).fetchone()
        if waiting is not None:
            raise ValueError(card)
        obligor, account = self._obligor(number)
        passage = self._sight(number)
        debit, purchase = self._id(), self._id()
        self._claim(number, debit, content, passage, obligor, account, "purse", "held")
        self._run("update account set held = held + ?, version = version + 1 where id = ?", (self._fare, account))
        self._returned(
            "purchase",
            "insert into purchase (id, debit_id, attempt_no, state, written_fen, purchase_time,"
            " balance_before, created_at, changed_at) values (?, ?, 1, 'intent', ?, '20261123100000', 50000, ?, ?)",
            (purchase, debit, self._fare, self._now, self._now),
        )
        self._file(purchase, before, bytes(43))
        return debit, purchase, card, passage

    def _bring_in(  # noqa: PLR0917 - all that was held
        self, number: int, debit: bytes, purchase: bytes, card: str, passage: bytes, issuer: int
    ) -> None:
        row = self._run("select obligor_id, state, amount, hold_id from debit where id = ?", (debit,)).fetchone()
        if row[1] != "held":
            raise ValueError(debit)
        self._end_purchase(number, purchase, card)
        if self._run("select 1 from purchase where debit_id = ? and tac is not null", (debit,)).fetchone() is None:
            raise ValueError(debit)
        account = self._account("open", row[0])
        self._post(debit, account, row[3])
        self._transfer("direct", "purse_paid", debit, issuer, account, None)
        self._run("update account set held = held - ?, version = version + 1 where id = ?", (self._fare, account))
        self._returned(
            "debit",
            "update debit set state = 'funded', collected = ?, changed_at = ? where id = ?",
            (self._fare, self._now, debit),
        )
        self._note(debit, "funded")
        self._decide(passage, debit, "purse")

    def _end_purchase(self, number: int, purchase: bytes, card: str) -> None:
        """Store what card and PSAM have told, if it fits what is known."""
        serial, psam_serial, balance = number // self._vehicles, number, 50_000 - self._fare
        row = self._run("select state, written_fen, balance_before from purchase where id = ?", (purchase,)).fetchone()
        if row != ("intent", self._fare, balance + self._fare):
            raise ValueError(purchase)
        last = self._run("select serial from card_serial where card_number = ?", (card,)).fetchone()
        used = self._run(
            "select id from purchase where terminal = '019900000001' and psam_serial = ? and state = 'taken' limit 1",
            (psam_serial,),
        ).fetchone()
        if used is not None or (last is not None and not 0 < (serial - last[0]) % 65536 < 32768):
            raise ValueError(purchase)
        self._returned(
            "purchase",
            "update purchase set state = 'taken', error = 0, terminal = '019900000001', card_serial = ?,"
            " psam_serial = ?, tac = '00000000', tac_source = 'b5', algorithm = 0, key_version = 1, balance_after = ?,"
            " changed_at = ? where id = ?",
            (serial, psam_serial, balance, self._now, purchase),
        )
        if last is None:
            self._returned("card_serial", "insert into card_serial values (?, ?, ?)", (card, serial, os.urandom(16)))
        else:
            self._returned("card_serial", "update card_serial set serial = ? where card_number = ?", (serial, card))

    # --- rows -----------------------------------------------------------------------------------------------------

    def _obligor(self, number: int) -> tuple[bytes, int]:
        """Obligor and account of a vehicle, made where they are new."""
        subject = _digest("plate", f"测A{number % self._vehicles:05d}", 0)
        row = self._run("select id, listed_at from obligor where subject_key = ?", (subject,)).fetchone()
        if row is not None:
            return row[0], self._account("open", row[0])
        obligor = self._id()
        row = (obligor, None, subject, None, os.urandom(16))
        self._run("insert into obligor values (?, ?, ?, ?, ?)", row)
        self._seal("obligor", row)
        return obligor, self._account("open", obligor)

    def _account(self, kind: str, owner: str | bytes) -> int:
        row = self._run("select * from account where kind = ? and owner = ?", (kind, owner)).fetchone()
        if row is not None:
            return int(row[0])
        made = self._run(
            "insert into account (kind, owner, balance, held, version) values (?, ?, 0, 0, 0)", (kind, owner)
        ).lastrowid
        self._seal("account", (made, kind, owner))
        return int(made or 0)

    def _sight(self, number: int) -> bytes:
        vehicle, passage = number % self._vehicles, self._id()
        who = (vehicle.to_bytes(4).hex(), "0" * 32, f"{vehicle:020d}", f"测A{vehicle:05d}")
        person = (passage, *who, 0, None, os.urandom(16))
        self._run("insert into subject values (?, ?, ?, ?, ?, ?, ?, ?)", person)
        self._seal("subject", person)
        row = (passage, "lane-1", "toll", 1, 1, self._now, "trusted")
        self._run("insert into passage values (?, ?, ?, ?, ?, ?, ?)", row)
        self._seal("passage", row)
        return passage

    def _file(self, purchase: bytes, before: bytes, after: bytes) -> None:
        row = (purchase, before, after, os.urandom(16))
        self._run("insert into purchase_file values (?, ?, ?, ?)", row)
        self._seal("purchase_file", row)

    def _claim(  # noqa: PLR0917 - the row as it stands
        self,
        number: int,
        debit: bytes,
        content: bytes,
        passage: bytes,
        obligor: bytes,
        account: int,
        funding: str,
        state: str,
    ) -> int:
        hold = self._heads["transfer"][0] + 1
        self._returned(
            "debit",
            "insert into debit (id, idempotency_key, content_hash, passage_id, obligor_id, merchant, service, day,"
            " funding, payer, amount, state, hold_id, created_at, changed_at, abandoned)"
            " values (?, ?, ?, ?, ?, 'road', 'toll', ?, ?, 'issuer-9901', ?, ?, ?, ?, ?, 'void')",
            (
                debit,
                bytes.fromhex(f"{number:064d}"),
                content,
                passage,
                obligor,
                self._day,
                funding,
                self._fare,
                state,
                hold,
                self._now,
                self._now,
            ),
        )
        self._note(debit, state)
        return self._transfer("pending", "hold", debit, account, 1, None)

    def _post(self, debit: bytes, account: int, hold: int) -> None:
        row = self._run("select amount, from_account, to_account, phase from transfer where id = ?", (hold,)).fetchone()
        if row != (self._fare, account, 1, "pending"):
            raise ValueError(row)
        self._transfer("post", "released", debit, account, 1, hold)

    def _transfer(  # noqa: PLR0917 - the row as it stands
        self, phase: str, event: str, debit: bytes, giver: int, taker: int, pending: int | None
    ) -> int:
        fixed = (phase, event, debit, None, giver, taker, self._fare, pending, None, None, self._now, self._now)
        number, row = self._chained("transfer", fixed)
        self._run("insert into transfer values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        return number

    def _note(self, debit: bytes, event: str) -> None:
        self._journal("debit", None, debit, event, None)

    def _journal(  # noqa: PLR0917 - the row as it stands
        self,
        kind: str,
        ref: str | None,
        debit: bytes | None,
        event: str,
        detail: str | None,
        content: bytes | None = None,
    ) -> None:
        _, row = self._chained("journal", (kind, ref, debit, event, detail, None, self._now), content)
        self._run("insert into journal values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, content))

    def _decide(self, passage: bytes, debit: bytes, funding: str) -> None:
        fixed = (passage, debit, "lane-1", "go", "paid", None, None, funding, self._fare, 0, self._now)
        _, row = self._chained("decision", (*fixed, None, None, None, None))
        self._run("insert into decision values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def _chained(
        self, table: str, values: tuple[Any, ...], content: bytes | None = None
    ) -> tuple[int, tuple[Any, ...]]:
        number, digest = self._heads[table]
        number += 1
        row = (number, *values)
        lines = _lines(row, content) if table == "journal" else _lines(row)
        whole, person = digest + BENCH_KEY.id + lines, table.encode("ascii")
        made = hashlib.blake2b(whole, digest_size=28, key=BENCH_KEY.secret, person=person)
        digest = BENCH_KEY.id + made.digest()
        self._heads[table] = number, digest
        return number, (*row, digest)

    # --- seals ----------------------------------------------------------------------------------------------------

    def _returned(self, table: str, statement: str, values: tuple[Any, ...]) -> bool:
        """Write one row and keep it as it stands now; False where there was none."""
        row = self._run(f"{statement} returning *", values).fetchone()
        if row is not None:
            self._seal(table, row)
        return row is not None

    def _seal(self, table: str, row: tuple[Any, ...]) -> None:
        self._touched[table, row[0]] = row

    def _content(self) -> bytes:
        """Content that the transaction has written, as the journal vouches for it."""
        content = b""
        for (table, key), row in self._touched.items():
            lines = _lines(row[:-1], row[-1]) if table in SALTED else _lines(row)
            checks = [zlib.crc32(line) for line in lines.split(b"\n")]
            tags = bytes(check & 255 for check in checks)
            name = str(key).encode() if isinstance(key, int) else key if isinstance(key, bytes) else b""
            if table in SALTED:
                pad = hashlib.blake2b(row[-1], digest_size=len(tags), person=b"etc seal tags").digest()
                tags = bytes(a ^ b for a, b in zip(tags, pad, strict=True))
            if table == "card_serial":
                name = hashlib.blake2b(row[-1], digest_size=16, person=b"etc seal row").digest()
            content += bytes((TABLES[table], 0, len(name), len(row))) + name
            content += hashlib.blake2b(lines, digest_size=16).digest() + tags
        self._touched.clear()
        return content

    # --- transactions ---------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._run("BEGIN IMMEDIATE")
        self._now = time.time_ns() // 1000
        for name in CHAINS:
            row = self._run("select number, digest from chain where name = ?", (name,)).fetchone()
            self._heads[name] = row[0], row[1]

    def _commit(self) -> None:
        ends = f"{self._heads['transfer'][0]}/{self._heads['decision'][0]}"
        self._journal("rows", ends, None, "sealed", None, self._content())
        self._store()

    def _store(self) -> None:
        for name, head in self._heads.items():
            self._run("update chain set number = ?, digest = ? where name = ?", (*head, name))
        self._run("COMMIT")

    def _id(self) -> bytes:
        value = (self._now // 1000 & (1 << 48) - 1) << 80 | _random.getrandbits(80)
        return (value & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62).to_bytes(16)


def _lines(values: tuple[Any, ...], *others: bytes | None) -> bytes:
    """Lines of values under chain or seal, ids and digests as hex digits, and of bytes that are neither."""
    shown = (value.hex() if isinstance(value, bytes) and len(value) in (16, 32) else value for value in values)
    return "\n".join(map(ascii, (*shown, *others))).encode("ascii")


def _digest(*parts: str | bytes | int | None) -> bytes:
    whole = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else b"" if part is None else str(part).encode()
        whole.update(b"-" if part is None else str(len(data)).encode() + b":")
        whole.update(data)
    return whole.digest()
