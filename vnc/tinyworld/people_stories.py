"""Stories about people: meetings, portraits, riddles, birthdays, swaps, dreams, and pets on the loose."""

from itertools import pairwise

from vnc.tinyworld.teller import Teller

TALK = (
    '"What is in your bag?" asked {b}. "Only {lots}," {said} {a}.',
    '"You look {mood}," {said} {b}. "I {did} {a_thing}," {said} {a}.',
    '"I will give you {a_thing} for {a_thing}," {said} {a}. "Make it {some_things}," {said} {b}.',
    '"Have you seen {a_thing}?" asked {a}. "No, but I {did} {a_thing}," {said} {b}.',
    '"Today I feel {as}," {said} {b}. "And I feel {as}," {said} {a}.',
    '"Listen!" {said} {a}. They heard {sound} {where}.',
    '"Every {thing} is {as}," {said} {a}, and {b} {act} {manner}.',
    '"I dreamed of {lots}," {said} {b}. {a} {act} {manner}.',
    '"Can you lend me {a_thing}?" asked {a}. "Come back on {day}," {said} {b}.',
)
ENDS = (
    "So ended a(n) {weather} {day}.",
    "Then everyone went home, {as}.",
    "Nobody ever found {the_thing}, {the_thing} or {the_thing}.",
    "They both {act} {manner} and {did} {lot}.",
    "That night {a} dreamed of {lots}.",
    "In the end {the_thing} went to {b}.",
    "{b} {act} {manner}, and {a} {act} {manner}.",
    "And that is why there is {a_thing} {where}.",
    "All {a.town} talked about {lots} until {day}.",
    "By {hour} o'clock it was {weather} again.",
    "{a} went home to {a.town} with {lot}, and {b} to {b.town} with {lot}.",
)

MEETINGS = (
    "On a(n) {weather} {day} {part}, {tag.a} met {tag.b} {where}.",
    "One {weather} {part}, {tag.a} saw {tag.b} {where}, {as}.",
    "At {hour} o'clock on {day}, {tag.a} bumped into {tag.b} {where} and dropped {lot}.",
    "It was a(n) {weather} {day} {part}, and {tag.a} was {where} with {tag.b}.",
    "{Where}, one {weather} {part}, stood {tag.a} with {a_thing}. Along came {tag.b}.",
    "Last {day} {tag.a} found {tag.b} {where}, {as}.",
    "{Tag.a} was looking for {a_thing} {where} and found {tag.b}.",
)
MEETING_SHAPES = (
    "{fact.a} {lore.a} {fact.b} {beat.b}",
    "{beat.a} {lore.b} {fact.b} {fact.a} {fact.b}",
    "{fact.b} {fact.b} {beat.b} {fact.a} {lore.a}",
    "{lore.b} {fact.a} {fact.a} {beat.a} {fact.b}",
)


def meeting(t: Teller) -> str:
    """Two people meet, talk, and do odd things."""
    parts = [t.one_of(MEETINGS), t.one_of(TALK), t.one_of(MEETING_SHAPES), t.one_of(TALK), t.one_of(ENDS)]
    return " ".join(parts)


PORTRAITS = (
    "Let me tell you about {tag.a}.",
    "This is {tag.a}, who is {as}.",
    "Nobody by the lake is {as}, except {tag.a}.",
    "{Tag.a} has {lots} and is {mood}.",
    "Who {did} {a_thing} on {day}? It was {tag.a}.",
    "Here comes {tag.a} with {lots}.",
    "{A_thing}, {a_thing} and {a_thing}: all this belongs to {tag.a}.",
)
PORTRAIT_ENDS = (
    "If you meet {a}, bring {lots}.",
    "That is {a}, {as}.",
    "Everyone should know someone like {a}.",
    "Ask {a} about {the_thing}, but not on a(n) {weather} {day}.",
    "And {a.pet} the {a.kind} is {as}.",
    "Tomorrow {a} will need {lot}.",
)


def portrait(t: Teller) -> str:
    """One person, nearly all of their facts."""
    lines = [t.one_of(PORTRAITS)]
    lines += [t.tell("{fact.a}") for _ in range(1 + t.draw.below(3))]
    lines += [t.tell("{lore.a}")]
    lines += [t.tell("{fact.a}") for _ in range(3 + t.draw.below(2))]
    return " ".join([*lines, t.tell("{beat.a}"), t.one_of(PORTRAIT_ENDS)])


