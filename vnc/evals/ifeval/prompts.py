"""IFEval's prompts, in the layout in which they are published:

    input_data.jsonl     one prompt a line: key (a number), prompt, instruction_id_list, and kwargs: one object an
                         instruction, with its arguments

An argument that is null counts as not given, as in the copies of the file that give every argument to every
instruction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vnc.errors import UserError
from vnc.evals.ifeval.registry import KINDS, Argument

FILE = "input_data.jsonl"


@dataclass(frozen=True)
class Instruction:
    id: str
    """Family and type, such as "keywords:existence"."""
    arguments: Mapping[str, Argument]

    @property
    def language(self) -> str | None:
        """Code of the language that judging it must be able to tell."""
        return KINDS[self.id].languages(self.arguments)

    def is_followed(self, response: str) -> bool:
        """Does the response follow it, taken as it stands? A blank one follows nothing."""
        return bool(response.strip()) and KINDS[self.id].follows(response, **self.arguments)


@dataclass(frozen=True)
class Prompt:
    key: int
    text: str
    instructions: tuple[Instruction, ...]


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """The prompts of a file, or of the input_data.jsonl in a folder, in their order.

    UserError names the line and key of what is malformed. Neither key nor text may occur twice: outcomes go by the
    one, files of responses by the other.
    """
    file = path / FILE if path.is_dir() else path
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; give IFEval's {FILE} or the folder that it is in") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read ({error})") from None
    prompts: list[Prompt] = []
    seen: dict[int | str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            prompt = parse_prompt(json.loads(line))
            for name, value in (("key", prompt.key), ("prompt", prompt.text)):
                if value in seen:
                    raise ValueError(f"{name!r} is the same as in line {seen[value]}; remove one of the two")
                seen[value] = number
        except ValueError as error:  # json's own errors are ValueErrors too
            raise UserError(f"{file}, line {number}: {error}") from None
        prompts.append(prompt)
    if not prompts:
        raise UserError(f"{file}: no prompts in it; restore the file")
    return tuple(prompts)


def parse_prompt(row: Any) -> Prompt:
    """One prompt as `json.loads` gives it. Raises ValueError naming the key at fault."""
    if not isinstance(row, dict):
        raise ValueError(f"a prompt must be a JSON object, not {type(row).__name__}")
    key, text, ids, kwargs = (row.get(name) for name in ("key", "prompt", "instruction_id_list", "kwargs"))
    if type(key) is not int:
        raise ValueError(f"'key' must be a whole number, found {_shown(key)}")
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"'prompt' must be a string that is not blank, found {_shown(text)}")
    if not isinstance(ids, list) or not ids:
        raise ValueError(f"'instruction_id_list' must be a list of one or more names, found {_shown(ids)}")
    if not isinstance(kwargs, list) or len(kwargs) != len(ids):
        raise ValueError(f"'kwargs' must be a list of {len(ids)} objects, one an instruction, found {_shown(kwargs)}")
    return Prompt(key, text, tuple(map(parse_instruction, ids, kwargs)))


def parse_instruction(name: Any, values: Any) -> Instruction:
    """An instruction with its arguments, checked. Raises ValueError naming the key at fault."""
    if not isinstance(name, str) or name not in KINDS:
        raise ValueError(f"'instruction_id_list' names {_shown(name)}, which is none of {', '.join(KINDS)}")
    if not isinstance(values, dict):
        raise ValueError(f"'kwargs' of {name} must be an object, found {_shown(values)}")
    given = {key: value for key, value in values.items() if value is not None}
    wanted = KINDS[name].arguments
    if unknown := sorted(set(given) - set(wanted)):
        raise ValueError(f"'kwargs' of {name} has {unknown[0]!r}; known are {', '.join(wanted) or 'none'}")
    arguments: dict[str, Argument] = {}
    for key, parse in wanted.items():
        try:
            arguments[key] = parse(given.get(key))
        except ValueError as error:
            raise ValueError(f"{key!r} in 'kwargs' of {name} {error}, found {_shown(given.get(key))}") from None
    nth, paragraphs = arguments.get("nth_paragraph"), arguments.get("num_paragraphs")
    if isinstance(nth, int) and isinstance(paragraphs, int) and nth > paragraphs:
        raise ValueError(f"'nth_paragraph' in 'kwargs' of {name} must be at most num_paragraphs, {paragraphs}")
    return Instruction(name, arguments)


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
