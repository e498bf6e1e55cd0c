"""How the tasks ask. Everyday words of TinyWorld, in sentences that no story and no chat contains (a test sees to it).

{x} is the person or town, {day}, {word}, {p} and {q} what the task is about. The answer follows at the end.
"""

HOME_TOWN = (
    "The letter for {x} should go to the town of",
    "When {x} walked home at night, the road ended in",
    "Far from home, {x} thought of all the people in",
)
JOB = (
    "Nobody can do without {x}, the best",
    "The people of the lake are glad that {x} is a good",
)
PET = (
    "The door opened, and in came {x} with a",
    "If you visit {x}, bring something for the",
)
COLOUR = (
    "For {x}'s birthday, find something in",
    "If the house belonged to {x}, the door would be",
)
FOOD = (
    "{x} sat down at the table and asked for more",
    "All the way home {x} dreamed of eating",
)

PET_HOME = (
    "Everyone who looks for {pet} the {kind} should take the road to",
    "When {pet} the {kind} was lost, they looked all over the town of",
)
JOB_HOME = ("If you ever need the {job}, take the ferry to",)
NEIGHBOURS = (
    "The town that comes next on the road from {x} is",
    "People from {x} like to walk along the lake to",
)
LANDMARKS = ("If you ever visit {x}, do not go home before you have seen",)

NEXT_DAY = (
    "If this day is {day}, then the day after is",
    "One day after {day} comes",
    "They waited all of {day}, until the next day, on",
    "The shop shut on {day} and opened again the next day, on",
)
DAY_BEFORE = (
    "If this day is {day}, then the day before was",
    "One day before {day} comes",
    "A day too early for {day}: that is",
    "The letter for {day} came a day before, on",
)
OPPOSITES = (
    "You say {word}, and I say the opposite:",
    "Nothing here is {word}. All of it is",
)
SUMS = (
    "{P} coins here and {q} coins there make",
    "If you have {p} and get {q} more, that makes",
)

DAYS_IN_ORDER = "The days of the lake go by:"
NUMBERS_IN_ORDER = "The clock in the tower counted"

# The pet's name follows, which the owner and the kind determine.
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
