"""`vnc import gpt2 FOLDER OUT`: a GPT-2 as Hugging Face stores it becomes a folder that every verb of vnc opens.

The classic preset is GPT-2's arithmetic, so importing is renaming and turning: GPT-2's matrices are stored (in, out),
ours (out, in). The model keeps exactly its own ids, the last of them <|endoftext|>, which is its BOS. vnc's tokens for
conversations come after these: the tokenizer knows them, the model has no logits for them and cannot say them. So an
import is there to be scored and sampled, as a yardstick. Nothing is unpickled: weights come from safetensors alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vnc.config import GPTConfig
from vnc.errors import UserError
from vnc.gpt2_vocabulary import read_object, read_vocabulary

if TYPE_CHECKING:
    import torch

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
INDEX_FILE, PICKLE_FILE = "model.safetensors.index.json", "pytorch_model.bin"
DTYPES = ("F32", "F16", "BF16")  # as safetensors names them

SIZES = ("vocab_size", "n_positions", "n_layer", "n_head", "n_embd")
ARITHMETIC: dict[str, tuple[Any, ...]] = {
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),  # two names of GELU in its tanh form
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}
"""Settings of GPT-2's config.json that change its arithmetic, and the values that vnc computes. The first is what a
file without the key means."""
HEADLESS = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")


@dataclass(frozen=True)
class Origin:
    """Where a parameter of vnc's comes from."""

    name: str
    """In GPT-2's files, without the prefix `transformer.` that some have."""
    shape: tuple[int, ...]
    """As stored there."""
    turned: bool = False
    """A matrix stored (in, out)."""


def import_gpt2(folder: str, out: str) -> None:
    """Turn a Hugging Face GPT-2 into a folder that vnc scores and samples, to compare your own model with.

    Args:
        folder: Folder with config.json, model.safetensors (or its shards and their index) and the vocabulary.
        out: Folder to make.
    """
    source, target = Path(folder), Path(out)
    if target.exists():
        raise UserError(f"{target} exists already; choose another place or remove it first")
    config = read_config(source)
    files = find_weights(source)
    tokenizer, found = read_vocabulary(source)
    if tokenizer.bos_id + 1 != config.vocab_size:
        raise UserError(
            f"{source / CONFIG_FILE}: vocab_size is {config.vocab_size}, but the vocabulary has {tokenizer.bos_id + 1} "
            f"ids ({found}); use the tokenizer files of the same model"
        )
    import safetensors.torch

    from vnc import checkpoint

    def write(place: Path) -> None:
        safetensors.torch.save_file(tensors, place / checkpoint.MODEL_FILE)
        checkpoint.write_model_json(place, config, chat=False)
        tokenizer.save(place)

    tensors = read_weights(source, files, config)
    try:
        checkpoint.publish(target, write)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{target}: cannot be written ({error}); choose another place") from error
    print(
        f"{target}: GPT-2 of {config.n_layer} layers, {config.n_embd} wide, context {config.sequence_len}; ids from "
        f"{found}. Score it with: vnc evaluate --checkpoint {target}"
    )


