"""Folders as a GPT-2 is downloaded, of small random models and a small vocabulary."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import ByteLevelBPETokenizer

from vnc.checkpoint import load_model

Weights = dict[str, torch.Tensor]
TEXT = "The clockmaker of Ashford has 12 cats, 7 clocks and a grey umbrella; don't ask: naïve 日本語\n\n  "
END = "<|endoftext|>"
TINY = dict(n_layer=2, n_head=2, n_embd=16, n_positions=24)


def learn_vocabulary(folder: Path) -> Path:
    """vocab.json and merges.txt as another library learns and writes them; <|endoftext|> moved to the end."""
    learner = ByteLevelBPETokenizer()
    learner.train_from_iterator([TEXT * 9, "the cat sat on the mat with the other cats " * 9], 300, min_frequency=1)
    learner.save_model(str(folder))
    ids = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps(ids | {END: len(ids)}))
    return folder


def random_weights(config: dict[str, Any], seed: int = 0) -> Weights:
    """GPT-2's tensors by their names, normal, large enough that every part of the arithmetic matters."""
    C, generator = config["n_embd"], torch.Generator().manual_seed(seed)

    def normal(*shape: int, mean: float = 0.0) -> torch.Tensor:
        return mean + 0.3 * torch.randn(*shape, generator=generator)

    weights = {"wte.weight": normal(config["vocab_size"], C), "wpe.weight": normal(config["n_positions"], C)}
    norms = ["ln_f"]
    for layer in range(config["n_layer"]):
        norms += [f"h.{layer}.ln_1", f"h.{layer}.ln_2"]
        for name, inputs, outputs in (("attn.c_attn", C, 3 * C), ("attn.c_proj", C, C),
                                      ("mlp.c_fc", C, 4 * C), ("mlp.c_proj", 4 * C, C)):  # fmt: skip
            weights[f"h.{layer}.{name}.weight"] = normal(inputs, outputs)
            weights[f"h.{layer}.{name}.bias"] = normal(outputs)
    for norm in norms:
        weights |= {f"{norm}.weight": normal(C, mean=1.0), f"{norm}.bias": normal(C)}
    return weights


def gpt2_folder(folder: Path, vocabulary: Path, config: dict[str, Any], weights: Weights | None = None) -> Path:
    """As a GPT-2 is downloaded. config: what differs from a plain one."""
    folder.mkdir()
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(vocabulary / name, folder)
    ids = len(json.loads((vocabulary / "vocab.json").read_text()))
    plain = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "activation_function": "gelu_new",
             "layer_norm_epsilon": 1e-05, "vocab_size": ids, "n_ctx": 24}  # fmt: skip
    values = plain | TINY | config
    (folder / "config.json").write_text(json.dumps(values))
    save_file(random_weights(values) if weights is None else weights, folder / "model.safetensors")
    return folder


def gpt2_folder_without_vocabulary(folder: Path, config: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"} | config))
    save_file(random_weights(config), folder / "model.safetensors")
    return folder


def config_of(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return values


@torch.inference_mode()
def logits(checkpoint: Path, ids: list[int]) -> np.ndarray:
    gpt = load_model(checkpoint, compute_dtype=torch.float32).gpt
    found: np.ndarray = gpt.logits(gpt(torch.tensor([ids])))[0].numpy()
    return found
