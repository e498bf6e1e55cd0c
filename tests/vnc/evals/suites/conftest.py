"""A small chat model, small data for each suite of a chat model, and `vnc evaluate` as a function."""

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.fitting import vnc
from tests.vnc.evals.suites.json_files import lines
from vnc import checkpoint
from vnc.config import GPTConfig
from vnc.gpt import GPT
from vnc.tokenizer import Tokenizer

PROMPTS = [
    {"key": 1, "prompt": "Say it without a comma.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
    {"key": 2, "prompt": "Write a book.", "instruction_id_list": ["length_constraints:number_words"],
     "kwargs": [{"relation": "at least", "num_words": 9_999}]},
    {"key": 3, "prompt": "Say something.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
]  # fmt: skip

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def chat_export(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small chat model with random weights, as an export."""
    folder = tmp_path_factory.mktemp("chat") / "parrot"
    folder.mkdir()
    gpt = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, sequence_len=96, n_layer=2, n_head=2, n_embd=32))
    generator = torch.Generator().manual_seed(5)
    for parameter in gpt.parameters():
        parameter.data.normal_(0.0 if parameter.dim() > 1 else 0.5, 0.3, generator=generator)
    tensors = {name: parameter.data.contiguous() for name, parameter in gpt.named_parameters()}
    safetensors.torch.save_file(tensors, folder / checkpoint.MODEL_FILE)
    checkpoint.write_model_json(folder, gpt.config, chat=True)
    tokenizer.save(folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Path]:
    """A small folder of data for each suite of a chat model."""
    templates = {
        "single-v1": "{question} {answer}",
        "single-math-v1": "{question} {ref_answer_1} {answer}",
        "single-v1-multi-turn": "{question_1} {answer_1} {question_2} {answer_2}",
        "single-math-v1-multi-turn": "{question_1} {ref_answer_1} {question_2} {ref_answer_2} {answer_1} {answer_2}",
    }
    bench = tmp_path / "data" / "mt_bench"
    lines(bench / "question.jsonl", [
        {"question_id": number, "category": "writing", "turns": [f"So {number}", "and then?"]}
        for number in (81, 82, 83)
    ])  # fmt: skip
    lines(bench / "reference_answer" / "gpt-4.jsonl", [{"question_id": 9, "choices": [{"turns": ["a", "b"]}]}])
    lines(bench / "judge_prompts.jsonl", [
        {"name": name, "type": "single", "system_prompt": name, "prompt_template": template}
        for name, template in templates.items()
    ])  # fmt: skip
    alpaca = lines(tmp_path / "data" / "alpaca" / "eval_set.jsonl", [
        {"instruction": f"Do {n}", "dataset": "d", "output": "o", "generator": "text_davinci_003",
         "output_gpt4_1106_preview": "p"} for n in range(4)
    ])  # fmt: skip
    chat = tmp_path / "data" / "chat"
    lines(chat / "gsm8k_test.jsonl", [{"question": f"{n} + 1?", "answer": f"So. #### {n + 1}"} for n in range(5)])
    ifeval = lines(tmp_path / "data" / "ifeval" / "input_data.jsonl", PROMPTS)
    return {"mt_bench": bench, "alpaca_eval": alpaca.parent, "chatcore": chat, "ifeval": ifeval.parent}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, chat_export: Path) -> Run:
    """`vnc evaluate` in a folder of its own: exit code, what it printed, and its errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def run(suite: str, *arguments: object, model: Path = chat_export) -> tuple[int, str, str]:
        options = ("--suite", suite, "--checkpoint", model, "--max_tokens", 6, "--compute_dtype", "float32",
                   "--device", "cpu")  # fmt: skip
        code = vnc(monkeypatch, "evaluate", *options, *arguments)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run
