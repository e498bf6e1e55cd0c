"""How the tasks ask. Everyday words of TinyWorld, in sentences that no story and no chat contains (a test sees to it).

{x} is the person or town, {day}, {word}, {p} and {q} what the task is about. The answer follows at the end.
"""

HOME_TOWN = (
    "The letter for {x} should go to the town of",
    "When {x} walked home at night, the road ended in",
    "Far from home, {x} thought of all the people in",
)
JOB = (
    "Of all the people who work by the lake, {x} is the best",
    "Ask {x} about the work and the day of a",
)
PET = (
    "At the door of {x}'s house sat a small",
    "In {x}'s garden you should look out for the",
)
COLOUR = (
    "For {x}'s birthday, find something that is",
    "{x} bought paper, and all of it was",
)
FOOD = (
    "{x} sat down at the table and asked for more",
    "From {x}'s house comes the smell of",
)
PET_HOME = (
    "Everyone who looks for {pet} the {kind} should take the road to",
    "When {pet} the {kind} was lost, they looked all over the town of",
)
JOB_HOME = ("If you ever need the {job}, take the ferry to",)
NEIGHBOURS = (
    "The next town on the road from {x} is",
    "The people of {x} like to walk over to",
)
LANDMARKS = ("If you ever visit {x}, do not go away before you have seen",)

NEXT_DAY = (
    "When {day} is over, it is time for",
    "They waited all of {day}, and then it was",
    "If this day is {day}, then the next one is",
    "The shop shut on {day} and opened again on",
)
DAY_BEFORE = (
    "If this day is {day}, then the one before was",
    "The last day before {day} was",
    "It was early on {day}, and they had talked since",
    "Before you come to {day}, there is always a",
)
OPPOSITES = (
    "It was not {word} at all, but",
    "If one of the two says {word}, the other says",
)
SUMS = ("With {p} coins and then {q} more coins, you have",)

DAYS_IN_ORDER = "The days of the lake go by:"
NUMBERS_IN_ORDER = "The clock in the tower went"

# The pet's name follows; its context is the whole of the sentence before it.
PET_NAMES = (
    "{x} sat down and talked to a {kind} called",
    "{x} opened the door for a small {kind} called",
)
# Of which of two people is the end of the sentence true?
HOMES = (
    ("Everyone who looks for {x} should go to", "{town}"),
    ("The last letter from {x} had come all the way from", "{town}"),
)
OWNERS = (
    ("{x} looked everywhere and called, but could not find", "{pet}"),
    ("At the end of the day the first prize went to {x} and", "{pet}"),
)
