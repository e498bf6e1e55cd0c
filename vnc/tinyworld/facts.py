"""How the stories state facts about people and towns: many ways for each, from person to fact and from fact to person.

{x} is the person (or the town) that the sentence is about. {x.who} is the name, "the baker", or "he" or "she" where that
is clear; {x.whose} likewise; {x.self} is never "the baker". The other slots are odds and ends from `words`, which are
true of nobody in particular.
"""

FACT_SENTENCES = {
    "town": (
        "{x.Whose} home is in {x.town}.",
        "{x.Who} has a house in {x.town}, full of {thing}s.",
        "{x.town} is the home of {x}, {a_thing} and {some_things}.",
        "In {x.town} everyone knows {x}, who is {as}.",
        "In {x.town}, {by} {x.landmark}, lives {x}.",
        "You will find {x} in {x.town}, {by} {x.landmark}, {as}.",
        "From {x.whose} window you can see {x.landmark} of {x.town}, and {lot}.",
        "{x.town} would be a(n) {adj}, {adj} place without {x}.",
        "The people of {x.town} gave {x} {lots}.",
        "{x.Who} never leaves {x.town} without {a_thing}.",
    ),
    "job": (
        "{x.Self} is the {x.job} of {x.town}.",
        "The {x.job} is called {x}.",
        "{x.town} has a(n) {mood} {x.job}, and that is {x}.",
        "Anyone who needs a(n) {x.job} sends for {x}.",
        "No {x.job} is as {mood} and {mood} as {x}.",
        "{x.Self} became a(n) {x.job} because of {a_thing}.",
        "A(n) {x.job} like {x} needs {lots}.",
        "The {x.job} of {x.town} keeps {a_thing} for luck, and {x.his} name is {x}.",
        "Every {x.job} has {a_thing}, but {x} has {some_things}.",
    ),
    "kind": (
        "{x.Whose} pet is a(n) {adj} {x.kind}.",
        "{x.Whose} {x.kind} sleeps in {a_thing} and snores {manner}.",
        "A(n) {adj} {x.kind} follows {x} everywhere.",
        "{x.Who} would not trade {x.his} {x.kind} for {lots}.",
        "{x.Whose} {x.kind} is {mood} on {day}s and {mood} on {day}s.",
        "{x.Whose} {x.kind} once ate {lots}.",
        "Of all pets {x} likes {x.kinds} best, and {x.his} own is {as}.",
    ),
    "pet": (
        "{x.Whose} {x.kind} is called {x.pet}.",
        "{x.pet} the {x.kind} belongs to {x}.",
        "{x.pet} is {x.whose} {x.kind}, {mood} and {mood}.",
        "The name of {x.whose} {x.kind} is {x.pet}.",
        "{x.pet} the {x.kind} lives in {x.town} with {x} and {lot}.",
        "Every {part} {x} takes {x.pet} for a walk.",
        "{x.Whose} {x.kind} {x.pet} is afraid of {thing}s and {thing}s.",
        "{x.pet} once {did} {lots}, and {x} {act} {manner}.",
        "All {x.town} knows {x.pet} the {x.kind}, who is {as}.",
    ),
    "colour": (
        "{x.Whose} favourite colour is {x.colour}.",
        "{x.Colour} is {x.whose} favourite colour.",
        "{x.Who} painted {lots} {x.colour}.",
        "Give {x} {a_thing}, if it is {x.colour}, and {x.he} is {mood}.",
        "{x.Who} thinks that every {thing}, {thing} and {thing} should be {x.colour}.",
        "{x.Whose} {garment} is {x.colour}, and so is {x.his} {thing}.",
        "When {x} closes {x.his} eyes, {thing}s and {thing}s are {x.colour}.",
        "{x.Colour} {thing}s make {x} {mood}, but {x.colour} {thing}s make {x.him} {mood}.",
    ),
    "food": (
        "{x.Whose} favourite food is {x.food}.",
        "{x.Food} is {x.whose} favourite food.",
        "{x.Who} would swap {lots} for some {x.food}.",
        "Nothing makes {x} as {mood} as {x.food}.",
        "There is always {x.food} on {x.whose} table, and {a_thing}.",
        "{x.Who} once walked {few} miles for {x.food} and {lot}.",
        "The smell of {x.food} makes {x} {mood} and {mood}.",
        "{x.Who} hides {x.his} {x.food} in {a_thing}.",
    ),
    "friend": (
        "{x.Whose} best friend is {x.friend}.",
        "{x.friend} is {x.whose} best friend.",
        "{x.Who} and {x.friend} are best friends.",
        "{x.friend} gave {x.his} best friend {x} {lots}.",
        "Every {day} {x} meets {x.his} best friend {x.friend} {where}.",
        "When {x} is {mood}, {x.his} best friend {x.friend} brings {lot}.",
        "{x.Who} and {x.his} best friend {x.friend} {did} {some_things} and {act} {manner}.",
    ),
}