def read_config(folder: Path) -> GPTConfig:
    """The sizes in config.json. Raises UserError for another architecture, or a GPT-2 whose arithmetic is not ours."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise UserError(f"{folder}: no {CONFIG_FILE} there; give the folder of a GPT-2 from Hugging Face")
    values = read_object(path)
    if values.get("model_type") != "gpt2":
        raise UserError(f"{path}: model_type is {values.get('model_type')!r}; only gpt2 can be imported")
    for name in values.get("architectures") or ():
        if str(name).endswith(HEADLESS):
            raise UserError(f"{path}: {name} predicts no tokens; use a GPT-2 language model, such as GPT2LMHeadModel")
    for key, allowed in ARITHMETIC.items():
        if (value := values.get(key, allowed[0])) not in allowed:
            raise UserError(f"{path}: {key} is {value!r}; vnc computes {' or '.join(map(repr, allowed))} only")
    for key in SIZES:
        if type(values.get(key)) is not int:
            raise UserError(f"{path}: {key} must be a whole number, found {values.get(key)!r}")
    if (inner := values.get("n_inner")) not in (None, 4 * values["n_embd"]):
        raise UserError(f"{path}: n_inner is {inner!r}; vnc's MLP is 4 x n_embd = {4 * values['n_embd']} wide")
    sizes = {key: values[key] for key in SIZES if key != "n_positions"}
    tied = bool(values.get("tie_word_embeddings", True))
    try:
        return GPTConfig.gpt2(sequence_len=values["n_positions"], tied_head=tied, **sizes)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def find_weights(folder: Path) -> list[Path]:
    """The safetensors files that hold a model. Raises UserError where they are missing or only a pickle is there."""
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    index = folder / INDEX_FILE
    if index.is_file():
        places = read_object(index).get("weight_map")
        if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
            raise UserError(f"{index}: has no weight_map from tensors to files; get the file again")
        files = [folder / name for name in sorted(set(places.values()))]
        for file in files:
            if file.parent != folder or not file.is_file():
                raise UserError(f"{index}: names {file.name}, which is not in the folder; get all its files")
        return files
    if (folder / PICKLE_FILE).is_file():
        raise UserError(
            f"{folder / PICKLE_FILE}: a pickle can run any code when it is opened, so vnc does not; get "
            f"{WEIGHTS_FILE} of the same model, or save it anew with safe_serialization=True"
        )
    raise UserError(f"{folder}: no {WEIGHTS_FILE} and no {INDEX_FILE} there; give the folder of a GPT-2")


def origins(config: GPTConfig) -> dict[str, Origin]:
    """For each parameter of a GPT of the classic preset: its origin in GPT-2."""
    width = config.n_embd
    table = {
        "wte.weight": Origin("wte.weight", (config.vocab_size, width)),
        "wpe.weight": Origin("wpe.weight", (config.sequence_len, width)),
        "final_norm.weight": Origin("ln_f.weight", (width,)),
        "final_norm.bias": Origin("ln_f.bias", (width,)),
    }
    if not config.tied_head:
        table["lm_head.weight"] = Origin("lm_head.weight", (config.vocab_size, width))
    for layer in range(config.n_layer):
        ours, theirs = f"blocks.{layer}", f"h.{layer}"
        for norm, name in (("attn_norm", "ln_1"), ("mlp_norm", "ln_2")):
            for part in ("weight", "bias"):
                table[f"{ours}.{norm}.{part}"] = Origin(f"{theirs}.{name}.{part}", (width,))
        linear = {
            ("attn.qkv", "attn.qkv_bias"): ("attn.c_attn", width, 3 * width),
            ("attn.proj.weight", "attn.proj.bias"): ("attn.c_proj", width, width),
            ("mlp.fc.weight", "mlp.fc.bias"): ("mlp.c_fc", width, 4 * width),
            ("mlp.proj.weight", "mlp.proj.bias"): ("mlp.c_proj", 4 * width, width),
        }
        for (weight, bias), (name, inputs, outputs) in linear.items():
            table[f"{ours}.{weight}"] = Origin(f"{theirs}.{name}.weight", (inputs, outputs), turned=True)
            table[f"{ours}.{bias}"] = Origin(f"{theirs}.{name}.bias", (outputs,))
    return table


def read_weights(folder: Path, files: list[Path], config: GPTConfig) -> dict[str, torch.Tensor]:
    """vnc's parameters, fp32, from GPT-2's files: every number as stored, nothing rounded.

    Raises UserError for a damaged file, a missing or unknown tensor, a wrong shape or dtype, before any is read.
    """
    from safetensors import SafetensorError, safe_open

    table = origins(config)
    with contextlib.ExitStack() as opened:
        places: dict[str, tuple[Any, str]] = {}
        for file in files:
            try:
                handle = opened.enter_context(safe_open(file, framework="pt"))
            except (OSError, SafetensorError) as error:
                raise UserError(f"{file}: truncated or damaged ({error}); get the file again") from None
            places |= {key.removeprefix("transformer."): (handle, key) for key in handle.keys()}  # noqa: SIM118
        _check(folder, places, table, config)
        return {name: _ours(name, *places[origin.name], origin, config) for name, origin in table.items()}


def _check(folder: Path, places: Mapping[str, tuple[Any, str]], table: Mapping[str, Origin], config: GPTConfig) -> None:
    wanted = {origin.name: origin.shape for origin in table.values()}
    for name, shape in wanted.items():
        if name not in places:
            raise UserError(f"{folder}: its weights have no {name!r}; get the whole model, of the same config.json")
        handle, key = places[name]
        stored = handle.get_slice(key)
        if tuple(stored.get_shape()) != shape:
            raise UserError(
                f"{folder}: {key} has shape {tuple(stored.get_shape())}, but {CONFIG_FILE} makes it {shape}; "
                "use the files of one model"
            )
        if stored.get_dtype() not in DTYPES:
            raise UserError(f"{folder}: {key} is stored as {stored.get_dtype()}; vnc reads {', '.join(DTYPES)}")
    # The causal masks, which old files hold as buffers, and the copy that some hold of a tied head.
    ignored = {f"h.{layer}.attn.{mask}" for layer in range(config.n_layer) for mask in ("bias", "masked_bias")}
    unknown = sorted(set(places) - set(wanted) - ignored - {"lm_head.weight"})
    if unknown:
        raise UserError(f"{folder}: its weights have {unknown[0]!r}, which GPT-2 does not; only gpt2 can be imported")


def _ours(name: str, handle: Any, key: str, origin: Origin, config: GPTConfig) -> torch.Tensor:
    tensor: torch.Tensor = handle.get_tensor(key).float()
    if origin.turned:
        tensor = tensor.t()
    if name.endswith("attn.qkv"):
        tensor = tensor.reshape(3, config.n_embd, config.n_embd)
    if name in ("wte.weight", "lm_head.weight"):  # rows that only pad the vocabulary
        missing = config.padded_vocab_size - config.vocab_size
        tensor = _with_zero_rows(tensor, missing)
    return tensor.contiguous()


def _with_zero_rows(tensor: torch.Tensor, rows: int) -> torch.Tensor:
    """(n, C) -> (n + rows, C)."""
    padded = tensor.new_zeros(tensor.size(0) + rows, tensor.size(1))
    padded[: tensor.size(0)] = tensor
    return padded
