"""The facts of TinyWorld: a constant, the same for every seed.

Twelve towns stand around Clock Lake like the hours on a clock face, so each has two neighbours. Three people live in
each. Nobody shares a job or a pet's name; a colour has three admirers, a dish two, a kind of pet two owners; friendship
is mutual.
"""

from dataclasses import dataclass
from typing import Literal

LAKE = "Clock Lake"


@dataclass(frozen=True)
class Town:
    """A town on the lake; `hour` (1 to 12) is its place on the clock face."""

    name: str
    hour: int
    landmark: str

    @property
    def neighbours(self) -> tuple[str, str]:
        """The names of the towns before and after this one, clockwise."""
        return TOWNS[self.hour - 2].name, TOWNS[self.hour % 12].name


@dataclass(frozen=True)
class Person:
    """Someone who lives on the lake, and the seven facts that the stories tell about them."""

    name: str
    he: Literal["he", "she"]
    town: str
    job: str
    kind: str  # the kind of animal that `pet` is
    pet: str
    colour: str
    food: str
    friend: str


Attribute = Literal["town", "job", "kind", "pet", "colour", "food", "friend"]
ATTRIBUTES: tuple[Attribute, ...] = ("town", "job", "kind", "pet", "colour", "food", "friend")

TOWNS = (
    Town("Thornby", 1, "the crooked tower"),
    Town("Saltmere", 2, "the singing well"),
    Town("Elmwick", 3, "the glass bridge"),
    Town("Dunlow", 4, "the giant chair"),
    Town("Foxholt", 5, "the old windmill"),
    Town("Hushcombe", 6, "the sleeping stone"),
    Town("Kettleby", 7, "the copper dome"),
    Town("Mossgate", 8, "the hedge maze"),
    Town("Pebbleton", 9, "the upside-down boat"),
    Town("Quillford", 10, "the feather fountain"),
    Town("Ravenhoe", 11, "the backwards clock"),
    Town("Windle", 12, "the wishing gate"),
)

# name, he or she, town, job, kind of pet, the pet's name, favourite colour, favourite food, best friend
PEOPLE = (
    Person("Mara", "she", "Thornby", "baker", "goat", "Pepper", "orange", "nut bread", "Klara"),
    Person("Bram", "he", "Thornby", "roofer", "cat", "Pickle", "pink", "cherry tart", "Lotte"),
    Person("Ida", "she", "Thornby", "tailor", "hedgehog", "Cushion", "grey", "rice pudding", "Ned"),
    Person("Otto", "he", "Saltmere", "sailor", "parrot", "Admiral", "yellow", "seaweed soup", "Jory"),
    Person("Hattie", "she", "Saltmere", "diver", "duck", "Puddle", "blue", "porridge", "Gus"),
    Person("Felix", "he", "Saltmere", "cook", "hen", "Omelette", "purple", "apple crumble", "Rufus"),
    Person("Tilda", "she", "Elmwick", "glassblower", "mouse", "Goliath", "pink", "nut bread", "Petra"),
    Person("Gus", "he", "Elmwick", "painter", "donkey", "Mustard", "green", "mushroom pie", "Hattie"),
    Person("June", "she", "Elmwick", "teacher", "owl", "Professor", "red", "carrot cake", "Anouk"),
    Person("Ivo", "he", "Dunlow", "carpenter", "dog", "Biscuit", "white", "rice pudding", "Hugo"),
    Person("Petra", "she", "Dunlow", "potter", "snail", "Hurry", "black", "pea soup", "Tilda"),
    Person("Abel", "he", "Dunlow", "farmer", "pig", "Truffle", "yellow", "honey cake", "Sven"),
    Person("Nell", "she", "Foxholt", "miller", "rabbit", "Clover", "grey", "mushroom pie", "Wanda"),
    Person("Rufus", "he", "Foxholt", "blacksmith", "pony", "Teacup", "silver", "pumpkin stew", "Felix"),
    Person("Oona", "she", "Foxholt", "weaver", "ferret", "Noodle", "green", "potato salad", "Lars"),
    Person("Edda", "she", "Hushcombe", "librarian", "tortoise", "Comet", "grey", "potato salad", "Kit"),
    Person("Milo", "he", "Hushcombe", "shepherd", "goose", "Thunder", "orange", "pumpkin stew", "Corin"),
    Person("Cleo", "she", "Hushcombe", "nurse", "newt", "Isaac", "red", "pea soup", "Greta"),
    Person("Hugo", "he", "Kettleby", "tinker", "goat", "Duchess", "red", "cheese toast", "Ivo"),
    Person("Rosa", "she", "Kettleby", "cheesemaker", "mouse", "Pocket", "green", "cherry tart", "Tomas"),
    Person("Lars", "he", "Kettleby", "plumber", "newt", "Sprout", "white", "honey cake", "Oona"),
    Person("Fern", "she", "Mossgate", "gardener", "snail", "Lightning", "white", "apple crumble", "Emil"),
    Person("Sven", "he", "Mossgate", "beekeeper", "cat", "Velvet", "brown", "onion soup", "Abel"),
    Person("Dora", "she", "Mossgate", "mapmaker", "dog", "Zigzag", "silver", "gingerbread", "Pip"),
    Person("Ned", "he", "Pebbleton", "ferryman", "hen", "Marigold", "brown", "porridge", "Ida"),
    Person("Klara", "she", "Pebbleton", "cobbler", "pony", "Treacle", "blue", "fish stew", "Mara"),
    Person("Pip", "he", "Pebbleton", "juggler", "ferret", "Tickle", "purple", "lemon jelly", "Dora"),
    Person("Lotte", "she", "Quillford", "printer", "parrot", "Gossip", "blue", "plum pie", "Bram"),
    Person("Emil", "he", "Quillford", "bookbinder", "hedgehog", "Bristle", "pink", "fish stew", "Fern"),
    Person("Greta", "she", "Quillford", "hatter", "rabbit", "Thimble", "black", "cheese toast", "Cleo"),
    Person("Kit", "he", "Ravenhoe", "stargazer", "owl", "Midnight", "silver", "seaweed soup", "Edda"),
    Person("Wanda", "she", "Ravenhoe", "clockmaker", "tortoise", "Rocket", "orange", "lemon jelly", "Nell"),
    Person("Tomas", "he", "Ravenhoe", "judge", "goose", "Bishop", "yellow", "onion soup", "Rosa"),
    Person("Anouk", "she", "Windle", "singer", "donkey", "Tuba", "purple", "plum pie", "June"),
    Person("Jory", "he", "Windle", "toymaker", "pig", "Waffle", "brown", "carrot cake", "Otto"),
    Person("Corin", "he", "Windle", "fiddler", "duck", "Crumb", "black", "gingerbread", "Milo"),
)