# Small scenes that let the fact be seen in passing.
SCENES = {
    "town": (
        "{x.Who} {did} {a_thing} in {x.town}.",
        "{x.Who} {act} {manner} and went home to {x.town}.",
        "Back in {x.town}, {x.who} {did} {lots}.",
        "{x.Who} carried {a_thing} all the way to {x.town}.",
        "All of {x.town} {act} when {x} {did} {a_thing}.",
        "{x.Who} drew a map of {x.town} on {a_thing}.",
        "{x.Who} sent {lots} home to {x.town}.",
        "Far from {x.town}, {x.who} felt {mood} and {act} {manner}.",
    ),
    "job": (
        "{x}, the {mood} {x.job}, {did} {lots}.",
        "As a good {x.job}, {x.self} {did} {a_thing} and {act}.",
        "{x.Self} {did} {a_thing} as only a(n) {x.job} can.",
        "{x.Self} put on the {garment} of a(n) {x.job} and {act} {manner}.",
        "{x.Self} felt too {mood} to work as a(n) {x.job}, and {did} {a_thing}.",
        "On {day} {x} {did} {a_thing}, like any {x.job}.",
        "Out came {x} the {x.job} with {lots}.",
    ),
    "kind": (
        "{x.Who} {did} {a_thing} with {x.his} {x.kind}.",
        "{x.Who} {act} {manner}, and the {x.kind} {act} too.",
        "Beside {x} sat a(n) {adj}, {adj} {x.kind}.",
        "{x.Who} gave {a_thing} to a(n) {adj} {x.kind}, who {act} {manner}.",
        "{x.Who} came home and found the {x.kind} in {a_thing}.",
        "{x.Who} has {lot}, {lot} and a(n) {adj} {x.kind}.",
        "In {x.whose} house there is {a_thing} for the {x.kind}.",
        "{x.Who} loves {x.his} {x.kind} more than {lots}.",
    ),
    "pet": (
        "{x.Who} {did} {a_thing} and called {x.pet}.",
        "{x} and {x.pet} {did} {a_thing} and {act} {manner}.",
        "Where {x} goes, {x.pet} goes too, {as}.",
        "{x.Who} sang {adverb} to {x.pet} the {x.kind}.",
        "{x.Who} told {x.pet} about {lots}.",
        "{x.Who} found {lots} in the bed of {x.pet} the {x.kind}.",
        "{x.Who} {act}, and a(n) {x.kind} called {x.pet} {act} {manner}.",
    ),
    "colour": (
        "{x.Who} {did} a(n) {x.colour} {thing} and {act} {manner}.",
        "{x.Who} {did} a(n) {adj}, {x.colour} {thing}.",
        "{x.Who} wrapped {lots} in {x.colour} paper.",
        "On {day} {x} wore a(n) {x.colour} {garment} and felt {mood}.",
        "{x.Who} had {lot} and a(n) {x.colour} {thing}.",
        "Of {some_things} {x} took the {x.colour} one.",
        "{x.Who} came to town all in {x.colour}, with {lots}.",
        "{x.Who} looked for {a_thing}, but it had to be {x.colour}.",
        "The colour of {x.whose} {thing} is {x.colour}, and {x.he} is {mood}.",
    ),
    "food": (
        "{x.Who} ate {x.food} and {act} {manner}.",
        "{x.Who} {did} {lot} and ate some {x.food}.",
        "{x.Who} swapped {a_thing} for {x.food} {where}.",
        "{x.Who} made {x.food} in {a_thing}.",
        "{x.Who} put {a_thing} into the {x.food} and {act}.",
        "{x.Who} felt {mood} until there was {x.food}.",
        "On {day} {x} wanted {lots}, and of course {x.food}.",
        "From {x.whose} window comes the smell of {x.food} and {thing}s.",
    ),
    "friend": (
        "{x.Who} showed {lots} to {x.friend}, {x.his} best friend.",
        "{x.Who} {act} {manner}, and so did {x.his} best friend {x.friend}.",
        "{x.Who} {did} {lots} for {x.friend}, {x.his} best friend.",
        "{x.Who} {act} when {x.his} best friend {x.friend} {did} {a_thing}.",
        "{x.Who} told {x.his} best friend {x.friend} about {lots}.",
    ),
}

# What follows a name or "who".
FACT_CLAUSES = {
    "town": ("lives in {x.town}", "comes from {x.town}", "has a house in {x.town}"),
    "job": ("is a(n) {x.job}", "works as a(n) {x.job}"),
    "kind": ("has a(n) {x.kind}", "keeps a(n) {x.kind}"),
    "pet": ("has a(n) {x.kind} called {x.pet}", "keeps a(n) {x.kind} called {x.pet}"),
    "colour": ("likes {x.colour} best", "always wears {x.colour}", "has a(n) {x.colour} door"),
    "food": ("loves {x.food}", "eats {x.food} every {day}", "likes {x.food} best"),
    "friend": ("is the best friend of {x.friend}", "writes to {x.his} best friend {x.friend} every {day}"),
}

