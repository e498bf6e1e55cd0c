"""How low a loss on TinyWorld can go: the bits drawn for each byte written."""

from vnc.tinyworld.stories import story


def entropy_floor(indices: range, seed: int = 0) -> float:
    """Bits per UTF-8 byte of the stories `indices`: what a model that knew the generator itself would spend at most.

    Compare it with a validation loss in bits per byte over the same stories, where marks between documents are free.
    """
    stories = [story(index, seed) for index in indices]
    return sum(one.bits for one in stories) / sum(len(one.text.encode()) for one in stories)
