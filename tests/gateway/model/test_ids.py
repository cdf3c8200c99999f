"""Identifiers: ordered by time, never the same, shaped like UUIDs of version 7."""

import random
from uuid import RFC_4122, UUID

from gateway.model.ids import digest_of, new_id, new_ids

NOW_US = 1_795_400_000_123_456


def test_an_identifier_is_a_uuid_of_its_time():
    found = UUID(new_id(NOW_US, random.Random(1)))
    assert (found.version, found.variant) == (7, RFC_4122)
    assert found.int >> 80 == NOW_US // 1000


def test_many_at_once_are_as_good_as_one_by_one():
    found = new_ids(50, NOW_US, random.Random(1))
    assert len(set(found)) == 50
    for one in map(UUID, found):
        assert (one.version, one.variant, one.int >> 80) == (7, RFC_4122, NOW_US // 1000)
    assert new_ids(1, NOW_US, random.Random(7)) == [new_id(NOW_US, random.Random(7))]


def test_later_identifiers_sort_behind():
    chance = random.Random(1)
    found = [new_id(NOW_US + 1000 * i, chance) for i in range(100)]
    assert sorted(found) == found


def test_every_free_bit_is_drawn():
    bits = [UUID(text).int & (1 << 80) - 1 for text in new_ids(400, NOW_US, random.Random(1))]
    always = never = 0
    for bit in range(80):
        drawn = {value >> bit & 1 for value in bits}
        always += drawn == {1}
        never += drawn == {0}
    assert (always, never) == (4, 2), "version 7 has three ones and a zero, the variant a one and a zero"


def test_a_digest_knows_where_its_parts_begin():
    assert digest_of("ab", "c") != digest_of("a", "bc")
    assert digest_of(None) != digest_of("")
    assert digest_of(1) == digest_of("1") == digest_of(b"1")
