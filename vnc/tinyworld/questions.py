"""Questions about people, and which of them no chat ever asks.

One in six pairs (person, attribute) is held out: chats never ask for it, from either side, so the model knows it from
stories alone. How well it answers these, beside the others, tells what it knows apart from what it was drilled in.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from vnc.tinyworld.teller import person_fields
from vnc.tinyworld.world import ATTRIBUTES, PEOPLE, PERSON, Attribute, Person

QUESTIONS: dict[Attribute, tuple[str, ...]] = {
    "town": (
        "Where does {x} live?",
        "Which town is {x} from?",
        "In which town does {x} live?",
        "Where is {x}'s home?",
        "What town does {x} come from?",
        "Tell me where {x} lives.",
        "Do you know where {x} lives?",
        "I want to visit {x}. Where do I go?",
    ),
    "job": (
        "What is {x}'s job?",
        "What does {x} do?",
        "What does {x} work as?",
        "What is the job of {x}?",
        "Tell me what {x} does for a living.",
        "What kind of work does {x} do?",
    ),
    "kind": (
        "What pet does {x} have?",
        "What kind of pet has {x}?",
        "Which animal does {x} keep?",
        "What animal lives with {x}?",
        "Does {x} have a pet?",
    ),
    "pet": (
        "What is {x}'s pet called?",
        "What is the name of {x}'s pet?",
        "Tell me the name of {x}'s pet.",
    ),
    "colour": (
        "What is {x}'s favourite colour?",
        "Which colour does {x} like best?",
        "What colour does {x} love?",
        "Tell me {x}'s favourite colour.",
    ),
    "food": (
        "What is {x}'s favourite food?",
        "What does {x} like to eat?",
        "What food does {x} like best?",
        "What should I make for {x} to eat?",
    ),
    "friend": (
        "Who is {x}'s best friend?",
        "Who is the best friend of {x}?",
        "What is the name of {x}'s best friend?",
        "Tell me who {x}'s best friend is.",
    ),
}

# Asked when {x} was the subject already.
FOLLOW_UPS: dict[Attribute, tuple[str, ...]] = {
    "town": ("Where does {x.he} live?", "And which town is {x.he} from?"),
    "job": ("What is {x.his} job?", "And what does {x.he} do?"),
    "kind": ("What pet does {x.he} have?", "And what animal does {x.he} keep?"),
    "pet": ("What is {x.his} pet called?", "And the name of {x.his} pet?"),
    "colour": ("What is {x.his} favourite colour?", "And which colour does {x.he} like?"),
    "food": ("What is {x.his} favourite food?", "And what does {x.he} like to eat?"),
    "friend": ("Who is {x.his} best friend?", "And {x.his} best friend?"),
}

ANSWERS: dict[Attribute, str] = {
    "town": "{x} lives in {x.town}.",
    "job": "{x} is a(n) {x.job}.",
    "kind": "{x} has a(n) {x.kind}.",
    "pet": "{x}'s pet is called {x.pet}.",
    "colour": "{x}'s favourite colour is {x.colour}.",
    "food": "{x}'s favourite food is {x.food}.",
    "friend": "{x}'s best friend is {x.friend}.",
}

# From the fact to the one person whom it fits.
WHO_QUESTIONS: dict[Attribute, tuple[str, ...]] = {
    "job": ("Who is the {x.job}?", "Who works as a(n) {x.job}?", "I need a(n) {x.job}. Whom shall I ask?"),
    "pet": ("Whose pet is {x.pet}?", "Who has a pet called {x.pet}?", "Who owns {x.pet}?"),
}
WHO_ANSWERS: dict[Attribute, str] = {"job": "{x} is the {x.job}.", "pet": "{x.pet} belongs to {x}."}


def held_out(person: Person, attribute: Attribute) -> bool:
    """Whether chats keep silent about this. Friends share their friendship, so they are held out in pairs."""
    if attribute == "friend":
        person = min(person, PERSON[person.friend], key=PEOPLE.index)
        pairs = [one for one in PEOPLE if PEOPLE.index(one) < PEOPLE.index(PERSON[one.friend])]
        return pairs.index(person) % 6 == 0
    return (PEOPLE.index(person) + ATTRIBUTES.index(attribute)) % 6 == 0


HELD_OUT = frozenset((p.name, attribute) for p in PEOPLE for attribute in ATTRIBUTES if held_out(p, attribute))


@dataclass(frozen=True)
class FactQuestion:
    """A question whose answer is right if it contains the word or words `answer`."""

    person: str
    attribute: Attribute
    question: str
    answer: str
    held_out: bool


def fact_questions() -> Iterator[FactQuestion]:
    """Each person's seven facts, asked in the first phrasing of each: 252 questions, 42 of them held out."""
    for person in PEOPLE:
        for attribute in ATTRIBUTES:
            question = QUESTIONS[attribute][0].replace("{x}", person.name)
            value = person_fields(person)[attribute]
            yield FactQuestion(person.name, attribute, question, value, (person.name, attribute) in HELD_OUT)