TOWN = {town.name: town for town in TOWNS}
PERSON = {person.name: person for person in PEOPLE}

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

NUMBERS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)

# Each word stands in one pair only, so that every word has one opposite.
OPPOSITES = (
    *(("hot", "cold"), ("big", "small"), ("wet", "dry"), ("fast", "slow"), ("loud", "quiet"), ("open", "shut")),
    *(("up", "down"), ("full", "empty"), ("high", "low"), ("early", "late"), ("hard", "soft"), ("long", "short")),
    *(("near", "far"), ("thick", "thin"), ("rich", "poor"), ("brave", "timid"), ("true", "false"), ("clean", "dirty")),
    *(("sweet", "sour"), ("left", "right"), ("first", "last"), ("always", "never"), ("asleep", "awake")),
    *(("happy", "sad"), ("day", "night"), ("heavy", "light")),
)
OPPOSITE = {word: other for pair in OPPOSITES for word, other in (pair, pair[::-1])}

# Words that people on the lake like to spell aloud.
SPELLING_WORDS = (
    *("acorn", "apron", "basket", "bell", "boat", "bread", "broom", "button", "candle", "clock", "cloud", "coin"),
    *(
        "comb",
        "drum",
        "fork",
        "garden",
        "ghost",
        "hammer",
        "kite",
        "ladder",
        "lamp",
        "lemon",
        "lock",
        "map",
        "moon",
        "nail",
    ),
    *("oven", "paper", "pillow", "pond", "queen", "ribbon", "shell", "spoon", "stamp", "tower", "violin", "wheel"),
)


def day_after(day: str) -> str:
    """The next day of the week."""
    return DAYS[(DAYS.index(day) + 1) % 7]


def day_before(day: str) -> str:
    """The day of the week before `day`."""
    return DAYS[DAYS.index(day) - 1]


def distance(start: str, end: str) -> int:
    """Steps from town to town along the shore, the shorter way round: 0 to 6."""
    apart = abs(TOWN[start].hour - TOWN[end].hour)
    return min(apart, 12 - apart)


def spell(word: str) -> str:
    """The word letter by letter: "kite" -> "K-I-T-E"."""
    return "-".join(word.upper())


def plural(noun: str) -> str:
    """Of an animal or a thing in the tables: "goose" -> "geese", "pony" -> "ponies"."""
    odd = {"goose": "geese", "mouse": "mice", "pony": "ponies"}
    return odd.get(noun, noun + "s")
