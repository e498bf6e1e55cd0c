"""Words and sentences of a response, counted as IFEval counts them.

The official checker leans on NLTK, whose sentence model is a download. What it counts is written here as plain rules;
each docstring says where the two part.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise
from typing import Literal, get_args

Relation = Literal["less than", "at least"]
JOINERS = "\u200c\u200d"
"""Zero-width characters inside words, in Persian and scripts of India."""
RELATIONS: tuple[str, ...] = get_args(Relation)


def compare(count: int, relation: Relation, threshold: int) -> bool:
    """Is `count` below the threshold ("less than"), or at or above it ("at least")?"""
    return count < threshold if relation == "less than" else count >= threshold


def count_words(text: str) -> int:
    """Runs of letters, digits and underscores: "it's 3.5" has four.

    Vowel signs and other marks belong to the letter before them. The official checker breaks words at them, so that it
    counts more words than there are in scripts of India, for instance.
    """
    return len(re.findall(r"\w+", text if text.isascii() else _without_marks(text)))


def _without_marks(text: str) -> str:
    return "".join(char for char in text if char not in JOINERS and not unicodedata.category(char).startswith("M"))


SEPARATORS = re.compile(r"""[\s;@#$%&?!()\[\]{}<>"“”„«»‘’`]|--|\.\.+|[:,](?!\d)""")
CLITICS = re.compile(r"(?=n't\b)|(?='(?:s|m|d|ll|re|ve)\b)", re.IGNORECASE)


def count_capital_words(text: str) -> int:
    """Words whose letters are all capitals, "I" and "A" among them.

    A hyphen or a slash joins words, an apostrophe divides: "UP-TO-DATE" is one and "DON'T" two, as in NLTK's
    tokenizer. Its few words that are taken apart without an apostrophe ("CANNOT") are one here.
    """
    return sum(part.isupper() for word in SEPARATORS.split(text) for part in CLITICS.split(word))


END = re.compile(r"""(?<![.?!])([.?!]++)[)\]}"'”’»*_]*+(?=\s|$)""")
SMALL_LETTER = re.compile(r"\s*[a-z]")
LAST_WORD = re.compile(r"[^\s(\[{\"'“‘«*_]+$")
NEXT_WORD = re.compile(r"""\s*[(\[{"'“‘«*_]*(\w[\w']*)""")

NEVER_LAST = re.compile(
    r"mr|mrs|ms|mx|messrs|dr|prof|st|gen|sen|rep|gov|pres|capt|cpt|lt|col|sgt|maj|rev|hon|mt|ft|vs|v|e\.g|i\.e|cf|viz"
    r"|approx|ca|al|figs?|vols?|pp|ch|sec|eds"
)
"""Abbreviations that call for a word after them."""
SOMETIMES_LAST = re.compile(
    r"etc|inc|ltd|co|corp|llc|bros|jr|sr|esq|dept|est|ave|blvd|rd|jan|feb|mar|apr|aug|sept|oct|nov|dec|ph\.d|a\.m|p\.m"
    r"|u\.s|u\.k|u\.n|d\.c|b\.c|a\.d"
)
"""Abbreviations after which a sentence may be over."""
STARTERS = re.compile(
    "a|an|the|this|that|these|those|there|here|he|she|it|we|you|they|i|my|your|his|her|its|our|their|who|what|when|where"
    "|why|how|which|if|in|on|at|as|for|from|by|with|after|before|during|while|since|although|though|because|but|and|or"
    "|so|yet|however|also|then|thus|therefore|meanwhile|additionally|furthermore|moreover|finally|first|next|is|are|was"
    "|were|do|does|did|can|could|will|would|should|have|has|had|let|please|some|many|most|all|both|each|every|no|not"
    "|now|one|two"
)
"""Words that, written with a capital, are more likely to begin a sentence than to be a name."""
LONGEST = 12
"""Characters of the word before a full stop that are looked at: more than any abbreviation has."""


def count_sentences(text: str) -> int:
    """Sentences end with . ? or ! before a space or the end of the text; what follows the last of them is one more.

    ? and ! always end one. A full stop does not after an abbreviation or an initial that goes on ("Dr. Lee", "e.g. a
    cat", "J. Lee"), nor after a number before a small letter; after an ellipsis and abbreviations that can end a
    sentence ("etc.") the next word decides. So the number before an item of a list counts as a sentence, and line
    breaks and headings end none: both as in the official checker. A piece without a letter or digit is no sentence.

    The official checker asks NLTK's punkt model for English, whose abbreviations and likely first words were learned
    from newspapers; here they are short lists. punkt also ends sentences at marks before a closing quote or bracket
    that no space follows, as in strings of JSON.
    """
    ends = [end.end() for end in END.finditer(text) if _is_over(text, end)]
    return sum(re.search(r"\w", text[start:end]) is not None for start, end in pairwise([0, *ends, len(text)]))


def _is_over(text: str, end: re.Match[str]) -> bool:
    """Do the marks at `end` end a sentence?"""
    marks = end.group(1)
    following = NEXT_WORD.match(text, end.end())
    if "?" in marks or "!" in marks or following is None:
        return True
    word = following.group(1)
    starts_anew = word[0].isupper() and STARTERS.fullmatch(word.split("'")[0].lower()) is not None
    if len(marks) > 1:
        return starts_anew
    before = LAST_WORD.search(text[max(0, end.start() - LONGEST) : end.start()])
    last = before.group().lower() if before else ""
    if last.isdigit():
        return SMALL_LETTER.match(text, end.end()) is None
    if NEVER_LAST.fullmatch(last):
        return False
    if SOMETIMES_LAST.fullmatch(last) or (len(last) == 1 and last.isalpha() and word[0].isalpha()):
        return starts_anew
    return True