CLUES = (
    ("I live in {a.town}.", "My house is in {a.town}, {by} {a.landmark}.", "In {a.town} they call me {mood}."),
    ("I am a(n) {a.job}.", "I work as a(n) {a.job}, and I need {some_things}.", "They call me the {mood} {a.job}."),
    ("I have a(n) {a.kind}.", "My pet is a(n) {adj} {a.kind}.", "My {a.kind} ate {a_thing}."),
    ("My pet is called {a.pet}.", "{a.pet} sleeps in my {garment}.", "When I call {a.pet}, I hear {sound}."),
    ("I like {a.colour} best.", "My {garment} is {a.colour}.", "My door is {a.colour}, and so is my {thing}."),
    ("I like to eat {a.food}.", "I would give {a_thing} for some {a.food}.", "On {day}s I eat {a.food}."),
    ("My best friend is {a.friend}.", "I gave {a.friend}, my best friend, {a_thing}.", "{a.friend} is my best friend."),
)
RIDDLES = (
    "{Tag.b} asked a riddle {where}.",
    "Here is the riddle that {tag.b} told one {weather} {part}.",
    '"Guess who I am," said somebody {mood} to {tag.b}, and {act} {manner}.',
    "On {day} {tag.b} told this riddle and {act} {manner}.",
    "One {weather} {part} {b} found a riddle under {a_thing}.",
)
ANSWERS = (
    "Who am I? I am {a}!",
    "Who is it? It is {a}, of course, {as}.",
    "Do you know me? I am {a}, and I have {lot}.",
    "The answer is {a}, {as}.",
    "{b} guessed it on {day}: it is {a}. The prize was {lot}.",
    "{b} {act} and guessed {a}, and that was right. The prize was {lots}.",
)


def riddle(t: Teller) -> str:
    """Clues first, the name last: from facts to the person."""
    lines = [t.one_of(RIDDLES)]
    lines += [t.one_of(clue) for clue in t.draw.arrangement(CLUES, 5 + t.draw.below(3))]
    lines.insert(2 + t.draw.below(3), t.tell("I {did} {lots} and {act} {manner}."))
    return " ".join([*lines, t.one_of(ANSWERS)])


BIRTHDAYS = (
    "{Tag.a} had a birthday on a(n) {weather} {day} and got {lots}.",
    "On {day} it was the birthday of {tag.a}, who felt {as}.",
    "{a}'s birthday party began at {hour} o'clock {where}, among {lots}.",
    "All of {a.town} came to the birthday of {a} the {a.job}, and {act} {manner}.",
)
GIFTS = (
    "{Tag.x} gave {a} {lots}.",
    "From {tag.x} came {lots}.",
    "{Tag.x} brought {lot}, wrapped in {a.colour} paper, because {a} likes {a.colour} best.",
    "{x}, the {x.job} of {x.town}, had made {a_thing} and {a_thing}.",
    "{x} came from {x.town} with {x.pet} the {x.kind} and {lots}.",
    "{Tag.x} could find only {a_thing}, but {x.he} {act} so {adverb} that {a} {act} too.",
)
FEASTS = (
    "They ate {a.food}, because that is what {a} likes best, with {lots} on the side.",
    "On the table stood {a.food}, {a}'s favourite food, and {lots}.",
    "{a.friend}, {a}'s best friend, had cooked {a.food} in {a_thing} and {act} {manner}.",
    "{a.pet} the {a.kind} ate {lots}, and all of the {a.food}.",
    "At {hour} o'clock came the {a.food}, and {a} {act} {manner}.",
)


def birthday(t: Teller) -> str:
    """A party: who brought what, and what they ate."""
    lines = [t.one_of(BIRTHDAYS)]
    for guest in "bcd"[: 2 + t.draw.below(2)]:
        t.let("x", t.meet(guest).name)
        lines.append(t.one_of(GIFTS))
    return " ".join([*lines, t.one_of(FEASTS), t.tell("{fact.a} {lore.b} {fact.a}"), t.one_of(ENDS)])


