"""Stories on paper: notices, letters, diaries, bills and the news."""

from vnc.tinyworld.teller import Teller
from vnc.tinyworld.world import DAYS

LOST = (
    "Lost {where}: {a.pet}, a(n) {adj}, {adj} {a.kind}.",
    "Have you seen {a.pet}, {a}'s {a.kind}, with {a_thing} or {a_thing}?",
    "Missing since {day}: the {a.kind} {a.pet} of {a.town}, {as}.",
    "On {day} {part} {a.pet} the {a.kind} went out for {lots}, and never came back.",
)
LOST_DETAILS = (
    "{a.pet} was last seen {where} with {a_thing}.",
    "{a.pet} wears a(n) {a.colour} {garment}, because {a} likes {a.colour} best, and carries {a_thing}.",
    "When {a.pet} is {mood}, you hear {sound}.",
    "{a.pet} is {as} and likes {thing}s, {thing}s and {thing}s.",
    "Do not offer {a.pet} {a_thing} or {a_thing}.",
    "{a.friend}, {a}'s best friend, looked {where} and found only {lot}.",
    "{a.pet} may be hiding in {a_thing} or {by} the {spot}.",
)
REWARDS = (
    "Please bring {a.pet} to {a} the {a.job} in {a.town}. The reward is {lots}.",
    "The reward is {lot} and some {a.food}. {a}, {a.town}, {by} {a.landmark}.",
    "Whoever finds {a.pet} gets {lots}. Ask for {a} in {a.town}.",
    "{a} the {a.job} is {mood} and offers {lots}. The address is {a.town}, {by} {a.landmark}.",
)


def lost_pet(t: Teller) -> str:
    """A notice about a pet that went for a walk."""
    lines = [t.one_of(LOST), *(t.one_of(LOST_DETAILS) for _ in range(2 + t.draw.below(3)))]
    return " ".join([*lines, t.one_of(REWARDS), t.tell("{beat.a} {fact.a}")])


NEWS = (
    "On {day} I {did} {a_thing} and {act} {manner}.",
    "It is {weather} here in {a.town}, and I am {mood} and {mood}.",
    "My {a.kind} {a.pet} {did} {a_thing} and {act} {manner}.",
    "I saw {b} the {b.job} from {b.town}, who {act} {manner}.",
    "I still work as a(n) {a.job} and need {lots}.",
    "Yesterday I ate {a.food}, my favourite food, and felt {as}.",
    "I have painted {a_thing} {a.colour}, my favourite colour.",
    "{A_thing} stands {by} {a.landmark} now, and everyone is {mood}.",
    "Please bring {lots} when you come on {day}.",
    "{b} has lost {b.pet} the {b.kind} again, and looks {mood}.",
    "Do you remember {the_thing} {where}?",
    "I send you {lots}.",
)
CLOSINGS = ("Your best friend,", "With love, your best friend", "Yours, {as},", "Come soon! Your friend", "Goodbye,")
DIARIES = ("The diary of {tag.a}.", "{a}'s diary, {a.town}.", "From the diary of {a} the {a.job}.")


def letter(t: Teller) -> str:
    """A letter to a best friend, about somebody else."""
    t.let("f", t.meet("a").friend)
    start, body = t.tell("Dear {f},"), [t.one_of(NEWS) for _ in range(5 + t.draw.below(3))]
    return "\n".join([start, " ".join(body), t.one_of(CLOSINGS), t.tell("{a}, {a.town}")])


ENTRIES = (
    "I {did} {lot} and {act}.",
    "I met {b} the {b.job} {where}.",
    "{Weather} and {weather}. I {act} {manner} and {did} {lot}.",
    "{a.pet} the {a.kind} {did} {a_thing}.",
    "Ate {a.food} and felt {as}.",
    "Went to {b.town} to see {b}, who {act} {manner}.",
    "Bought {lots}.",
    "My friend {a.friend} came with {lot}.",
    "Too {mood} to work as a(n) {a.job}. I {did} {lot}.",
    "Stayed in {a.town}, looked at {a.landmark} and {did} {lot}.",
    "Painted {lots} {a.colour}.",
    "Heard {sound} {where} and {did} {a_thing}.",
)


def diary(t: Teller) -> str:
    """A few days, one after the other."""
    first = t.draw.below(7)
    lines = [t.one_of(DIARIES)]
    for day in range(first, first + 5 + t.draw.below(3)):
        lines.append(f"{DAYS[day % 7]}: {t.one_of(ENTRIES)}")
    return "\n".join(lines)


BILL_HEADS = (
    "Bill from {a} the {a.job}, {a.town}.",
    "{a}'s shop in {a.town}, {by} {a.landmark}.",
    "List of {tag.a} for {day}.",
    "What {tag.a} needs by {day}.",
)
BILL_NOTES = (
    "For {b} in {b.town}, to be paid on {day} in {thing}s.",
    "To be fetched by {b} the {b.job} and {b.pet} the {b.kind}.",
    "Paid with some {b.food} by {b} of {b.town}.",
    "All of it to be painted {a.colour}, as {a} likes it, and {did} {adverb}.",
    "Signed on a(n) {weather} {day}: {a}.",
)


def bill(t: Teller) -> str:
    """A list of goods in figures."""
    lines = [t.one_of(BILL_HEADS)]
    lines += [t.tell(f"{2 + t.draw.below(58)} {{adj}} {{thing}}s") for _ in range(5 + t.draw.below(4))]
    return "\n".join([*lines, t.one_of(BILL_NOTES), t.one_of(BILL_NOTES), t.tell("{fact.a} {lore.b}")])


HEADLINES = (
    "{a} of {a.town} {did} {lots}.",
    "{a} the {a.job} found {lots} {where}.",
    "{a.pet}, the {a.kind} of {a} in {a.town}, {act} {manner} for {few} days.",
    "{a} the {a.job} and {b} the {b.job} {act} {manner} {by} the {spot}.",
    "{b} was seen with {lots}.",
    "For sale: {lots}. Ask {a} in {a.town}.",
    "Wanted: {lots}. Write to {b}, {b.town}.",
    "{b} bet {some_things} that {b.pet} the {b.kind} is {as}.",
    "At {hour} o'clock there was {sound} {by} {b.landmark}, and {b} of {b.town} {act}.",
    "{a} and {a.friend} have been best friends for {few} years and got {a_thing}.",
    "{b} invites all who like {b.food} and {thing}s to {b.town} on {day}.",
    "The {b.colour} {garment} that was lost {where} belongs to {b}, who likes {b.colour} best.",
)


def news(t: Teller) -> str:
    """The newspaper of the lake."""
    lines = [t.tell("News of {day}, a(n) {weather} {part}.")]
    lines += [t.one_of(HEADLINES) for _ in range(4 + t.draw.below(3))]
    return "\n".join([*lines, t.tell("{lore.a} {fact.b}")])
