"""Spelling: the questions of vnc/spelling.py with their answers. Nothing is read from files.

A word is spelled letter by letter. Counting goes through the letters one by one, keeping count, and then asks the
calculator as well.
"""

from __future__ import annotations

from datamodules.tasks.question import exchange
from vnc.conversation import Conversation, Segment
from vnc.spelling import TRAINING, VALIDATION, SpellingQuestion, ask_to_count, ask_to_spell, spelling_question


class Spelling:
    """`size` conversations about words of the list; those of validation are about words that training never has."""

    name = "spelling"

    def __init__(self, size: int, validation: bool = False) -> None:
        self._size, self._validation = size, validation
        self.words = VALIDATION if validation else TRAINING

    def __len__(self) -> int:
        return self._size

    def conversation(self, index: int) -> Conversation:
        return answered(spelling_question(index, self._validation))


def spell(word: str, phrasing: str, quotes: str) -> Conversation:
    return answered(ask_to_spell(word, phrasing, quotes))


def count(letter: str, word: str, phrasing: str, quotes: str) -> Conversation:
    return answered(ask_to_count(letter, word, phrasing, quotes))


def answered(question: SpellingQuestion) -> Conversation:
    """The question with the answer to learn."""
    if question.letter is None:
        return exchange(question.text, *_spelled(question.word))
    return exchange(question.text, *_counted(question.letter, question.word, question.expected))


def _spelled(word: str) -> tuple[Segment, ...]:
    """The letters one by one, each a token of its own after a space."""
    return (Segment("text", f"The letters of {word} are: {' '.join(word)}."),)


def _counted(letter: str, word: str, expected: str) -> tuple[Segment, ...]:
    """A line for each letter, with the count so far at each one that matches; then the calculator; then the answer."""
    lines, found = [f"Let me go through {word} and count the letter {letter}:"], 0
    for other in word:
        found += other == letter
        lines.append(f"- {other} ({found})" if other == letter else f"- {other}")
    times = "once" if found == 1 else f"{found} times"
    return (
        Segment("text", "\n".join(lines) + "\nChecking with the calculator: "),
        Segment("tool", f'"{word}".count("{letter}")'),
        Segment("output", expected),
        Segment("text", f"\nThe letter {letter} is in {word} {times}: {expected}."),
    )
