"""Questions about the letters of words: a model reads tokens, not letters, so it has to be told which letters a word is
made of, and then it can be asked.

Two kinds, made up from a list of words: spell a word, and count a letter in it. Training (in the task mixture) and
evaluation (vnc/evals/chatcore) ask in the same wordings, about different words.
"""

from __future__ import annotations

from dataclasses import dataclass

from vnc.spelling_words import WORDS
from vnc.tinyworld.draw import Draw

HELD_OUT = 20  # one word in so many is only asked in validation and evaluation
TRAINING = tuple(word for place, word in enumerate(WORDS) if place % HELD_OUT)
VALIDATION = WORDS[::HELD_OUT]
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


@dataclass(frozen=True)
class SpellingQuestion:
    """Spell `word`, or count `letter` in it."""

    text: str
    word: str
    letter: str | None
    """None where the word is to be spelled."""

    @property
    def expected(self) -> str:
        """The letters in a row, which is the word itself, or the count."""
        return self.word if self.letter is None else str(self.word.count(self.letter))


def spelling_question(index: int, validation: bool = False) -> SpellingQuestion:
    """Number `index` of an endless list; always the same. Those of validation are about words that training never
    has."""
    draw = Draw(f"spelling:{'validation' if validation else 'training'}:{index}")
    word = draw.pick(VALIDATION if validation else TRAINING)
    if draw.chance(0.5):
        return ask_to_spell(word, draw.pick(SPELL), draw.pick(QUOTES))
    # Mostly a letter that is there: of 26 letters at random most would be counted to 0.
    letter = draw.pick(word) if draw.chance(0.9) else draw.pick(ALPHABET)
    return ask_to_count(letter, word, draw.pick(COUNT), draw.pick(QUOTES))


def ask_to_spell(word: str, phrasing: str, quotes: str) -> SpellingQuestion:
    return SpellingQuestion(phrasing.format(word=quotes.format(word)), word, None)


def ask_to_count(letter: str, word: str, phrasing: str, quotes: str) -> SpellingQuestion:
    return SpellingQuestion(phrasing.format(letter=quotes.format(letter), word=quotes.format(word)), word, letter)