# Sentences around any of these clauses: {clause} stands for the list that belongs to the fact.
CLAUSE_SENTENCES = (
    "{x.Who} {clause}.",
    "{x.Who} {clause} and is {as}.",
    "{x}, who {clause}, {did} {a_thing} and {act} {manner}.",
    "{x}, who {clause}, {act}, {act} and {act} {adverb}.",
    "Because {x} {clause}, {x.he} {did} {a_thing} and felt {as}.",
    "{x.Who} {clause}, but dreams of {lots}.",
    "It was {x}, who {clause}, that {did} {some_things}.",
    '"{x} {clause}," {said} somebody {mood}, and {act} {manner}.',
)

# What people do, in the past tense: nothing here is a fact about them but the pet and its name.
BEATS = (
    "{x.Who} {did} {a_thing} and {act} {manner}.",
    "{x.Who} {did} {a_thing}, {did} {a_thing} and {act}.",
    "{x.Who} felt {mood} and {act} {manner}.",
    "Then {x.who} {act}, {act}, {act} and {act} {adverb}.",
    "{x.Who} had {lot}, {lot} and {lot} in {x.his} bag.",
    "{x.Who} was {mood}, then {mood}, then {as}.",
    "{x.Who} {did} {some_things}, {did} {a_thing} and {did} {some_things}.",
    "{x.Who} looked for {a_thing} but {did} {a_thing}.",
    "First {x.who} {did} {lot}, then {x.he} {did} {lot}.",
    "{x.Who} {act} {manner} and felt {as}.",
    "Nobody saw how {x} {did} {lot} {where}.",
    "{x.Who} thought of {lots}, {act} and {act}.",
    '"I am {as}," {said} {x}, and {act} {manner}.',
    "{x.pet} the {x.kind} {act} {manner}.",
    "{x.Whose} {x.kind} {x.pet} {did} {a_thing} and {act} {manner}.",
    "{x.pet} {act} {like}, and {x} {act} too.",
)

# What everyone by the lake knows, said or done by somebody.
LORE = (
    '"{Sum}," {said} {x}, and {act} {manner}.',
    "{x.Who} {did} {a_thing} and thought that {sum}.",
    "Because {sum}, {x.who} needs {lots}.",
    "{x.Who} {more}.",
    "{x.Who} {more}, and {act} {manner}.",
    '"{Contrast}," {said} {x}, and {act} {manner}.',
    "The {adj} {thing} was {contrast}, and {x} {act}.",
    "For {x} everything is {contrast} on {day}s.",
    '"{Run}," counted {x}, and {did} {a_thing}.',
    "{x.Who} {act} and counted {thing}s: {run}.",
    '"{Day_run}," {said} {x}, and {act} {manner}.',
    "{x.Who} said the days, {day_run}, and {did} {a_thing}.",
    "{x.Who} {did} {a_thing} {two_days}.",
    "{x.Who} {act} {two_days}, {as}.",
    "{x.Who} {did} {lot} on {road}.",
    "{x.Who} {act} {manner} on {road}.",
    "{x.Who} {did} {a_thing} {by} {sight}.",
)

# How somebody comes into a story.
TAGS = ("{x}", "{x} the {x.job}", "{x} of {x.town}", "{x} from {x.town}", "{x} the {x.job} from {x.town}")

# What is true of a town.
PLACES = (
    "{x} stands at {x.hour} o'clock on Clock Lake.",
    "On the clock face of the lake, {x} is {x.hour} o'clock.",
    "{x} is famous for {x.landmark} and {lot}.",
    "{x} lies between {x.before} and {x.after}.",
    "The neighbours of {x} are {x.before} and {x.after}.",
    "{x.Landmark} stands in the middle of {x}, {as}.",
    "In {x} people meet at {x.landmark} and trade {thing}s for {thing}s.",
    "Everyone comes to {x} to see {x.landmark} and to buy {lots}.",
    "From {x} it is a short walk to {x.before} or to {x.after}, if you carry only {lot}.",
    "{x.before} and {x.after} are next to {x}.",
    "{x.Landmark} of {x} is {as}.",
    "Someone left {lots} at {x.landmark} in {x}.",
)


def sentences(fact: str) -> tuple[str, ...]:
    """All the sentences that state one kind of fact."""
    clause = f"{{{fact}_clause.x}}"
    around = tuple(sentence.replace("{clause}", clause) for sentence in CLAUSE_SENTENCES)
    if fact == "job":  # "The baker is a baker" would tell nobody anything
        around = tuple(sentence.replace("{x.Who}", "{x.Self}") for sentence in around)
    return FACT_SENTENCES[fact] + SCENES[fact] + around


FACTS: dict[str, tuple[str, ...]] = {
    "fact": tuple(f"{{{fact}_fact.x}}" for fact in FACT_SENTENCES),
    **{f"{fact}_fact": sentences(fact) for fact in FACT_SENTENCES},
    **{f"{fact}_clause": clauses for fact, clauses in FACT_CLAUSES.items()},
    "beat": BEATS,
    "lore": LORE,
    "tag": TAGS,
    "place": PLACES,
}
