import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vnc.evals.ifeval.text import compare, count_capital_words, count_sentences, count_words


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("...", 0),
        ("*** - !", 0),
        ("Hello", 1),
        ("Hello there", 1),
        ("One. Two.", 2),
        ("One. Two", 2),
        ("One.Two.", 1),
        ("What?! No way!!", 2),
        ("He left... I stayed.", 2),
        ("He left... slowly and sadly.", 1),
        ("Dr. Lee met Mrs. Wren and Prof. Gull.", 1),
        ("Cats, dogs, etc. are pets.", 1),
        ("We sold cats, dogs, etc. The shop closed.", 2),
        ("She lives in the U.S. with us.", 1),
        ("She lives in the U.S. They don't.", 2),
        ("It starts at 5 p.m. sharp.", 1),
        ("Pi is 3.14 or so.", 1),
        ("J. Lee wrote to A. Wren.", 1),
        ("Use birds, e.g. an owl, i.e. this one.", 1),
        ("1. Owls fly.\n2. Wrens sing.", 4),
        ("It was 1950. they say so.", 1),
        ("It was 1950. They say so.", 2),
        ('"Stop." She ran. (He did too.) Then', 4),
        ("**Bold.** Plain.", 2),
        ("Heading\n\nText here.\n\nMore text", 2),
        ("one. two. all small letters. etc. and so on.", 4),
        ("P.S. Remember the milk.", 2),
        ("Is it? Yes", 2),
    ],
)
def test_sentences(text: str, count: int) -> None:
    assert count_sentences(text) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [("", 0), ("one two", 2), ("it's", 2), ("one-two", 2), ("a_b c", 2), ("3.5", 2), ("- ! *", 0), ("naïve café", 2)],
)
def test_words(text: str, count: int) -> None:
    assert count_words(text) == count


def test_marks_and_joiners_do_not_break_words() -> None:
    assert count_words("हिन्दी में लिखो") == 3
    assert count_words("cafe\u0301 ole\u0301") == 2
    assert count_words("می\u200cخواهم") == 1


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("I am A B", 3),
        ("DON'T", 2),
        ("JOHN'S CAT", 3),
        ("O'NEILL", 1),
        ("don't", 0),
        ("UP-TO-DATE", 1),
        ("Mixed CASE Words", 1),
        ("ONE,TWO;THREE", 3),
        ("10:30 A:B", 2),
        ("**LOUD** (VERY)", 2),
        ("WAIT--WHAT", 2),
        ("B2B 4K 2001", 2),
    ],
)
def test_capital_words(text: str, count: int) -> None:
    assert count_capital_words(text) == count


def test_relations() -> None:
    assert [compare(count, "less than", 2) for count in (1, 2, 3)] == [True, False, False]
    assert [compare(count, "at least", 2) for count in (1, 2, 3)] == [False, True, True]


@given(st.lists(st.sampled_from(["owls", "wrens", "2", "herons"]), min_size=1, max_size=6), st.sampled_from(".?!"))
def test_plain_sentences_are_counted_one_by_one(words: list[str], mark: str) -> None:
    assert count_sentences(" ".join(f"We saw {word} there{mark}" for word in words)) == len(words)


@given(st.text())
def test_any_text_is_counted(text: str) -> None:
    assert 0 <= count_sentences(text) <= 1 + sum(text.count(mark) for mark in ".?!")
    assert count_words(text) <= len(text)
    assert 0 <= count_capital_words(text) <= len(text)


@pytest.mark.parametrize("piece", [".", "a. ", ". ", "1. a ", '."', "(. ", "A'", "[ "])
def test_long_runs_take_linear_time(piece: str) -> None:
    """A poor model repeats itself; a quadratic rule would take minutes here."""
    start = time.process_time()
    count_sentences(piece * 60_000 + "a")
    count_capital_words(piece * 60_000)
    assert time.process_time() - start < 5
