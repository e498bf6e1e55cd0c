"""Stories about places: guides to the towns, journeys round the lake, the ferry, the weather and the market."""

from vnc.tinyworld.teller import Teller
from vnc.tinyworld.world import LAKE, PEOPLE, TOWN, TOWNS, distance

RESIDENTS = (
    "{a}, {b} and {c} live in {t}, all three of them {as}.",
    "In {t} live {a}, who is {mood}, {b}, who is {mood}, and {c}, who is {mood}.",
    "{t} is the home of {a} the {a.job}, {b} the {b.job}, {c} the {c.job} and {a_thing}.",
    "Ask in {t} for the {a.job}, the {b.job} or the {c.job}: they are {a}, {b} and {c}.",
    "The pets of {t} are {a.pet} the {a.kind}, {b.pet} the {b.kind} and {c.pet} the {c.kind}.",
    "{a} of {t} keeps a(n) {adj} {a.kind}, {b} a(n) {adj} {b.kind} and {c} a(n) {adj} {c.kind}.",
)
VISITORS = (
    "On {day}s the whole town is {mood}, on {day}s {mood}.",
    "In the {part} people sit {by} the {spot} and talk about {thing}s.",
    "Visitors bring {lots} and go home {as}.",
    "On a(n) {weather} day you can hear {sound} {by} the {spot}.",
    "The shop sells {lots}, and also {lots}.",
    "Somebody {did} {a_thing} here on a(n) {weather} {day}, and everyone {act} {manner}.",
    "Children say that {a_thing} lies below {t.landmark}.",
)


def town_guide(t: Teller) -> str:
    """A page from a guide book."""
    town = t.draw.pick(TOWNS)
    t.let("t", town.name)
    for role, person in zip("abc", t.draw.arrangement([p for p in PEOPLE if p.town == town.name], 3), strict=True):
        t.let(role, person.name)
    lines = [t.tell("{place.t} {place.t}"), t.one_of(VISITORS), t.one_of(RESIDENTS)]
    return " ".join([*lines, t.tell("{fact.a} {fact.b} {beat.c} {place.t}"), t.one_of(VISITORS)])


SETTING_OUT = (
    "On {day} {part} {a} the {a.job} left {a.town} with {lots}.",
    "{Tag.a} wanted to visit {b} and packed {lots}, {as}.",
    "One {weather} {part} {a} of {a.town} locked the door, {did} {a_thing} and set out.",
    "With {a_thing} under one arm, {tag.a} set out to see {b}.",
    "{Tag.a} had a letter for {b} and left {a.landmark} at {hour} o'clock with {lots}.",
)
NEXT_TOWN = (
    "From {s} it was a short walk to {t}, where {a} {did} {lot} {where}.",
    "After {s} came {t}, where {a} {did} {a_thing} and {act} {manner} {by} {t.landmark}.",
    "Between {s} and {t} it was {weather}, and {a} {did} {lot}.",
    "Next to {s} lies {t}. There {a} saw {t.landmark} and {lots}, and {act} {manner}.",
    "{a} walked from {s} to {t} with {lot}.",
)
CROSSING = (
    "From {s} the ferry took {a} across the lake to {t}, past {a_thing} and {some_things}.",
    "{a} took the ferry from {s} to {t} and {act} {manner} all the way, among {lots}.",
    "It is far from {s} to {t}, so {a} crossed the lake in a boat with {lots}.",
)
ARRIVALS = (
    "{b} the {b.job} stood {by} {b.landmark} and {act} {manner}.",
    "There was {b}, {as}, with {b.pet} the {b.kind}.",
    "In {b.town} everyone knew where {b} the {b.job} was: {where}, with {lots}.",
    "{b} opened the door, {act} {manner}, and gave {a} {lot} and some {b.food}.",
    "{b}'s {b.colour} door was open, and {a} {act} {manner}.",
)


def journey(t: Teller) -> str:
    """From one person's town to another's: on foot where it is near, by ferry where it is far."""
    a, b = t.meet("a"), t.meet("b")
    steps = [t.one_of(SETTING_OUT), t.tell("{fact.a}")]
    far = distance(a.town, b.town)
    if far > 2:
        steps.append(_step(t, CROSSING, a.town, b.town))
    elif far > 0:
        clockwise = (TOWN[b.town].hour - TOWN[a.town].hour) % 12 == far
        stop = a.town
        for _ in range(far):
            start, stop = stop, TOWN[stop].neighbours[clockwise]
            steps.append(_step(t, NEXT_TOWN, start, stop))
    else:
        steps.append(t.tell("It was not far, for {b} lives in {b.town} too."))
    return " ".join([*steps, t.one_of(ARRIVALS), t.tell("{fact.b} {lore.b} {fact.b}")])


