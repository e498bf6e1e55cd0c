"""Templates into text: "{a} found {a_thing}" -> "Mara found a rusty key".

A slot in braces is one of three things. A single letter is a role in the story: {a} is the name, {a.town} a fact about
them; the first mention draws somebody for the role. A longer name is a list in `LISTS`, from which one entry is drawn,
and not the same one twice in a story. A list with a role, such as {fact.a}, tells it with that person as {x}. A capital
({a.He}, {Weather}) asks for a capital letter.

Nothing is drawn before the text needs it, so every choice can be seen in the text and its bits are no waste.
"""

import re
from collections.abc import Sequence
from functools import cache

from vnc.tinyworld.draw import Draw
from vnc.tinyworld.facts import FACTS
from vnc.tinyworld.lore import LORE_PHRASES
from vnc.tinyworld.words import WORDS
from vnc.tinyworld.world import NUMBERS, PEOPLE, PERSON, TOWN, TOWNS, Person, Town, plural

LISTS: dict[str, tuple[str, ...] | dict[str, float]] = {**WORDS, **LORE_PHRASES, **FACTS}
SLOT = re.compile(r"\{([^{}]+)\}")
ARTICLE = re.compile(r"\(n\)( (?:[aeiou]|hon))?", re.IGNORECASE)


def person_fields(person: Person) -> dict[str, str]:
    """Everything that a template may say of a person, by the name of the slot's second half; "" is the name itself."""
    him, his = ("him", "his") if person.he == "he" else ("her", "her")
    fields = {"": person.name, "he": person.he, "him": him, "his": his, "landmark": TOWN[person.town].landmark}
    fields |= {name: getattr(person, name) for name in ("town", "job", "kind", "pet", "colour", "food", "friend")}
    fields["kinds"] = plural(person.kind)
    return fields


def town_fields(town: Town) -> dict[str, str]:
    """The same for a town: its landmark, its hour as a word, and the towns before and after it."""
    before, after = town.neighbours
    return {"": town.name, "landmark": town.landmark, "hour": NUMBERS[town.hour], "before": before, "after": after}


FIELDS = {thing.name: person_fields(thing) for thing in PEOPLE} | {thing.name: town_fields(thing) for thing in TOWNS}


@cache
def parse(template: str) -> tuple[tuple[str, str, str, bool], ...]:
    """The template in pieces (text before the slot, list or role, field or role, capital?)."""
    pieces = []
    end = 0
    for match in SLOT.finditer(template):
        head, _, tail = match[1].partition(".")
        capital = not match[1].islower()
        pieces.append((template[end : match.start()], head.lower(), tail.lower(), capital))
        end = match.end()
    return (*pieces, (template[end:], "", "", False))


def finish(text: str) -> str:
    """Settle every "a(n)": "a(n) old key" -> "an old key"."""
    return ARTICLE.sub(lambda match: "n" + match[1] if match[1] else "", text)


class Teller:
    """Tells one story: fills templates from a `Draw`, remembering the cast and what was drawn already."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.cast: dict[str, dict[str, str]] = {}
        self._left: dict[tuple[object, str], list[str]] = {}
        self._focus = ""  # the last person named, whom "he" or "she" may mean

    def meet(self, role: str) -> Person:
        """The person in this role: drawn from those who are not in the cast, unless the role is taken already."""
        if len(role) > 1:
            raise KeyError(f"{role}: neither a list nor a role, which is a single letter")
        if role not in self.cast:
            known = {fields[""] for fields in self.cast.values()}
            self.cast[role] = FIELDS[self.draw.pick([person.name for person in PEOPLE if person.name not in known])]
        return PERSON[self.cast[role][""]]

    def let(self, role: str, name: str) -> None:
        """Put a person or town into the cast, or any other word that the story goes on to use."""
        self.cast[role] = FIELDS.get(name) or {"": name}

    def one_of(self, templates: Sequence[str]) -> str:
        """Draw one of the templates, none of them twice in a story, and fill it."""
        return self.tell(self._fresh(tuple(templates), "", templates))

    def tell(self, template: str) -> str:
        """The template with its slots filled; "a(n)" is left for `finish`."""
        text = []
        for before, head, tail, capital in parse(template):
            text.append(before)
            if head:
                word = self._entry(head, tail) if head in LISTS else self._member(head, tail)
                text.append(word[0].upper() + word[1:] if capital else word)
        return "".join(text)

    def _member(self, role: str, field: str) -> str:
        """A name, a fact, or a mention of somebody in the cast, who may enter it now."""
        if role not in self.cast:
            self.meet(role)
        fields = self.cast[role]
        if field in ("who", "whose", "self"):
            return self._mention(fields, field)
        self._focus = fields[""] if not field else "" if field == "friend" else self._focus
        return fields[field]

    def _mention(self, fields: dict[str, str], field: str) -> str:
        """The name, "the baker" (not for "self"), or, of the person named last, "he" or "she"."""
        ways = {"name": 5}
        if field != "self":
            ways["job"] = 2
        if self._focus == fields[""]:
            ways["he"] = 5
        way = self.draw.weighted(list(ways), list(ways.values()))
        self._focus = fields[""]
        if way == "he":
            return fields["his" if field == "whose" else "he"]
        name = fields[""] if way == "name" else f"the {fields['job']}"
        return f"{name}'s" if field == "whose" else name

    def _entry(self, name: str, role: str) -> str:
        """One entry of a list; where a role is given, with that member of the cast as {x}."""
        if not role:
            return self.tell(self._drawn(name, ""))
        if role not in self.cast:
            self.meet(role)
        outer, inner = self.cast.get("x"), self.cast[role]
        self.cast["x"] = inner
        text = self.tell(self._drawn(name, inner[""]))
        if outer is None:
            del self.cast["x"]
        else:
            self.cast["x"] = outer
        return text

    def _drawn(self, name: str, about: str) -> str:
        """One entry of the list, as it stands there: by weight, or any that is still fresh."""
        entries = LISTS[name]
        if isinstance(entries, dict):
            return self.draw.weighted(list(entries), list(entries.values()))
        return self._fresh(name, about, entries)

    def _fresh(self, name: object, about: str, entries: Sequence[str]) -> str:
        """One of the entries that this story has not used about the same person."""
        left = self._left.get((name, about))
        if not left:
            left = self._left[name, about] = list(entries)
        return self.draw.take(left)
