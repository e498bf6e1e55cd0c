"""Questions about letters: which words they are about, and what is right."""

from vnc.spelling import COUNT, SPELL, TRAINING, VALIDATION, ask_to_count, ask_to_spell, spelling_question


def test_what_is_expected() -> None:
    assert ask_to_count("r", "strawberry", COUNT[0], "{}").expected == "3"
    assert ask_to_count("x", "strawberry", COUNT[0], '"{}"').expected == "0"
    assert ask_to_spell("apple", SPELL[0], "{}").expected == "apple"
    assert ask_to_spell("apple", SPELL[1], '"{}"').text == 'Spell "apple".'
    assert ask_to_count("p", "apple", COUNT[1], "{}").text == "How many p are in apple?"


def test_questions_are_always_the_same_and_of_both_kinds() -> None:
    questions = [spelling_question(index, validation=True) for index in range(256)]
    assert questions == [spelling_question(index, validation=True) for index in range(256)]
    assert 100 < sum(question.letter is None for question in questions) < 156
    assert {question.word for question in questions} <= set(VALIDATION)
    assert all(question.word in question.text for question in questions)
    assert {spelling_question(index).word for index in range(500)} <= set(TRAINING)
