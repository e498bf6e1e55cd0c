"""Chats about TinyWorld: facts asked in many ways, sums worked out with the calculator, stories, and small talk.

`conversation(index, seed)` is a pure function like `story`. The assistant answers in one short sentence.
"""

from collections.abc import Callable

from vnc.conversation import Conversation, Message, Segment
from vnc.tinyworld import people_stories
from vnc.tinyworld.draw import Draw
from vnc.tinyworld.questions import ANSWERS, FOLLOW_UPS, HELD_OUT, QUESTIONS, WHO_ANSWERS, WHO_QUESTIONS
from vnc.tinyworld.teller import Teller, finish
from vnc.tinyworld.world import (
    ATTRIBUTES,
    DAYS,
    NUMBERS,
    OPPOSITE,
    PEOPLE,
    SPELLING_WORDS,
    TOWNS,
    day_after,
    day_before,
    spell,
)

Exchange = list[Message]
STRANGERS = ("Aldo", "Berta", "Carlo", "Elsa", "Frida", "Gerd", "Hanna", "Igor", "Jana", "Karl", "Lena", "Nora")


def say(question: str, *answer: Segment | str) -> Exchange:
    """A question, and an answer of text or of text with tool calls."""
    segments = tuple(Segment("text", finish(part)) if isinstance(part, str) else part for part in answer)
    return [Message("user", (Segment("text", finish(question)),)), Message("assistant", segments)]


def facts(t: Teller) -> Exchange:
    """One to four questions about one person, the later ones with "he" or "she"."""
    person = t.draw.pick(PEOPLE)
    t.let("x", person.name)
    allowed = [attribute for attribute in ATTRIBUTES if (person.name, attribute) not in HELD_OUT]
    exchange: Exchange = []
    for attribute in t.draw.arrangement(allowed, t.draw.weighted((1, 2, 3, 4), (4, 2, 1, 1))):
        forms = QUESTIONS[attribute] if not exchange or t.draw.chance(0.3) else FOLLOW_UPS[attribute]
        exchange += say(t.one_of(forms), t.tell(ANSWERS[attribute]))
    return exchange


def who(t: Teller) -> Exchange:
    """From a job or a pet to its person."""
    attribute = t.draw.pick(tuple(WHO_QUESTIONS))
    t.let("x", t.draw.pick([p.name for p in PEOPLE if (p.name, attribute) not in HELD_OUT]))
    return say(t.one_of(WHO_QUESTIONS[attribute]), t.tell(WHO_ANSWERS[attribute]))


def about(t: Teller) -> Exchange:
    """Three facts at once."""
    person = t.draw.pick(PEOPLE)
    t.let("x", person.name)
    allowed = [attribute for attribute in ATTRIBUTES if (person.name, attribute) not in HELD_OUT]
    answer = " ".join(t.tell(ANSWERS[attribute]) for attribute in t.draw.subset(allowed, 3))
    return say(t.one_of(("Tell me about {x}.", "Who is {x}?", "What do you know about {x}?")), answer)


def stranger(t: Teller) -> Exchange:
    """Somebody whom nobody knows."""
    t.let("x", t.draw.pick(STRANGERS))
    return say(t.one_of(QUESTIONS[t.draw.pick(ATTRIBUTES)]), "I do not know anybody of that name.")


RESIDENTS = ("Who lives in {t}?", "Which people live in {t}?", "Name the people of {t}.")
PLACE_QUESTIONS = (
    (("What are the neighbours of {t}?", "Which towns are next to {t}?"), "{t} lies between {t.before} and {t.after}."),
    (("What is {t} famous for?", "What is there to see in {t}?"), "{t} is famous for {t.landmark}."),
    (("Where is {t.landmark}?", "Which town has {t.landmark}?"), "{t.Landmark} is in {t}."),
    (("Where on the lake is {t}?", "At which hour does {t} stand?"), "{t} stands at {t.hour} o'clock on Clock Lake."),
    (("Which town lies between {t.before} and {t.after}?",), "{t} lies between {t.before} and {t.after}."),
)
OPEN_TOWNS = tuple(
    town for town in TOWNS if not any((p.name, "town") in HELD_OUT for p in PEOPLE if p.town == town.name)
)


def places(t: Teller) -> Exchange:
    """Towns: neighbours, landmarks, hours, and who lives there (where no resident's town is held out)."""
    if t.draw.chance(0.2):
        town = t.draw.pick(OPEN_TOWNS)
        a, b, c = (p.name for p in PEOPLE if p.town == town.name)
        t.let("t", town.name)
        return say(t.one_of(RESIDENTS), f"{a}, {b} and {c} live in {town.name}.")
    t.let("t", t.draw.pick(TOWNS).name)
    questions, answer = t.draw.pick(PLACE_QUESTIONS)
    return say(t.one_of(questions), t.tell(answer))


