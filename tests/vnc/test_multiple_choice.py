"""The wording of questions with choices: the letter that is read is the letter that is answered."""

import string

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from vnc.conversation import Conversation, render, render_prompt
from vnc.multiple_choice import INSTRUCTION, answer_ids, letters_of, multiple_choice
from vnc.tokenizer import GPT2_PATTERN, PATTERN, Tokenizer

BYTES = [bytes([i]) for i in range(256)]


@pytest.fixture(scope="module", params=[PATTERN, GPT2_PATTERN], ids=["ours", "gpt2"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """Single bytes, and the letters after a space: what "A" must not turn into."""
    return Tokenizer([*BYTES, *(f" {letter}".encode() for letter in string.ascii_uppercase)], request.param)


def test_the_wording() -> None:
    text = multiple_choice(" Which is a metal?\n", "AB", [" wood ", "iron"])
    assert text == f"Which is a metal?\n* wood=A\n* iron=B\n{INSTRUCTION}"


choice_texts = st.text(max_size=8) | st.sampled_from(["", "x.", "5", "é", "(a)", "=", "A"])


@given(question=st.text(max_size=20), choices=st.lists(choice_texts, min_size=1, max_size=26))
@settings(deadline=None, max_examples=50)
def test_the_letter_in_the_prompt_is_the_token_of_the_answer(
    question: str, choices: list[str], tokenizer: Tokenizer
) -> None:
    letters = letters_of(len(choices))
    prompt = multiple_choice(question, letters, choices)
    starts, place = {}, 0  # the token that starts at each byte of the prompt
    for token in tokenizer.encode(prompt):
        starts[place] = token
        place += len(tokenizer.decode_bytes([token]))
    end = prompt.rindex(INSTRUCTION) - 1
    for letter, choice, answer in reversed(list(zip(letters, choices, answer_ids(letters, tokenizer), strict=True))):
        assert prompt[end - 2 : end] == f"={letter}"
        assert starts[len(prompt[: end - 1].encode())] == answer
        end -= len(f"\n* {choice.strip()}={letter}")


def test_the_rendered_answer_is_one_learnt_letter(tokenizer: Tokenizer) -> None:
    question = {"role": "user", "content": multiple_choice("?", "ABCD", list("wxyz"))}
    ids, learn = render(Conversation.from_dicts([question, {"role": "assistant", "content": "C"}]), tokenizer)
    [c] = answer_ids("C", tokenizer)
    assert [i for i, learnt in zip(ids, learn, strict=True) if learnt] == [c, tokenizer.special("<|im_end|>")]
    prompt = render_prompt(Conversation.from_dicts([question]), tokenizer)
    assert ids[: len(prompt) + 1] == [*prompt, c]


def test_a_vocabulary_that_joins_the_letter_to_its_sign_is_refused() -> None:
    joined = Tokenizer([*BYTES, b"=B"], PATTERN)
    assert answer_ids("ACD", joined) == [ord("A"), ord("C"), ord("D")]
    with pytest.raises(ValueError, match="the letter 'B' is not one token"):
        answer_ids("ABCD", joined)


@pytest.mark.parametrize(("letters", "options"), [("AB", ["x"]), ("", []), ("A", ["x", "y"])])
def test_one_letter_for_each_choice(letters: str, options: list[str]) -> None:
    with pytest.raises(ValueError, match="give one letter for each"):
        multiple_choice("?", letters, options)


def test_letters() -> None:
    assert letters_of(1) == "A" and letters_of(26) == string.ascii_uppercase
    for wrong in (0, 27, -1):
        with pytest.raises(ValueError, match=f"{wrong} choices"):
            letters_of(wrong)