def _step(t: Teller, ways: tuple[str, ...], start: str, stop: str) -> str:
    t.let("s", start)
    t.let("t", stop)
    return t.one_of(ways)


PASSENGERS = (
    "{Tag.x} had {lots}.",
    "{Tag.x} came on board with {lot} and {act} {manner}.",
    "{x} sat between {a_thing} and {a_thing}, going home to {x.town}.",
    "{x} held {x.pet} the {x.kind}, who {act} {manner}.",
    "{x} the {x.job} sold {some_things} to everyone on board.",
    "{x} ate {x.food}, felt {mood} and looked out for {x.landmark} of {x.town}.",
    "{x} wore a(n) {x.colour} {garment} and {act} {manner}.",
)
FERRIES = (
    f"The {{hour}} o'clock ferry across {LAKE} was full on {{day}}: people, {{thing}}s, {{thing}}s and {{thing}}s.",
    "On a(n) {weather} {part} the ferry left {town} at {hour} o'clock.",
    "It was {weather} on the lake, and the ferry went {adverb}, {like}.",
    "On {day} the ferry was full of {adj}, {adj} people.",
)
LANDINGS = (
    "Ned the ferryman {did} {a_thing} and {act} {manner}.",
    "Ned the ferryman would not take {lots} on board.",
    "Halfway across they heard {sound}, and {a} {did} {a_thing}.",
    "Then {the_thing} fell into the water, and {b} {act} {manner}.",
    "They came to {town} at {hour} o'clock, all {mood}.",
)


def ferry(t: Teller) -> str:
    """Who sat on the ferry, and with what."""
    lines = [t.one_of(FERRIES)]
    for role in "abcd"[: 3 + t.draw.below(2)]:
        t.let("x", t.meet(role).name)
        lines.append(t.one_of(PASSENGERS))
    return " ".join([*lines, t.one_of(LANDINGS), t.tell("{fact.a} {fact.b} {lore.c}"), t.one_of(LANDINGS)])


FORECASTS = (
    "In {t} it will be {weather}, {weather} and {weather}, {like}.",
    "{t}: {weather}, then {weather}, then {weather}, and {as} by {hour} o'clock.",
    "{t} will have a(n) {weather} {part} and a(n) {weather} {part}.",
    "At {t.landmark} in {t} it will be {weather} until {hour} o'clock, then {adj} and {adj}.",
    "Between {t.before} and {t} expect {a_thing} on the road, and {lots}.",
)
WARNINGS = (
    "{x} the {x.job} should take {lots}.",
    "{x} of {t} should stay at home with {x.pet} the {x.kind} and {lots}.",
    "Good news for {x}, who lives there and {did} {some_things}.",
    "{x} {did} {lots} in time and feels {as}.",
    "{x} of {t} says that {x.his} {x.kind} {x.pet} felt it coming, {did} {a_thing} and {act}.",
    "It may smell of {x.food} and {thing}s, for {x} lives there.",
)


def forecast(t: Teller) -> str:
    """The weather, town by town, and whom it will bother."""
    head, lines = t.tell("The weather on {day}, by Kit the stargazer of Ravenhoe."), []
    for town in t.draw.arrangement(TOWNS, 3 + t.draw.below(2)):
        t.let("t", town.name)
        t.let("x", t.draw.pick([p.name for p in PEOPLE if p.town == town.name]))
        lines += [t.one_of(FORECASTS), t.one_of(WARNINGS)]
    return f"{head}\n{' '.join(lines)}"


MARKETS = (
    "On market day in {a.town} {tag.a} had a stall with {lots} {by} {a.landmark}.",
    "Every {day} {tag.a} has a stall for {thing}s and {thing}s {where}.",
    '"Come and buy!" {said} {tag.a} at a stall {where}, on a(n) {weather} {day}.',
)
SALES = (
    "{Tag.x} bought {lots}.",
    "{Tag.x} wanted {a_thing} but took {lot}, {as}.",
    "{x} the {x.job} paid {few} coins for {lot}.",
    "{x} looked for something {x.colour} and found {lots}.",
    "{x.pet} the {x.kind} knocked over {some_things}, and {x} {act} {manner}.",
    "{x} gave {a} some {x.food} for {lot}.",
)


def market(t: Teller) -> str:
    """A stall and its customers."""
    lines = [t.one_of(MARKETS), t.tell("It held {lot}, {lot} and {lot}.")]
    for role in "bcd"[: 2 + t.draw.below(2)]:
        t.let("x", t.meet(role).name)
        lines.append(t.one_of(SALES))
    return " ".join([*lines, t.tell("{fact.a} {fact.b} {lore.a}")])
