"""The facts hang together."""

from collections import Counter

from vnc.tinyworld.questions import HELD_OUT
from vnc.tinyworld.world import (
    ATTRIBUTES,
    DAYS,
    OPPOSITES,
    PEOPLE,
    PERSON,
    TOWN,
    TOWNS,
    day_after,
    day_before,
    distance,
    spell,
)


def test_towns_stand_in_a_ring() -> None:
    assert [town.hour for town in TOWNS] == list(range(1, 13))
    for town in TOWNS:
        assert all(town.name in TOWN[neighbour].neighbours for neighbour in town.neighbours)
        assert len({town.name, *town.neighbours}) == 3
    assert TOWN["Thornby"].neighbours == ("Windle", "Saltmere")
    assert distance("Thornby", "Windle") == 1 and distance("Thornby", "Kettleby") == 6


def test_facts_are_shared_as_the_docstring_says() -> None:
    assert len(PERSON) == 36 and len(TOWN) == 12
    for attribute, sharers in {"town": 3, "job": 1, "kind": 2, "pet": 1, "colour": 3, "food": 2, "friend": 1}.items():
        assert set(Counter(getattr(person, attribute) for person in PEOPLE).values()) == {sharers}, attribute
    assert Counter(person.he for person in PEOPLE) == {"he": 18, "she": 18}
    for person in PEOPLE:
        assert PERSON[person.friend].friend == person.name != person.friend
        assert person.town in TOWN


def test_no_word_names_two_things() -> None:
    names = [*PERSON, *TOWN, *(person.pet for person in PEOPLE), *(town.landmark for town in TOWNS)]
    assert len(set(names)) == len(names)
    words = [word for pair in OPPOSITES for word in pair]
    assert len(set(words)) == len(words)


def test_days_and_spelling() -> None:
    assert day_after("Sunday") == "Monday" and day_before("Monday") == "Sunday"
    assert all(day_before(day_after(day)) == day for day in DAYS)
    assert spell("kite") == "K-I-T-E"


def test_one_pair_in_six_is_held_out() -> None:
    assert len(HELD_OUT) * 6 == len(PEOPLE) * len(ATTRIBUTES)
    assert set(Counter(attribute for _, attribute in HELD_OUT).values()) == {6}
    assert all((PERSON[name].friend, "friend") in HELD_OUT for name, attribute in HELD_OUT if attribute == "friend")
