"""T=0: what a card has ready is fetched, a wrong Le is corrected, and neither goes on for ever."""

import pytest

from drivers.card_slot import answered
from protocols.card.apdu import FOLLOW_UPS_MAX, Command, Response, follow_up
from protocols.errors import RemoteProtocolError

READ = Command(0x00, 0xB0, 0x95, 0x00, le=43)
SELECT = Command(0x00, 0xA4, 0x00, 0x00, b"\x10\x01", le=256)


@pytest.mark.parametrize(
    ("command", "sw", "wanted"),
    [
        (SELECT, 0x6110, "00C0000010"),
        (SELECT, 0x6100, "00C0000000"),
        (Command(0x00, 0xC0, 0, 0, le=16), 0x6108, "00C0000008"),
        (READ, 0x6C1E, "00B095001E"),
        (READ, 0x6C00, "00B0950000"),
        (Command(0x00, 0xB0, 0, 0), 0x6C05, "00B0000005"),
        (SELECT, 0x6C0A, "00A400000210010A"),
        (READ, 0x6C2B, None),
        (Command(0x00, 0xB0, 0, 0, le=256), 0x6C00, None),
        (READ, 0x9000, None),
        (READ, 0x6700, None),
        (READ, 0x63C2, None),
    ],
)
def test_what_follows_a_status_word(command, sw, wanted):
    further = follow_up(command, Response(b"", sw))
    assert (further and further.encode().hex().upper()) == wanted


@pytest.mark.parametrize(
    ("command", "wanted"),
    [(SELECT, "00A40000021001"), (READ, "00B095002B"), (Command(0x80, 0xFA, 0, 0), "80FA000000")],
)
def test_the_fifth_byte_on_t0(command, wanted):
    assert command.encode_t0().hex().upper() == wanted


def answer(command, *answers):
    """Ask for an answer where the card gives these, one after the other; it, and what the card was asked."""
    asked, left = [], list(map(bytes.fromhex, answers))

    def ask(one):
        asked.append(one.encode().hex().upper())
        return left.pop(0) if len(left) > 1 else left[0]

    return answered(command, ask), asked


def test_an_answer_in_pieces_is_one():
    response, asked = answer(SELECT, "6102", "AABB6101", "CC9000")
    assert response == Response(b"\xaa\xbb\xcc", 0x9000)
    assert asked == [SELECT.encode().hex().upper(), "00C0000002", "00C0000001"]


def test_a_wrong_le_is_corrected_once():
    response, asked = answer(READ, "6C02", "AABB9000")
    assert response == Response(b"\xaa\xbb", 0x9000)
    assert len(asked) == 2
    response, asked = answer(READ, "6C02")
    assert response.sw == 0x6C02
    assert len(asked) == 2


def test_a_card_that_never_ends_is_left():
    with pytest.raises(RemoteProtocolError, match="announces more"):
        answer(SELECT, "AA6101")
    with pytest.raises(RemoteProtocolError):
        answer(READ, *["6C02", "6C03"] * FOLLOW_UPS_MAX)


def test_an_answer_without_a_status_word_is_none():
    with pytest.raises(RemoteProtocolError, match="status word"):
        answer(READ, "90")
