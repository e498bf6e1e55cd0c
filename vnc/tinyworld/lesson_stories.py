"""Stories that teach: opposites, the days of the week, counting, small sums and spelling.

In each, {a} asks and {b} answers: an opening, the lines of the lesson with a breath between them, and praise.
"""

from collections.abc import Iterator

from vnc.tinyworld.lore import PAIRS
from vnc.tinyworld.teller import Teller
from vnc.tinyworld.world import DAYS, NUMBERS, OPPOSITE, OPPOSITES, SPELLING_WORDS, day_after, day_before, spell

LESSONS = (
    "{Tag.a} gave {b} a lesson {where}, among {lots}.",
    "On a(n) {weather} {day} {part} {tag.a} played school with {b}, {lots}.",
    "{Tag.a} and {tag.b} sat {where}, {as}, and asked each other questions.",
    "{Tag.b} wanted to learn something from {tag.a}, and brought {lot}.",
    "At {hour} o'clock {tag.a} opened {a_thing}, {did} {lot} and began to teach {b}.",
)
BREATHS = ("{fact.a} {lore.a}", "{fact.b} {beat.b}", "{lore.b} {fact.a}")
PRAISE = (
    '"Quite right," {said} {a}, and {act} {manner}.',
    "{b} got {lots} for that.",
    "{b} {did} {lot} and {act} {manner}.",
    '"You are {as}," {said} {a}.',
    "{a.pet} the {a.kind} {did} {lot} and {act} {manner}.",
    "After that {b} went home to {b.town}, {as}.",
)
OPPOSITE_LINES = (
    '"{P}," said {a}. "{Q}," said {b}.',
    "The opposite of {p} is {q}.",
    "{b} said that {p} is the opposite of {q}.",
    '"If it is not {p}, it is {q}," {said} {b}.',
    "{P} and {q} are opposites.",
    '"{P}?" "{Q}."',
    "{P}, {q}.",
    "{P}: {q}.",
    "{a} called out {p}, and {b} called back {q}.",
)
DAY_LINES = (
    "After {d} comes {n}.",
    "{d} comes after {p}, and {n} comes after {d}.",
    "The day after {d} is {n}.",
    "The day before {d} is {p}.",
    "{d} lies between {p} and {n}.",
    "On {d} {b} {did} {a_thing}, and the next day, on {n}, {b.he} {did} {a_thing}.",
    "{a} was {mood} on {d}, and the day before, on {p}, {a.he} was {mood}.",
    "They said the days: {p}, {d}, {n}.",
)
SUM_LINES = (
    "{P} and {q} make {r}.",
    '"{P} and {q}?" asked {a}. "{R}," {said} {b}.',
    "{b} had {p} {thing}s and got {q} more, which made {r}.",
    "{P} plus {q} is {r}.",
    "{P} and {q} is {r}.",
    '"{P} and {q}?" "{R}."',
    "{P} {thing}s and {q} {thing}s make {r} things.",
    "{a} put {p} {thing}s on top of {q} others, so there were {r}.",
)
COUNT_LINES = ("After {q} comes {r}.", "{Q} lies between {p} and {r}.", "Before {q} comes {p}.")
SPELLING_LINES = (
    '"How do you spell {p}?" asked {a}. "{q}," {said} {b}.',
    "{b} wrote {p} on {a_thing}: {q}.",
    "{q} spells {p}.",
    "{a} {act} and spelled {p}: {q}.",
)


def _lesson(t: Teller, lines: Iterator[str]) -> str:
    """The whole story. `lines` are told one by one, in their places, so that "he" and "she" mean the right person."""
    told = [t.one_of(LESSONS), next(lines), next(lines), t.one_of(BREATHS), *lines, t.one_of(PRAISE)]
    return " ".join([*told, t.tell("{fact.b} {fact.a} {beat.b}")])


def _line(t: Teller, templates: tuple[str, ...], **words: str) -> str:
    """One of the templates, with these words for {p}, {q} and so on."""
    for role, word in words.items():
        t.let(role, word)
    return t.tell(t.draw.pick(templates))


def opposites(t: Teller) -> str:
    """The game of opposites."""
    return _lesson(t, _opposites(t))


def _opposites(t: Teller) -> Iterator[str]:
    for pair in t.draw.arrangement(OPPOSITES, 5 + t.draw.below(4)):
        word = t.draw.pick(pair)
        yield _line(t, OPPOSITE_LINES, p=word, q=OPPOSITE[word])


def days(t: Teller) -> str:
    """Which day comes before and after which."""
    return _lesson(t, _days(t))


def _days(t: Teller) -> Iterator[str]:
    for day in t.draw.arrangement(DAYS, 4):
        yield _line(t, DAY_LINES, p=day_before(day), d=day, n=day_after(day))


def sums(t: Teller) -> str:
    """Sums of two small numbers."""
    return _lesson(t, _sums(t))


def _sums(t: Teller) -> Iterator[str]:
    for _ in range(5 + t.draw.below(3)):
        p, q = t.draw.pick(PAIRS)
        yield _line(t, SUM_LINES, p=NUMBERS[p], q=NUMBERS[q], r=NUMBERS[p + q])


def counting(t: Teller) -> str:
    """Counting things up to a number, and sometimes back again."""
    return _lesson(t, _counting(t))


def _counting(t: Teller) -> Iterator[str]:
    up = NUMBERS[1 : 6 + t.draw.below(11)]
    yield t.tell("{a} and {b} counted {thing}s: ") + ", ".join(up) + "."
    if t.draw.chance(0.5):
        yield t.tell("Then they counted back: ") + ", ".join(up[::-1]) + "."
    n = 2 + t.draw.below(12)
    yield _line(t, COUNT_LINES, p=NUMBERS[n - 1], q=NUMBERS[n], r=NUMBERS[n + 1])
    yield t.tell("There was also {a_thing}, and {b} {did} it.")


def spelling(t: Teller) -> str:
    """Words, letter by letter."""
    return _lesson(t, _spelling(t))


def _spelling(t: Teller) -> Iterator[str]:
    for word in t.draw.arrangement(SPELLING_WORDS, 3 + t.draw.below(2)):
        yield _line(t, SPELLING_LINES, p=word, q=spell(word))
