"""Spelling: a model reads tokens, not letters, so it has to be told which letters a word is made of.

Two kinds of questions, made up from a list of words: spell a word, and count a letter in it. Counting goes through the
letters one by one, keeping count, and then asks the calculator as well. Nothing is read from files.
"""

from __future__ import annotations

from datamodules.tasks.question import exchange
from datamodules.tasks.words import WORDS
from vnc.conversation import Conversation, Segment
from vnc.tinyworld.draw import Draw

HELD_OUT = 20  # one word in so many is only asked in validation
ALPHABET = "abcdefghijklmnopqrstuvwxyz"

SPELL = (
    "Spell the word {word}.",
    "Spell {word}.",
    "Please spell {word}.",
    "spell {word}",
    "How do you spell {word}?",
    "How is {word} spelled?",
    "How is the word {word} written, letter by letter?",
    "Can you spell {word} for me?",
    "Could you spell the word {word}, please?",
    "Write {word} letter by letter.",
    "Write out the letters of {word}.",
    "What are the letters of {word}?",
    "Which letters make up the word {word}?",
    "List the letters of {word} in order.",
    "Take the word {word} apart into letters.",
    "I need the spelling of {word}.",
    "I do not know how to spell {word}. Can you help?",
    "What is the correct spelling of {word}?",
    "Give me the letters in {word}, one by one.",
    "Break {word} into single letters.",
)
COUNT = (
    "How many {letter} in {word}?",
    "How many {letter} are in {word}?",
    "How many {letter} are there in {word}?",
    "How many {letter}'s are in the word {word}?",
    "How many {letter}'s are there in {word}?",
    "How many times does {letter} occur in {word}?",
    "How many times does the letter {letter} appear in {word}?",
    "How many times is {letter} used in the word {word}?",
    "How often does {letter} come up in {word}?",
    "How often is the letter {letter} in {word}?",
    "Count the {letter}'s in {word}.",
    "Count the letter {letter} in {word}.",
    "Count how many {letter} the word {word} has.",
    "Please count the {letter} in {word}.",
    "What is the number of {letter} in {word}?",
    "In the word {word}, how many {letter} are there?",
    "In {word}, how often do you see the letter {letter}?",
    "{word}: how many {letter}?",
    "Tell me how many {letter} {word} has.",
    "If I write {word}, how many times do I write {letter}?",
    "Is there any {letter} in {word}? How many?",
    "Does {word} have the letter {letter}, and how often?",
)
QUOTES = ("{}", '"{}"')


class Spelling:
    """`size` conversations about words of the list; those of validation are about words that training never has."""

    name = "spelling"

    def __init__(self, size: int, validation: bool = False) -> None:
        self._size, self._validation = size, validation
        self.words = tuple(word for place, word in enumerate(WORDS) if (place % HELD_OUT == 0) == validation)

    def __len__(self) -> int:
        return self._size

    def conversation(self, index: int) -> Conversation:
        draw = Draw(f"spelling:{'validation' if self._validation else 'training'}:{index}")
        word = draw.pick(self.words)
        if draw.chance(0.5):
            return spell(word, draw.pick(SPELL), draw.pick(QUOTES))
        # Mostly a letter that is there: of 26 letters at random most would be counted to 0.
        letter = draw.pick(word) if draw.chance(0.9) else draw.pick(ALPHABET)
        return count(letter, word, draw.pick(COUNT), draw.pick(QUOTES))


def spell(word: str, phrasing: str, quotes: str) -> Conversation:
    """The letters one by one, each a token of its own after a space."""
    question = phrasing.format(word=quotes.format(word))
    return exchange(question, Segment("text", f"The letters of {word} are: {' '.join(word)}."))


def count(letter: str, word: str, phrasing: str, quotes: str) -> Conversation:
    """A line for each letter, with the count so far at each one that matches; then the calculator; then the answer."""
    question = phrasing.format(letter=quotes.format(letter), word=quotes.format(word))
    lines, found = [f"Let me go through {word} and count the letter {letter}:"], 0
    for other in word:
        found += other == letter
        lines.append(f"- {other} ({found})" if other == letter else f"- {other}")
    steps = "\n".join(lines) + "\nChecking with the calculator: "
    times = "once" if found == 1 else f"{found} times"
    return exchange(
        question,
        Segment("text", steps),
        Segment("tool", f'"{word}".count("{letter}")'),
        Segment("output", str(found)),
        Segment("text", f"\nThe letter {letter} is in {word} {times}: {found}."),
    )
