"""Which reports were surely made after the last purchase order had arrived, on a line that keeps its order."""

import pytest

from drivers.rsu_orders import ORDER_LIFE_S, TAGS_MAX, OrdersUnderWay
from protocols.rsu.messages import Continue, Debit, Stop, StopType

TAG, OTHER = b"\0\0\0\1", b"\0\0\0\2"
ON = Continue(TAG, bytes(8))
BUY = Debit(TAG, bytes(8), 1500, "20261123100144", bytes(43))


class Line:
    """Writes orders and hears reports, one second of a hundred apart."""

    def __init__(self):
        self.orders = OrdersUnderWay()
        self.now = 100.0

    def write(self, *orders, tag=TAG):
        for order in orders:
            self.now += 0.01
            self.orders.written(tag, order, self.now)

    def hear(self, tag=TAG):
        self.now += 0.01
        return self.orders.reported(tag, self.now)


def test_a_reading_asked_for_after_the_purchase_order_is_up_to_date():
    line = Line()
    line.write(ON)
    assert line.hear(), "nothing was to be bought yet"
    line.write(BUY, ON)
    assert line.hear()


def test_a_repeated_answer_that_crossed_the_purchase_order_may_be_what_a_reading_answers():
    line = Line()
    line.write(ON, ON)
    line.hear()
    line.write(BUY, ON)
    assert not line.hear(), "the second C1 may have found the antenna searching anew"
    assert line.hear()


def test_every_order_before_the_purchase_counts_once():
    line = Line()
    line.write(ON, ON, ON, BUY)
    assert [line.hear() for _ in range(5)] == [False, False, False, True, True]


def test_the_last_copy_of_the_purchase_order_counts():
    line = Line()
    line.write(ON)
    line.hear()
    line.write(BUY, BUY)
    assert [line.hear(), line.hear()] == [False, True]


def test_an_order_to_search_again_has_no_report_and_one_to_say_it_again_has():
    line = Line()
    line.write(Stop(TAG, StopType.SEARCH_AGAIN), Stop(TAG, StopType.FREEZE), Stop(TAG, None), BUY)
    assert line.hear()
    line = Line()
    line.write(Stop(TAG, StopType.RESEND), BUY)
    assert not line.hear()


@pytest.mark.parametrize(("after_s", "up_to_date"), [(ORDER_LIFE_S - 0.1, False), (ORDER_LIFE_S, True)])
def test_an_order_without_a_report_for_too_long_has_none_any_more(after_s, up_to_date):
    line = Line()
    line.write(ON, BUY)
    line.now += after_s
    assert line.hear() is up_to_date


def test_tags_do_not_disturb_each_other():
    line = Line()
    line.write(ON, BUY)
    line.write(Continue(OTHER, bytes(8)), tag=OTHER)
    assert line.hear(OTHER)
    assert not line.hear()
    assert line.hear(b"\0\0\0\3"), "nothing was ever asked about it"


def test_the_tag_that_was_quiet_longest_is_forgotten_first():
    line = Line()
    line.write(ON, BUY)
    for number in range(10, 9 + TAGS_MAX):
        line.write(ON, BUY, tag=number.to_bytes(4, "big"))
    line.write(ON, tag=TAG)
    line.write(ON, BUY, tag=OTHER)
    assert not line.hear(TAG)
    assert line.hear((10).to_bytes(4, "big"))


def test_a_tag_that_is_asked_for_ever_and_never_tells_fills_no_memory():
    line = Line()
    for _ in range(2000):
        line.write(ON)
    assert len(line.orders._tags[TAG].since) <= ORDER_LIFE_S * 100 + 1
    line.write(BUY)
    for _ in range(2000):
        line.write(ON)
    assert len(line.orders._tags[TAG].before) == 0
