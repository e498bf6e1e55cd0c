"""keywords: words and letters that must or must not occur.

Keywords are compared letter by letter, capitals or not. The official checker takes them as regular expressions, which
makes no difference to any keyword in its data.
"""

from __future__ import annotations

import re

from vnc.evals.ifeval.text import Relation, compare


def existence(response: str, *, keywords: tuple[str, ...]) -> bool:
    """Each keyword occurs, be it inside a longer word."""
    return all(_count(keyword, response) for keyword in keywords)


def frequency(response: str, *, keyword: str, frequency: int, relation: Relation) -> bool:
    """How often the keyword occurs, inside longer words too."""
    return compare(_count(keyword.strip(), response), relation, frequency)


def forbidden_words(response: str, *, forbidden_words: tuple[str, ...]) -> bool:
    """None of them stands as a word of its own; inside a longer word they may."""
    patterns = (rf"(?<!\w){re.escape(word)}(?!\w)" for word in forbidden_words)
    return not any(re.search(pattern, response, re.IGNORECASE) for pattern in patterns)


def letter_frequency(response: str, *, letter: str, let_frequency: int, let_relation: Relation) -> bool:
    """How often the letter occurs, capital or small.

    Two prompts ask for "#" and "!": these are counted here, where the official checker counts a letter drawn at random.
    """
    return compare(response.lower().count(letter.lower()), let_relation, let_frequency)


def _count(keyword: str, response: str) -> int:
    return len(re.findall(re.escape(keyword), response, re.IGNORECASE))
