"""Who is served first when an antenna reports more tags than vehicles can stand there."""

import asyncio

from drivers.report_queue import (
    NEW_TAGS_BURST,
    NEW_TAGS_PER_S,
    REPORTS_OF_TAG_MAX,
    SEEN_S,
    TAGS_MAX,
    ReportQueue,
)
from protocols.rsu.messages import Continue, Stop, StopType

CAR = b"car1"


def tag(number):
    return number.to_bytes(4, "big")


def taken(queue):
    async def all_of_it():
        return [await queue.get() for _ in iter(lambda: queue.empty, True)]

    return asyncio.run(all_of_it())


def test_reports_of_one_tag_come_in_their_order():
    queue = ReportQueue()
    for number in range(3):
        assert queue.put(CAR, number, 0.0)
    assert taken(queue) == [0, 1, 2]


def test_tags_take_turns_and_one_that_talks_pushes_out_only_its_own():
    queue = ReportQueue()
    assert queue.put(CAR, "car", 0.0)
    for number in range(20):
        assert queue.put(tag(1), number, 0.0) is (number < REPORTS_OF_TAG_MAX)
    assert queue.put(tag(2), "other", 0.0)
    assert taken(queue) == ["car", 16, "other", 17, 18, 19]


def test_a_tag_the_lane_deals_with_passes_all_others():
    queue = ReportQueue()
    queue.put(CAR, "first", 0.0)
    for number in range(10):
        queue.put(tag(number), number, 0.0)
    queue.answered(CAR, Continue(CAR, bytes(8)))
    queue.put(CAR, "second", 0.1)
    assert taken(queue)[:2] == ["first", "second"]


def test_a_tag_the_lane_has_done_with_is_as_others():
    queue = ReportQueue()
    queue.answered(CAR, Continue(CAR, bytes(8)))
    queue.answered(CAR, Stop(CAR, StopType.RESEND))
    queue.put(tag(1), "other", 0.0)
    queue.put(CAR, "dealt with", 0.0)
    queue.answered(CAR, Stop(CAR, StopType.SEARCH_AGAIN))
    assert taken(queue) == ["dealt with", "other"]
    queue.put(tag(1), "other", 0.0)
    queue.put(CAR, "again", 0.0)
    assert taken(queue) == ["other", "again"]


def test_new_tags_are_bounded_and_one_that_is_reported_again_is_not_new():
    queue = ReportQueue()
    came = sum(queue.put(tag(number), number, 0.0) for number in range(1000))
    assert came == min(NEW_TAGS_BURST, TAGS_MAX)
    assert not queue.put(CAR, "first", 0.1)
    taken(queue)
    assert queue.put(CAR, "second", 0.2)
    later = 0.2 + SEEN_S
    came = sum(queue.put(tag(number), number, later) for number in range(2000, 3000))
    assert came == min(NEW_TAGS_BURST, TAGS_MAX - 1), NEW_TAGS_PER_S


def test_results_are_not_kept_out_by_first_reports():
    queue = ReportQueue()
    for number in range(1000):
        queue.put(tag(number), number, 0.0)
    taken(queue)
    assert queue.put(CAR, "result", 0.0, result=True)


def test_where_no_place_is_free_the_newcomer_waits_for_its_next_report():
    queue = ReportQueue()
    for number in range(TAGS_MAX):
        queue.put(tag(number), number, float(number))
    assert not queue.put(CAR, "car", 100.0)
    assert taken(queue) == list(range(TAGS_MAX))
    assert queue.put(CAR, "car", 100.2)
