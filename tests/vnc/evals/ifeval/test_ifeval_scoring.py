import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vnc.evals.ifeval.prompts import Prompt, parse_instruction
from vnc.evals.ifeval.scoring import Judgement, TypeScore, judge, loose_variants, score

ENDING = parse_instruction("startend:end_checker", {"end_phrase": "Good night."})
QUOTED = parse_instruction("startend:quotation", {})
NO_COMMA = parse_instruction("punctuation:no_comma", {})
BULLETS = parse_instruction("detectable_format:number_bullet_lists", {"num_bullets": 1})

PROMPTS = [
    Prompt(1, "First.", (ENDING, NO_COMMA)),
    Prompt(2, "Second.", (NO_COMMA,)),
    Prompt(3, "Third.", (BULLETS, ENDING, NO_COMMA)),
]
RESPONSES = ["Sure, here it is:\nOwls sleep. **Good night.**", "Owls, wrens", "* Owls.\n\nGood night."]


def test_eight_variants() -> None:
    text = "Sure!\n*owl*\n wren \nBye *all*"
    assert loose_variants(text) == (
        text,
        "Sure!\nowl\n wren \nBye all",
        "*owl*\n wren \nBye *all*",
        "owl\n wren \nBye all",
        "Sure!\n*owl*\n wren",
        "Sure!\nowl\n wren",
        "*owl*\n wren",
        "owl\n wren",
    )
    assert loose_variants("owl") == ("owl", "")


@pytest.mark.parametrize(
    ("instruction", "response", "strict", "loose"),
    [
        (ENDING, "Good night.", True, True),
        (ENDING, "**Good night.**", False, True),  # without asterisks
        (ENDING, "Good night.\nAnything else?", False, True),  # without the last line
        (QUOTED, 'Here it is:\n"Owls."', False, True),  # without the first line
        (QUOTED, 'Here:\n"Owls."\nDone.', False, True),  # without both
        (QUOTED, 'Here:\n**"Owls."**\nDone.', False, True),  # without both and without asterisks
        (QUOTED, 'Here:\nand here:\n"Owls."', False, False),  # two lines are too many
        (NO_COMMA, "Sure, here:\nOwls", False, True),
        (NO_COMMA, "Sure,", False, False),  # nothing is left without its only line
        (BULLETS, "* owl\n* wren", False, True),
        (BULLETS, "* owl", True, True),  # what holds strictly holds loosely, though no asterisk is left
    ],
)
def test_strict_and_loose(instruction: object, response: str, strict: bool, loose: bool) -> None:
    prompt = Prompt(1, "Say it.", (instruction,))  # type: ignore[arg-type]
    assert judge(prompt, response) == (Judgement(strict, loose),)


def test_four_accuracies_counted_by_hand() -> None:
    result = score(PROMPTS, RESPONSES)
    assert [outcome.judgements for outcome in result.outcomes] == [
        (Judgement(False, True), Judgement(False, True)),
        (Judgement(False, False),),
        (Judgement(True, True), Judgement(True, True), Judgement(True, True)),
    ]
    assert result.prompt_strict == pytest.approx(1 / 3)
    assert result.prompt_loose == pytest.approx(2 / 3)
    assert result.instruction_strict == pytest.approx(3 / 6)
    assert result.instruction_loose == pytest.approx(5 / 6)
    assert result.by_type() == {
        "detectable_format:number_bullet_lists": TypeScore(1, 1.0, 1.0),
        "punctuation:no_comma": TypeScore(3, 1 / 3, 2 / 3),
        "startend:end_checker": TypeScore(2, 0.5, 1.0),
    }
    assert [*result.by_family()] == ["detectable_format", "punctuation", "startend"]


def test_the_result_survives_json() -> None:
    result = score(PROMPTS, RESPONSES)
    values = result.as_dict()
    assert json.loads(json.dumps(values)) == values
    assert values["prompts"], values["instructions"] == (3, 6)
    assert values["prompt_strict"] == result.prompt_strict
    assert values["by_type"]["startend:end_checker"] == {"instructions": 2, "strict": 0.5, "loose": 1.0}
    assert values["outcomes"][0] == {
        "key": 1,
        "response": RESPONSES[0],
        "strict": False,
        "loose": True,
        "instructions": [
            {"id": "startend:end_checker", "strict": False, "loose": True},
            {"id": "punctuation:no_comma", "strict": False, "loose": True},
        ],
    }


def test_every_prompt_needs_its_response() -> None:
    with pytest.raises(ValueError):
        score(PROMPTS, RESPONSES[:2])


@given(st.text(alphabet='a ,."*-\n', max_size=40))
def test_loose_forgives_and_never_blames(response: str) -> None:
    prompt = Prompt(1, "Say it.", (ENDING, QUOTED, NO_COMMA, BULLETS))
    for judgement in judge(prompt, response):
        assert judgement.loose or not judgement.strict
    assert loose_variants(response)[0] == response
    assert len(loose_variants(response)) <= 8