def words(t: Teller) -> Exchange:
    """Opposites, spelling, and what comes before and after."""
    kind = t.draw.weighted(("opposite", "spell", "after", "before", "next"), (3, 3, 1, 1, 1))
    if kind == "opposite":
        word = t.draw.pick(tuple(OPPOSITE))
        question = t.draw.pick((f"What is the opposite of {word}?", f"What is {word} the opposite of?"))
        return say(question, f"The opposite of {word} is {OPPOSITE[word]}.")
    if kind == "spell":
        word = t.draw.pick(SPELLING_WORDS)
        question = t.draw.pick((f"How do you spell {word}?", f"Spell {word}.", f"Please spell the word {word}."))
        return say(question, f"{spell(word)}.")
    if kind == "next":
        n = 1 + t.draw.below(15)
        question = t.draw.pick((f"What comes after {NUMBERS[n]}?", f"Which number follows {NUMBERS[n]}?"))
        return say(question, f"After {NUMBERS[n]} comes {NUMBERS[n + 1]}.")
    day = t.draw.pick(DAYS)
    if kind == "after":
        question = t.draw.pick((f"What day comes after {day}?", f"Today is {day}. What is tomorrow?"))
        return say(question, f"After {day} comes {day_after(day)}.")
    question = t.draw.pick((f"What day comes before {day}?", f"Today is {day}. What was yesterday?"))
    return say(question, f"Before {day} comes {day_before(day)}.")


def sums(t: Teller) -> Exchange:
    """The assistant writes down the sum, calls the calculator, and says what it returned."""
    top = t.draw.weighted((99, 999), (3, 1))
    a, b = 1 + t.draw.below(top), 1 + t.draw.below(top)
    sign = t.draw.pick("+-*")
    if sign == "-":
        a, b = max(a, b), min(a, b)
    if sign == "*":
        b = 2 + b % 11
    word = {"+": "plus", "-": "minus", "*": "times"}[sign]
    result = str({"+": a + b, "-": a - b, "*": a * b}[sign])
    forms = (f"What is {a} {word} {b}?", f"What is {a} {sign} {b}?", f"How much is {a} {sign} {b}?", f"{a} {sign} {b}?")
    tool, output = Segment("tool", f"{a}{sign}{b}"), Segment("output", result)
    if sign == "+" and t.draw.chance(0.3):
        t.let("x", t.draw.pick(PEOPLE).name)
        t.let("n", t.tell("{thing}s"))
        question = t.tell(f"{{x}} has {a} {{n}} and gets {b} more. How many {{n}} does {{x.he}} have?")
        return say(question, f"{a} + {b} = ", tool, output, t.tell(f"{result}. {{x}} has {result} {{n}}."))
    return say(t.draw.pick(forms), f"{a} {sign} {b} = ", tool, output, f"{result}.")


TALES = (people_stories.portrait, people_stories.meeting, people_stories.dream, people_stories.escape)


def tale(t: Teller) -> Exchange:
    """A story on request, about somebody if asked so."""
    question = t.one_of(("Tell me a story.", "Can you tell me a story?", "I would like to hear a story."))
    if t.draw.chance(0.5):
        t.let("a", t.draw.pick(PEOPLE).name)
        question = t.one_of(("Tell me a story about {a}.", "Do you know a story about {a}?"))
    return say(question, t.draw.pick(TALES)(t))


SMALL_TALK = (
    (("Hello!", "Hi!", "Good morning!", "Hello there."), "Hello! Ask me about the people of Clock Lake."),
    (("Who are you?", "What are you?", "What is your name?"), "I am a small model from Clock Lake."),
    (("What can you do?", "What do you know?"), "I answer questions, tell stories, spell words and do sums."),
    (("How are you?", "How do you do?"), "I am as merry as a lark, thank you."),
    (
        ("Where is Clock Lake?", "What is Clock Lake?"),
        "Clock Lake is round, with twelve towns like the hours of a clock.",
    ),
    (("How many towns are there?", "Name the towns."), f"There are twelve: {', '.join(t.name for t in TOWNS)}."),
    (("What are the days of the week?", "Name the days."), f"{', '.join(DAYS)}."),
)
THANKS = (
    (("Thank you!", "Thanks!", "Thank you very much."), "You are welcome."),
    (("Goodbye!", "Bye!", "See you soon."), "Goodbye! Come back soon."),
)


def small_talk(t: Teller) -> Exchange:
    """Greetings and questions about the assistant itself."""
    questions, answer = t.draw.pick(SMALL_TALK)
    return say(t.one_of(questions), answer)


TOPICS: tuple[tuple[Callable[[Teller], Exchange], int], ...] = (
    *((facts, 30), (who, 6), (about, 4), (stranger, 2), (places, 8)),
    *((words, 18), (sums, 20), (tale, 7), (small_talk, 5)),
)


def conversation(index: int, seed: int = 0) -> Conversation:
    """Chat number `index` of `seed`: one to three topics, at times with thanks at the end."""
    draw = Draw(f"chat:{seed}:{index}")
    topics, weights = zip(*TOPICS, strict=True)
    messages: Exchange = []
    for _ in range(draw.weighted((1, 2, 3), (4, 2, 1))):
        messages += draw.weighted(topics, weights)(Teller(draw))
    if draw.chance(0.1):
        questions, answer = draw.pick(THANKS)
        messages += say(draw.pick(questions), answer)
    return Conversation(tuple(messages))