SWAPS = (
    "{x} swapped {lot} for {lot} with {tag.y}.",
    "{Tag.y} gave {x} {lot} for {lot}.",
    "{x} met {tag.y} {where} and traded {lot} for {lot}.",
    "For {lot} {tag.y} took {a_thing} from {x}.",
)


def swaps(t: Teller) -> str:
    """A chain of swaps from hand to hand."""
    steps = [t.tell("{Tag.a} had {a_thing} and wanted {a_thing}.")]
    chain = "abcd"[: 3 + t.draw.below(2)]
    for giver, taker in pairwise(chain):
        t.let("x", t.meet(giver).name)
        t.let("y", t.meet(taker).name)
        steps.append(t.one_of(SWAPS))
        steps.append(t.tell("{fact.y}"))
    return " ".join([*steps, t.tell("{lore.a}"), t.one_of(ENDS)])


DREAMS = (
    "One {weather} {part} {tag.a} fell asleep {where}, between {a_thing} and {a_thing}, and dreamed.",
    "Last {day} {tag.a} {did} {lots} and had a dream.",
    "{Tag.a} dreams {adverb} every {day}, and this is what {a.he} dreamed.",
)
VISIONS = (
    "{Some_things} {act} {manner}.",
    "{A_thing} {act} {manner} and turned into {a_thing}.",
    "{b} of {b.town} {act} {like} and {did} {lot}.",
    "{A_thing} fell from the sky and {act}.",
    "{b.pet} the {b.kind} was as big as {b.landmark} and {act} {manner}.",
    "The lake was full of {thing}s, and {b} the {b.job} {did} {some_things}.",
    "Everything was {a.colour}: {a_thing}, {a_thing} and {some_things}.",
    "{a.town} was made of {a.food}, {thing}s and {thing}s, and {a.landmark} {act} {manner}.",
)
WAKINGS = (
    "Then {a} woke up {by} {a.landmark} in {a.town}, {as}.",
    "Then {a.pet} the {a.kind} {act} {manner}, and {a} woke up, {mood} and {mood}.",
    "{a} woke at {hour} o'clock and told {a.his} best friend {a.friend}, who {act} {manner}.",
    "When {a} woke, there was {a_thing} in {a.his} bed, {as}.",
)


def dream(t: Teller) -> str:
    """What somebody dreamed."""
    lines = [t.one_of(DREAMS), *(t.one_of(VISIONS) for _ in range(3 + t.draw.below(3)))]
    return " ".join([*lines, t.one_of(WAKINGS), t.tell("{fact.a} {fact.b}")])


ESCAPES = (
    "{a.pet} the {a.kind} was gone, and so were {some_things} and {a_thing}.",
    "One {weather} {part} {a.pet} the {a.kind} ran away from {a.town} with {lots}.",
    "{a}'s {a.kind} {a.pet} got out through {a_thing} and {did} {a_thing}.",
    "{a.pet}, the {a.kind} of {a} the {a.job}, was {as}.",
)
PRANKS = (
    "{By} {b.landmark} {a.pet} {did} {lot} and {act} {manner}.",
    "In {b.town} {a.pet} {did} {lots}, which belonged to {b} the {b.job}.",
    "{a.pet} {act} {manner} {where}.",
    "{b.pet} the {b.kind} {act}, and {a.pet} {act} {manner}.",
    "{a.pet} ate {a_thing}, {a_thing} and some {b.food}, which belonged to {b}.",
    "Then {a.pet} hid {by} the {spot} with {lot}.",
    "{Tag.b} saw {a.pet} {where} and {act} {manner}.",
)
RETURNS = (
    "{b} brought the {a.kind} back to {a} in {a.town}, and got {lots}.",
    "{a} found {a.pet} {where}, {as}, and {act} {manner}.",
    "At {hour} o'clock {a.pet} was back in {a.town}, {as}, and {a} gave {b} some {a.food}.",
    "{a} followed the trail of {thing}s and took {a.pet} home to {a.town}.",
)


def escape(t: Teller) -> str:
    """A pet on the loose."""
    lines = [t.one_of(ESCAPES), t.tell("{fact.a}")]
    lines += [t.one_of(PRANKS) for _ in range(3 + t.draw.below(2))]
    return " ".join([*lines, t.one_of(RETURNS), t.tell("{fact.a} {fact.b}")])
