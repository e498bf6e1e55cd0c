"""What the tests of generation read from events, and the vocabulary they speak."""

from vnc.engine import Engine, Event
from vnc.tokenizer import Tokenizer

TEXT = "The clockmaker of Ashford has 12 cats, 7 clocks and a grey umbrella. " * 3


def small_vocabulary() -> Tokenizer:
    return Tokenizer.train([TEXT], 290)


def ends(events: list[Event]) -> dict[int, str | None]:
    return {event.row: event.finish for event in events if event.token is None}


def queued(engine: Engine, prompts: list[list[int]], **options) -> list[list[int]]:
    said: list[list[int]] = [[] for _ in prompts]
    for event in engine.stream_queue(prompts, **options):
        if event.token is not None:
            said[event.row].append(event.token)
    return said
