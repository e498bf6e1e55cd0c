import json
from pathlib import Path

import pytest

from vnc.errors import UserError
from vnc.evals.ifeval.prompts import Prompt, parse_instruction
from vnc.evals.ifeval.responses import read_responses, write_responses

ANY = (parse_instruction("punctuation:no_comma", {}),)
PROMPTS = [Prompt(1, "Speak of owls.", ANY), Prompt(2, "Sprich über Käuze \u2028 bitte.", ANY)]
RESPONSES = ["Owls fly.\n\nAt night \u2028 only.", 'Käuze "fliegen" 🦉']


def test_what_is_written_is_read_in_the_order_of_the_prompts(tmp_path: Path) -> None:
    path = tmp_path / "responses.jsonl"
    write_responses(path, PROMPTS, RESPONSES)
    assert read_responses(path, PROMPTS) == tuple(RESPONSES)
    assert read_responses(path, PROMPTS[::-1]) == tuple(RESPONSES[::-1])
    assert read_responses(path, PROMPTS[1:]) == (RESPONSES[1],)
    assert [*tmp_path.iterdir()] == [path]


def test_the_layout_is_the_official_one(tmp_path: Path) -> None:
    """ASCII, so that a reader with any locale's encoding reads it; one object a line."""
    path = tmp_path / "responses.jsonl"
    write_responses(path, PROMPTS, RESPONSES)
    lines = path.read_bytes().decode("ascii").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"prompt": prompt.text, "response": response} for prompt, response in zip(PROMPTS, RESPONSES, strict=True)
    ]


def test_a_file_that_exists_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "responses.jsonl"
    path.write_text("mine")
    write_responses(path, PROMPTS, RESPONSES)
    assert path.with_name("responses.jsonl.1").read_text() == "mine"
    assert read_responses(path, PROMPTS) == tuple(RESPONSES)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_responses(tmp_path / "file" / "responses.jsonl", PROMPTS, RESPONSES)


def test_a_response_too_few_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_responses(tmp_path / "responses.jsonl", PROMPTS, RESPONSES[:1])
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{\n", "line 1: Expecting"),
        ("[]\n", "line 1: must be a JSON object, not list"),
        ('{"prompt": "a"}\n', "line 1: 'response' must be a string"),
        ('{"prompt": "a", "response": "b"}\n\n{"prompt": "a", "response": "c"}\n', "line 3: another response"),
        ('{"prompt": "Speak of owls.", "response": "b"}\n', "no response to the prompt with key 2"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "responses.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_responses(path, PROMPTS)
    assert str(error.value).startswith(str(path))


def test_a_file_that_is_absent(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_responses(tmp_path / "absent.jsonl", PROMPTS)
