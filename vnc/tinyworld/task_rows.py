"""The rows of TinyWorld's tasks, as in the CORE bundle: a query with four choices, two contexts with one continuation,
or a context whose continuation must be found exactly.

The right choice stands in each place equally often; the wrong ones are of its kind, such as other people's towns.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

from vnc.tinyworld.draw import Draw
from vnc.tinyworld.lore import PAIRS
from vnc.tinyworld.teller import person_fields
from vnc.tinyworld.world import DAYS, NUMBERS, OPPOSITE, PEOPLE, TOWNS, Attribute, Person

Row = dict[str, Any]


def filled(template: str, person: Person) -> str:
    """The template with the person's name for {x}, and their {town}, {pet} and so on."""
    return template.format(x=person.name, **{key: value for key, value in person_fields(person).items() if key})


def multiple_choice(query: str, right: str, others: Sequence[str], place: int) -> Row:
    """Three of the other answers, and the right one in place `place % 4`."""
    gold = place % 4
    wrong = Draw(f"task:{query}").arrangement(sorted(set(others) - {right}), 3)
    return {"query": query, "choices": [*wrong[:gold], right, *wrong[gold:]], "gold": gold}


def about_people(templates: Sequence[str], attribute: Attribute) -> Iterator[Row]:
    """Each template about each person; the wrong answers are true of others."""
    values = [person_fields(person)[attribute] for person in PEOPLE]
    for template in templates:
        for place, (person, right) in enumerate(zip(PEOPLE, values, strict=True)):
            yield multiple_choice(filled(template, person), right, values, place)


def neighbours(templates: Sequence[str]) -> Iterator[Row]:
    """Which of four towns is next to this one: both neighbours are asked for, and neither is a wrong answer."""
    for template in templates:
        for town in TOWNS:
            far = [other.name for other in TOWNS if other.name not in (town.name, *town.neighbours)]
            for side, right in enumerate(town.neighbours):
                yield multiple_choice(template.format(x=town.name), right, far, 2 * town.hour + side)


def landmarks(templates: Sequence[str]) -> Iterator[Row]:
    """What there is to see in each town."""
    everything = [town.landmark for town in TOWNS]
    for template in templates:
        for town in TOWNS:
            yield multiple_choice(template.format(x=town.name), town.landmark, everything, town.hour)


def days(templates: Sequence[str], answer: Callable[[str], str]) -> Iterator[Row]:
    """A day asked for by its neighbour, which is never among the wrong answers."""
    for start, template in enumerate(templates):
        for place, day in enumerate(DAYS):
            others = [other for other in DAYS if other != day]
            yield multiple_choice(template.format(day=day), answer(day), others, start + place)


def opposites(templates: Sequence[str]) -> Iterator[Row]:
    """The word that means the contrary."""
    for template in templates:
        for place, (word, right) in enumerate(OPPOSITE.items()):
            others = [other for other in OPPOSITE if other != word]
            yield multiple_choice(template.format(word=word), right, others, place)


def sums(templates: Sequence[str]) -> Iterator[Row]:
    """Two numbers from two to seven; the wrong answers are near the right one."""
    for template in templates:
        for place, (p, q) in enumerate(PAIRS):
            near = [NUMBERS[n] for n in range(p + q - 3, p + q + 4)]
            words = {"p": NUMBERS[p], "P": NUMBERS[p].capitalize(), "q": NUMBERS[q]}
            yield multiple_choice(template.format(**words), NUMBERS[p + q], near, place)


def whose(templates: Sequence[tuple[str, str]]) -> Iterator[Row]:
    """Two people from different towns: of the one in place `gold` the continuation is true."""
    for template, continuation in templates:
        for place, person in enumerate(PEOPLE):
            other = PEOPLE[(place + 3 + place % 5) % len(PEOPLE)]
            both = [filled(template, person), filled(template, other)]
            gold = place % 2
            options = both[::-1] if gold else both
            yield {"context_options": options, "continuation": filled(continuation, person), "gold": gold}


def pet_names(templates: Sequence[str]) -> Iterator[Row]:
    """The name of somebody's pet, exactly."""
    for template in templates:
        for person in PEOPLE:
            yield {"context": filled(template, person), "continuation": person.pet}


def sequences(days_in_order: Sequence[str], numbers_in_order: Sequence[str]) -> Iterator[Row]:
    """What comes next when two or three days, or numbers, have been told in order."""
    for template in days_in_order:
        for first, length in product(range(7), (2, 3)):
            told = [DAYS[(first + step) % 7] for step in range(length + 1)]
            yield {"context": template.format(run=", ".join(told[:-1])), "continuation": told[-1]}
    for template in numbers_in_order:
        for first, length in product(range(1, 10), (2, 3)):
            told = list(NUMBERS[first : first + length + 1])
            yield {"context": template.format(run=", ".join(told[:-1])), "continuation": told[-1]}
