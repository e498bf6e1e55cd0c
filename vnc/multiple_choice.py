"""How a question with choices is written: the one wording that training and evaluation share.

A small model that is to answer with a letter does well only if the letter it has read is the letter it must say. So
each letter comes after its choice, where the model has already read what it stands for, and is joined to it by "="
without a space: in the prompt "=B" is then two tokens, the second of which is the very token of the answer "B". (After
a space it would be another token, " B".) nanochat found that both matter for small models; the wording is our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

from vnc.tokenizer import Tokenizer

INSTRUCTION = "Answer with the letter alone."


def letters_of(choices: int) -> str:
    """The letters of so many choices: "ABCD" for 4. ValueError beyond 26."""
    if not 0 < choices <= len(ascii_uppercase):
        raise ValueError(f"{choices} choices: there are letters for 1 to {len(ascii_uppercase)}")
    return ascii_uppercase[:choices]


def multiple_choice(question: str, letters: Sequence[str], choices: Sequence[str]) -> str:
    """The user's message. The answer to it is one of the letters, and nothing else.

    White space around the question and around each choice is dropped. ValueError unless there is one letter for each
    choice and at least one choice.
    """
    if len(letters) != len(choices) or not choices:
        raise ValueError(f"{len(letters)} letters for {len(choices)} choices: give one letter for each, at least one")
    lines = [f"* {choice.strip()}={letter}" for letter, choice in zip(letters, choices, strict=True)]
    return "\n".join([question.strip(), *lines, INSTRUCTION])


def answer_ids(letters: Sequence[str], tokenizer: Tokenizer) -> list[int]:
    """The token of each letter as an answer: what to compare after `render_prompt`.

    ValueError for a letter that is more than one token, or whose token in the prompt is another one, as in a
    vocabulary that holds "=B" whole: scores of single tokens would mean nothing there.
    """
    ids = []
    for letter in letters:
        answer = tokenizer.encode(letter)
        if len(answer) != 1 or tokenizer.encode(f"={letter}")[-1:] != answer:
            raise ValueError(f"the letter {letter!r} is not one token, the same after '=' and alone, in {tokenizer}")
        ids += answer
    return ids
