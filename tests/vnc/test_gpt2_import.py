"""An imported GPT-2 against the same arithmetic written out in numpy, and what is refused."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.vnc.gpt2_folders import (
    END,
    TINY,
    Weights,
    config_of,
    gpt2_folder,
    learn_vocabulary,
    logits,
    random_weights,
)
from vnc.checkpoint import export, load_model
from vnc.engine import Engine
from vnc.errors import UserError
from vnc.gpt2_import import import_gpt2


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learn_vocabulary(tmp_path_factory.mktemp("vocabulary"))


def reference_logits(weights: Weights, ids: list[int], heads: int) -> np.ndarray:
    """GPT-2 (Radford et al. 2019) in float64, one sequence, one head at a time: (T,) ids -> (T, V) logits."""
    w = {name: tensor.double().numpy() for name, tensor in weights.items()}
    T = len(ids)

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return centred / spread * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    def gelu(x: np.ndarray) -> np.ndarray:
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    x = w["wte.weight"][ids] + w["wpe.weight"][:T]
    layers = sum(name.endswith("ln_1.weight") for name in w)
    for layer in (f"h.{number}" for number in range(layers)):
        q, k, v = np.split(linear(norm(x, f"{layer}.ln_1"), f"{layer}.attn.c_attn"), 3, axis=-1)
        size = q.shape[-1] // heads
        mixed = []
        for part in (slice(head * size, (head + 1) * size) for head in range(heads)):
            scores = q[:, part] @ k[:, part].T / math.sqrt(size)
            scores[np.triu_indices(T, 1)] = -np.inf
            shares = np.exp(scores - scores.max(-1, keepdims=True))
            mixed.append(shares / shares.sum(-1, keepdims=True) @ v[:, part])
        x = x + linear(np.concatenate(mixed, -1), f"{layer}.attn.c_proj")
        x = x + linear(gelu(linear(norm(x, f"{layer}.ln_2"), f"{layer}.mlp.c_fc")), f"{layer}.mlp.c_proj")
    return norm(x, "ln_f") @ w["wte.weight"].T


@pytest.mark.parametrize(
    "sizes",
    [
        dict(n_layer=1, n_head=1, n_embd=8, n_positions=12),
        TINY,
        dict(n_layer=3, n_head=4, n_embd=32, n_positions=40),
        dict(n_layer=2, n_head=5, n_embd=25, n_positions=33, n_inner=100),  # gpt2-xl has 25 heads
    ],
    ids=lambda sizes: f"{sizes['n_layer']}x{sizes['n_embd']}",
)
def test_logits_are_those_of_gpt2(tmp_path: Path, vocabulary: Path, sizes: dict[str, int]) -> None:
    folder = gpt2_folder(tmp_path / "hf", vocabulary, sizes)
    weights = random_weights(config_of(folder))
    import_gpt2(str(folder), str(tmp_path / "out"))
    vocab = config_of(folder)["vocab_size"]
    ids = torch.randint(vocab, (sizes["n_positions"],), generator=torch.Generator().manual_seed(1)).tolist()
    expected = reference_logits(weights, ids, sizes["n_head"])
    found = logits(tmp_path / "out", ids)
    assert found.shape == (len(ids), vocab)  # there are no others that it could say
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    assert np.abs(expected).max() > 3  # and not because all is about 0


def test_greedy_continuation_is_gpt2s(tmp_path: Path, vocabulary: Path) -> None:
    """With the cache, for two prompts of different lengths."""
    folder = gpt2_folder(tmp_path / "hf", vocabulary, {})
    weights = random_weights(config_of(folder))
    weights["wpe.weight"] *= 5  # each position wants something else, so the answers are not one word over and over
    save_file(weights, folder / "model.safetensors")
    import_gpt2(str(folder), str(tmp_path / "out"))
    loaded = load_model(tmp_path / "out", compute_dtype=torch.float32)
    assert not loaded.chat and loaded.tokenizer.decode([loaded.tokenizer.bos_id]) == END
    prompts = [[loaded.tokenizer.bos_id, 40], [loaded.tokenizer.bos_id, *loaded.tokenizer.encode("The cats")]]
    said = Engine(loaded.gpt, loaded.tokenizer).generate(prompts, max_tokens=15)
    for prompt, answer in zip(prompts, said, strict=True):
        expected: list[int] = []
        while len(expected) < 15:
            following = int(reference_logits(weights, prompt + expected, 2)[-1].argmax())
            if following == loaded.tokenizer.bos_id:
                break
            expected.append(following)
        assert answer == expected
    assert len(set(said[0] + said[1])) > 5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_stored_numbers_are_kept_exactly(tmp_path: Path, vocabulary: Path, dtype: torch.dtype) -> None:
    folder = gpt2_folder(tmp_path / "hf", vocabulary, {})
    weights = {name: tensor.to(dtype) for name, tensor in random_weights(config_of(folder)).items()}
    save_file(weights, folder / "model.safetensors")
    import_gpt2(str(folder), str(tmp_path / "out"))
    gpt = load_model(tmp_path / "out").gpt
    vocab = config_of(folder)["vocab_size"]
    assert torch.equal(gpt.wte.weight[:vocab], weights["wte.weight"].float())
    assert torch.equal(gpt.blocks[1].mlp.fc.weight, weights["h.1.mlp.c_fc.weight"].float().t())
    assert torch.equal(gpt.blocks[0].attn.qkv[1].t(), weights["h.0.attn.c_attn.weight"].float()[:, 16:32])


def test_names_buffers_and_shards_as_they_are_found(tmp_path: Path, vocabulary: Path) -> None:
    """The prefix `transformer.`, causal masks, a copy of the tied head and several files change nothing."""
    folder = gpt2_folder(tmp_path / "hf", vocabulary, {})
    weights = random_weights(config_of(folder))
    import_gpt2(str(folder), str(tmp_path / "plain"))
    dressed = {f"transformer.{name}": tensor for name, tensor in weights.items()}
    dressed["transformer.h.1.attn.bias"] = torch.ones(1, 1, 24, 24, dtype=torch.bool)
    dressed["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
    dressed["lm_head.weight"] = weights["wte.weight"].clone()
    names = sorted(dressed)
    files = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    (folder / "model.safetensors").unlink()
    for file, part in files.items():
        save_file({name: dressed[name] for name in part}, folder / file)
    index = {"weight_map": {name: file for file, part in files.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    import_gpt2(str(folder), str(tmp_path / "sharded"))
    assert (tmp_path / "sharded/model.safetensors").read_bytes() == (tmp_path / "plain/model.safetensors").read_bytes()

    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"names model-00002-of-00002\.safetensors, which is not in the folder"):
        import_gpt2(str(folder), str(tmp_path / "none"))
    index["weight_map"]["wte.weight"] = "../plain/model.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="which is not in the folder"):
        import_gpt2(str(folder), str(tmp_path / "none"))


def test_an_untied_head_is_taken(tmp_path: Path, vocabulary: Path) -> None:
    folder = gpt2_folder(tmp_path / "hf", vocabulary, {"tie_word_embeddings": False})
    with pytest.raises(UserError, match="no 'lm_head.weight'"):
        import_gpt2(str(folder), str(tmp_path / "out"))
    weights = random_weights(config_of(folder))
    save_file(weights | {"lm_head.weight": 2 * weights["wte.weight"]}, folder / "model.safetensors")
    import_gpt2(str(folder), str(tmp_path / "out"))
    expected = 2 * reference_logits(weights, [5, 6, 7], 2)
    assert np.abs(logits(tmp_path / "out", [5, 6, 7]) - expected).max() < 1e-5 * np.abs(expected).max()


def test_an_import_can_be_exported_and_evaluated(
    tmp_path: Path, vocabulary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from vnc.chat import chat
    from vnc.evals.evaluate import evaluate

    folder = gpt2_folder(tmp_path / "hf", vocabulary, {"n_positions": 256})
    import_gpt2(str(folder), str(tmp_path / "out"))
    assert f"vnc evaluate --checkpoint {tmp_path / 'out'}" in capsys.readouterr().out
    export(tmp_path / "out", tmp_path / "half", "bfloat16")
    chat(str(tmp_path / "half"), prompt="The cats", max_tokens=5, device="cpu")
    assert capsys.readouterr().out.strip()
    evaluate(str(tmp_path / "out"), max_examples=12, json=str(tmp_path / "scores.json"), device="cpu")
    scores = json.loads((tmp_path / "scores.json").read_text())
    losses = [loss for task in scores["tasks"] for row in task["outcomes"] for loss in row["losses"]]
    assert len(losses) >= 12 and all(loss > 0 for loss in losses)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "llama"}, "config.json: model_type is 'llama'; only gpt2"),
        ({"model_type": None}, "model_type is None"),
        ({"architectures": ["GPT2ForSequenceClassification"]}, "predicts no tokens"),
        ({"activation_function": "relu"}, "activation_function is 'relu'"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon is 1e-06"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
        ({"scale_attn_weights": False}, "scale_attn_weights is False"),
        ({"add_cross_attention": True}, "add_cross_attention is True"),
        ({"n_inner": 40}, "n_inner is 40"),
        ({"n_head": 3}, "config.json: n_embd=16 is not a multiple of n_head=3"),
        ({"n_layer": "2"}, "n_layer must be a whole number, found '2'"),
        ({"n_layer": 3}, r"no 'h\.2\.ln_1\.weight'"),
        ({"n_layer": 1}, r"have 'h\.1\.attn\.c_attn\.bias', which GPT-2 does not"),
        ({"n_embd": 32}, r"wte\.weight has shape \(\d+, 16\), but config.json makes it \(\d+, 32\)"),
        ({"vocab_size": 50_257}, r"vocab_size is 50257, but the vocabulary has \d+ ids"),
    ],
)
def test_another_model_is_refused(tmp_path: Path, vocabulary: Path, config: dict[str, Any], message: str) -> None:
    folder = gpt2_folder(tmp_path / "hf", vocabulary, {})
    (folder / "config.json").write_text(json.dumps(config_of(folder) | config))
    with pytest.raises(UserError, match=message) as refused:
        import_gpt2(str(folder), str(tmp_path / "out"))
    assert "\n" not in str(refused.value)
    assert [each.name for each in tmp_path.iterdir()] == ["hf"]  # nothing is left behind


def test_what_is_missing_or_broken_is_named(tmp_path: Path, vocabulary: Path) -> None:
    def refused(message: str) -> None:
        with pytest.raises(UserError, match=message) as error:
            import_gpt2(str(folder), str(tmp_path / "out"))
        assert "\n" not in str(error.value)

    folder = tmp_path / "nowhere"
    refused("nowhere: no config.json there")
    folder = gpt2_folder(tmp_path / "hf", vocabulary, {})
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-8])
    refused(r"model\.safetensors: truncated or damaged")
    (folder / "model.safetensors").unlink()
    refused("no model.safetensors and no model.safetensors.index.json")
    (folder / "pytorch_model.bin").write_bytes(b"never opened")
    refused(r"pytorch_model\.bin: a pickle can run any code.*get model\.safetensors")
    (folder / "model.safetensors.index.json").write_text("{}")
    refused("has no weight_map")
    (folder / "model.safetensors.index.json").unlink()
    save_file(random_weights(config_of(folder)) | {"score.weight": torch.ones(2)}, folder / "model.safetensors")
    refused(r"'score\.weight', which GPT-2 does not")
    integers = {name: tensor.to(torch.int8) for name, tensor in random_weights(config_of(folder)).items()}
    save_file(integers, folder / "model.safetensors")
    refused("is stored as I8; vnc reads F32, F16, BF16")
    (folder / "config.json").write_text("{")
    refused(r"config\.json: not JSON")


def test_an_existing_folder_is_left_alone(tmp_path: Path, vocabulary: Path) -> None:
    folder = gpt2_folder(tmp_path / "hf", vocabulary, {})
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="out exists already"):
        import_gpt2(str(folder), str(tmp_path / "out"))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="cannot be written"):
        import_gpt2(str(folder), str(tmp_path / "file" / "out"))
    assert (tmp_path / "file").read_text() == "mine" and not any((tmp_path / "out").iterdir())


def test_help_needs_no_torch() -> None:
    import subprocess

    code = "import sys, vnc.gpt2_import; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
