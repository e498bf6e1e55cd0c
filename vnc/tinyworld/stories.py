"""TinyWorld's stories: `story(index, seed)` is a pure function, so a corpus of any length needs no files."""

from dataclasses import dataclass

from vnc.tinyworld import lesson_stories as lessons
from vnc.tinyworld import paper_stories as papers
from vnc.tinyworld import people_stories as people
from vnc.tinyworld import place_stories as places
from vnc.tinyworld.draw import Draw
from vnc.tinyworld.teller import Teller, finish

KINDS = (
    *(people.meeting, people.portrait, people.riddle, people.birthday, people.swaps, people.dream, people.escape),
    *(places.town_guide, places.journey, places.ferry, places.forecast, places.market),
    *(lessons.opposites, lessons.days, lessons.sums, lessons.counting, lessons.spelling),
    *(papers.lost_pet, papers.letter, papers.diary, papers.bill, papers.news),
)


@dataclass(frozen=True)
class Story:
    """A text of some 300 to 900 bytes, and the information in its choices: bits that no perfect model need exceed."""

    text: str
    bits: float


def story(index: int, seed: int = 0) -> Story:
    """Story number `index` of the endless book `seed`: the same text on every machine."""
    draw = Draw(f"story:{seed}:{index}")
    kind = draw.pick(KINDS)
    return Story(finish(kind(Teller(draw))), draw.bits)
