"""How the tasks ask. Everyday words of TinyWorld, in sentences that no story and no chat contains (a test sees to it).

{x} is the person or town, {day}, {word}, {p} and {q} what the task is about. The answer follows at the end.
"""

HOME_TOWN = (
    "It is late, and {x} has gone home to",
    "{x} felt tired and went to bed early, at home in",
    "For years {x} has had a small house in",
)
JOB = (
    "Nobody in town is like {x} the",
    "{x} was late again for work as a",
)
PET = (
    "Nobody is afraid of {x} or of {x}'s",
    "Somebody came to the door to look at {x}'s",
)
COLOUR = (
    "{x} looked at all the lamps, but the best one had to be",
    "{x} asked for paper, and it had to be",
)
FOOD = (
    "Late at night {x} went out to find some",
    "What {x} would like now is some",
)

PET_HOME = (
    "The house of {pet} the {kind} is in",
    "All day {pet} the {kind} likes to stay at home in",
)
JOB_HOME = ("You may find the {job} at home in",)
NEIGHBOURS = (
    "Everyone in {x} knows the way to",
    "The lake road goes from {x} to",
)
LANDMARKS = ("You know that you are in {x} when you see",)

NEXT_DAY = (
    "They sang all {day} and again the next day, on",
    "If {day} is too early, come the day after, on",
    "When {day} is over, then it is time for the day after, on",
    "The letter should come on {day} or the day after, on",
)
DAY_BEFORE = (
    "The shop was open on {day}, but not the day before, on",
    "If you come on {day}, somebody comes the day before, on",
    "The boat came on {day}, or was it the day before, on",
    "It was too late on {day}, for they met the day before, on",
)
OPPOSITES = (
    "They wanted something that was not {word} but",
    "At school they learn that {word} is the opposite of",
)
SUMS = (
    "Everyone at school knows that {p} and {q} make",
    "{P} coins here and {q} coins there make",
)

DAYS_IN_ORDER = (
    "All day long they said the days, {run},",
    "Children called out the days: {run},",
)
NUMBERS_IN_ORDER = (
    "The clock in the tower counted: {run},",
    "Children by the lake counted {run},",
)

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
    ("{x} stood at the door and called", "{pet}"),
    ("{x} was so sad without", "{pet}"),
)
