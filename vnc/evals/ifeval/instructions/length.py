"""length_constraints: words, sentences and paragraphs."""

from __future__ import annotations

import re

from vnc.evals.ifeval.text import Relation, compare, count_sentences, count_words

DIVIDER = "***"


def number_words(response: str, *, num_words: int, relation: Relation) -> bool:
    """Words, counted as `count_words` does."""
    return compare(count_words(response), relation, num_words)


def number_sentences(response: str, *, num_sentences: int, relation: Relation) -> bool:
    """Sentences, counted as `count_sentences` does."""
    return compare(count_sentences(response), relation, num_sentences)


def number_paragraphs(response: str, *, num_paragraphs: int) -> bool:
    """Exactly so many paragraphs between dividers of three asterisks, none of them blank.

    A divider before the first or after the last is allowed.
    """
    paragraphs = [paragraph.strip() for paragraph in response.split(DIVIDER)]
    return "" not in paragraphs[1:-1] and sum(map(bool, paragraphs)) == num_paragraphs


def nth_paragraph_first_word(response: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Exactly so many paragraphs between empty lines, and the nth begins with the word, capitals or not.

    Blank paragraphs don't count, but the nth is looked up with them, as in the official checker. The word ends at a
    mark of punctuation; quotes before it are passed over.
    """
    paragraphs = response.split("\n\n")
    if sum(bool(paragraph.strip()) for paragraph in paragraphs) != num_paragraphs:
        return False
    words = paragraphs[nth_paragraph - 1].split()
    if not words:
        return False
    first = re.split(r"""[.,?!'"]""", words[0].lstrip("'").lstrip('"'))[0]
    return first.lower() == first_word.lower()
