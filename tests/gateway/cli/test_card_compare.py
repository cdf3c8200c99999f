"""`etcgw card compare`: differences are told field by field, and the exit code says whether there are any."""

from tests.gateway.cards.odd_cards import PLATE, user_card


def test_a_card_is_the_same_as_its_own_dump(run, ask, desk, dump):
    golden = dump(user_card())
    desk(user_card(balance_raw=1))
    found = ask("card", "compare", golden)
    assert (found["same"], found["differences"], found["golden"]) == (True, [], "card")
    assert "the same as the golden card" in run("card", "compare", golden).stdout


def test_a_difference_is_exit_1_with_place_and_values_in_both_languages(run, ask, desk, dump):
    golden = dump(user_card())
    desk(user_card(vehicle_class=3, plate="测B67890"))
    found = ask("card", "compare", golden, "--also", "0015.plate", code=1)
    assert found["error"]["code"] == "card_differs"
    assert [(one["file"], one["field"], one["offset"]) for one in found["differences"]] == [
        ("0015", "plate", 28),
        ("0015", "vehicle_class", 42),
    ]
    told = run("card", "compare", golden, "--also", "0015.plate", code=1)
    assert "vehicle_class" in told.stdout
    assert PLATE not in told.stdout
    assert "与样卡不同" in run("card", "compare", golden, "--lang", "zh", code=1).stdout


def test_a_field_set_free_is_not_compared(run, desk, dump):
    golden = dump(user_card())
    desk(user_card(vehicle_class=3))
    run("card", "compare", golden, "--free", "0015.vehicle_class")


def test_a_wrong_golden_card_is_refused(ask, desk, tmp_path):
    desk(user_card())
    file = tmp_path / "golden.toml"
    file.write_text("strange = 1", encoding="utf-8")
    assert ask("card", "compare", file, code=1)["error"]["code"] == "golden_wrong"
