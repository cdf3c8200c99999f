"""Where our ledger stands, in a private field of the bank's messages."""

from datetime import UTC, datetime

import pytest

from protocols.bank.anchors import MAGIC, Anchor, read_anchor, write_anchor
from protocols.bank.codec import decode, encode
from protocols.bank.dialects import CUPS_POS_BCD
from protocols.bank.transactions import Profile, advice, echo, refund, sale, sign_in
from protocols.errors import LocalProtocolError

PROFILE = Profile(terminal="B2E20001", merchant="990100000000001")
ANCHOR = Anchor(2, 70_000, bytes(range(8)))
ORDER = {"stan": 7, "batch": "000001", "amount_fen": 1425, "contract": "622848", "at": datetime(2026, 1, 1, tzinfo=UTC)}


def test_what_is_written_is_read():
    content = write_anchor(Anchor(2, 70_000, bytes(range(32))))
    assert content == MAGIC + bytes.fromhex("0002 0000000000011170 0001020304050607")
    assert read_anchor(content) == ANCHOR


@pytest.mark.parametrize("content", [b"", MAGIC, b"X" * 23, write_anchor(ANCHOR) + b"0", write_anchor(ANCHOR)[:-1]])
def test_what_is_somebody_elses_says_nothing(content):
    assert read_anchor(content) is None


def messages(profile, anchor):
    return [
        sign_in(profile, stan=1, batch="000001", anchor=anchor),
        echo(profile, stan=1, batch="000001", anchor=anchor),
        advice(profile, **ORDER, anchor=anchor),
        refund(profile, **ORDER, anchor=anchor),
    ]


def test_every_upload_carries_it_over_the_wire():
    for message in messages(PROFILE, ANCHOR):
        back = decode(encode(message, CUPS_POS_BCD), CUPS_POS_BCD)
        assert read_anchor(back.fields[62]) == ANCHOR
    assert 62 not in sale(PROFILE, **ORDER).fields


def test_a_partner_without_room_gets_none():
    without = Profile(terminal="B2E20001", merchant="990100000000001", anchor_field=None)
    assert [62 in m.fields for m in (*messages(without, ANCHOR), *messages(PROFILE, None))] == [False] * 8
    with pytest.raises(LocalProtocolError, match="anchor_field"):
        Profile(terminal="B2E20001", merchant="990100000000001", anchor_field=48)
