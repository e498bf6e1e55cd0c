"""Responses to IFEval's prompts, in the file that the official checker reads: {"prompt", "response"} on each line.

    python -m instruction_following_eval.evaluation_main --input_data=input_data.jsonl \\
        --input_response_data=responses.jsonl --output_dir=FOLDER
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vnc.errors import UserError
from vnc.evals.answer_files import write_kept
from vnc.evals.ifeval.prompts import Prompt


def write_responses(path: Path, prompts: Sequence[Prompt], responses: Sequence[str]) -> None:
    """One line a prompt, in their order. A file with other responses is kept beside it (write_kept)."""
    lines = [
        json.dumps({"prompt": prompt.text, "response": response}) + "\n"
        for prompt, response in zip(prompts, responses, strict=True)
    ]
    write_kept(path, "".join(lines))


def read_responses(path: Path, prompts: Sequence[Prompt]) -> tuple[str, ...]:
    """The response to each of the prompts, found by the prompt's text; lines for other prompts are passed over.

    UserError names the line that is malformed, or the key of the first prompt without a response.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error})") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            text, response = _parse(json.loads(line))
            if found.setdefault(text, response) != response:
                raise ValueError("another response to a prompt that has one already; remove one of the two")
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}") from None
    for prompt in prompts:
        if prompt.text not in found:
            raise UserError(f"{path}: no response to the prompt with key {prompt.key}; generate it, or leave it out")
    return tuple(found[prompt.text] for prompt in prompts)


def _parse(row: Any) -> tuple[str, str]:
    if not isinstance(row, dict):
        raise ValueError(f"must be a JSON object, not {type(row).__name__}")
    for name in ("prompt", "response"):
        if not isinstance(row.get(name), str):
            raise ValueError(f"{name!r} must be a string")
    return row["prompt"], row["response"]
