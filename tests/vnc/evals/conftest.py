"""Small bundles written by hand, and a small model that knows some of them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from vnc.checkpoint import LoadedModel
from vnc.config import GPTConfig
from vnc.gpt import GPT
from vnc.tokenizer import Tokenizer

Row = dict[str, Any]
CONTEXT = 64

ANIMALS = ("goat", "cat", "dog", "owl", "newt", "pig", "donkey", "hedgehog")
PEOPLE = ("Mara", "Bram", "Otto", "Ines", "Felix", "Karl", "Greta", "Petra")
TOWNS = ("Thornby", "Windle", "Saltmere", "Dunlow")


def sentences() -> list[Row]:
    """Language-modelling rows; some contexts are padded with spaces, which the rules trim."""
    return [
        {"context": f"{person} keeps a" + "  " * (place % 2), "continuation": f"{animal} in {town}"}
        for place, (person, animal, town) in enumerate(zip(PEOPLE, ANIMALS, TOWNS * 2, strict=True))
    ]


def choices() -> list[Row]:
    """Multiple choice with answers of different lengths, equal ones, and ones that begin another."""
    rows: list[Row] = []
    for place, person in enumerate(PEOPLE):
        options = [ANIMALS[(place + step) % len(ANIMALS)] for step in range(4)]
        rows.append({"query": f"{person} keeps a", "choices": options, "gold": place % 4})
    rows += [
        {"query": "Mara said", "choices": ["goat", "goat", "a goat and a cat"], "gold": 1},
        {"query": "Bram said", "choices": ["cat", "cat"], "gold": 1},
        {"query": "Otto said", "choices": ["dog", "dog and an owl", "dog and a pig"], "gold": 0},
        {"query": "Ines said", "choices": ["dog and an owl", "dog", "dog and a pig"], "gold": 1},
        {"query": "Felix told a long story of a goat, " * 5, "choices": ["a cat", "an owl"], "gold": 0},
        {"query": "Karl said", "choices": ["so, " * 40 + "yes", "no, " * 40 + "never"], "gold": 1},
    ]
    return rows


def schemas() -> list[Row]:
    rows: list[Row] = [
        {
            "context_options": [f"{a} keeps a", f"{b} sits beside the very long road to {town}, where she has a"],
            "continuation": f"{animal} in {town}",
            "gold": place % 2,
        }
        for place, (a, b, animal, town) in enumerate(zip(PEOPLE, PEOPLE[::-1], ANIMALS, TOWNS * 2, strict=True))
    ]
    rows.append({"context_options": ["Mara has a", "Mara has a"], "continuation": "goat", "gold": 1})
    rows.append({"context_options": ["So, " * 40, "Now, " * 40], "continuation": "Bram has a cat in Windle", "gold": 1})
    return rows


ROWS = {"multiple_choice": choices, "schema": schemas, "language_modeling": sentences}


def write_bundle(folder: Path, shots: int = 2) -> Path:
    """One task of each kind, named after it; guessing scores 25, 50 and 0 percent."""
    entries = []
    (folder / "eval_data" / "small").mkdir(parents=True)
    for kind, rows in ROWS.items():
        uri = f"small/{kind}.jsonl"
        (folder / "eval_data" / uri).write_text("".join(json.dumps(row) + "\n" for row in rows()))
        entry = {"label": kind, "dataset_uri": uri, "num_fewshot": [shots], "icl_task_type": kind}
        entries.append(entry | ({"continuation_delimiter": "\nA: "} if kind == "schema" else {}))
    (folder / "core.yaml").write_text(yaml.safe_dump({"icl_tasks": entries}, sort_keys=False))
    (folder / "eval_meta_data.csv").write_text(
        "Eval Task,Task Category,Random baseline\nmultiple_choice,a,25\nschema,b,50\nlanguage_modeling,c,0\n"
    )
    return folder


@pytest.fixture(autouse=True)
def on_one_thread(one_thread: None) -> None:
    """Every test of this folder."""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    text = [f"{row['context'].strip()} {row['continuation']}, so, no, yes.\n\nA: the road" for row in sentences()]
    return Tokenizer.train(text, 300)


@pytest.fixture(scope="session", params=["modern", "gpt2"])
def model(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> LoadedModel:
    """Random weights, then a few steps on five of the eight sentences, so that some answers are right."""
    sizes = {"vocab_size": tokenizer.vocab_size, "sequence_len": CONTEXT, "n_layer": 2, "n_head": 2, "n_embd": 32}
    gpt = GPT(GPTConfig(**sizes) if request.param == "modern" else GPTConfig.gpt2(**sizes))
    generator = torch.Generator().manual_seed(3)
    for parameter in gpt.parameters():
        parameter.data.normal_(0.0 if parameter.dim() > 1 else 0.5, 0.2, generator=generator)
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=0.01)
    known = [f"{row['context'].strip()} {row['continuation']}" for row in sentences()[:5]]
    for _ in range(60):
        for text in known:
            ids = torch.tensor([[tokenizer.bos_id, *tokenizer.encode(text)]])
            gpt.summed_loss(ids[:, :-1], ids[:, 1:]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return LoadedModel(gpt.eval().requires_grad_(False), tokenizer, False, Path(f"runs/{request.param}"))
