"""Checkpoints: one directory of safetensors and JSON, published whole or not at all; nothing is unpickled.

    step_00000250/
      model.json       format, sizes (GPTConfig), whether it was trained to chat
      model/           weights under parameter names, safetensors (vnc/tensor_files.py), by any number of processes
      optimizer/       optimizer state under <parameter name>.<state name>, likewise
      plan.json        the TrainingPlan
      trainer.json     step, callbacks' states, versions
      data.json        the reader's position
      tokenizer.json

An export has just model.json, tokenizer.json and one model.safetensors. No Lightning in here.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from vnc.buckets import Piece
from vnc.config import GPTConfig
from vnc.errors import UserError
from vnc.gpt import GPT
from vnc.processes import Processes
from vnc.tensor_files import load_file, shards
from vnc.tokenizer import Tokenizer

FORMAT = 1
MODEL_JSON, MODEL_DIR, MODEL_FILE = "model.json", "model", "model.safetensors"
OPTIMIZER_DIR = "optimizer"
PARTIAL = ".partial-"  # prefix of directories that are being written, or were when their process died


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be asked."""

    gpt: GPT
    tokenizer: Tokenizer
    chat: bool
    source: Path


def publish(folder: Path, write: Callable[[Path], None], processes: Processes | None = None) -> None:
    """Call `write` with a new directory beside `folder`, flush everything to disk, then rename it to `folder`.

    A reader never sees a directory that is not whole. `folder` must not exist. With several processes all of them call
    this and `write` at once, on one file system; what one of them fails with, all raise, and nothing is left.
    """
    processes = processes if processes is not None else Processes()
    first = processes.rank == 0
    partial = folder.parent / f"{PARTIAL}{folder.name}-{processes.agree(os.getpid())}"

    def begin() -> None:
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)

    def end() -> None:
        for file in sorted(partial.rglob("*")):
            _flush(file)
        _flush(partial)
        os.rename(partial, folder)

    try:
        processes.together(begin if first else None)
        processes.together(lambda: write(partial))
        processes.together(end if first else None)
    except BaseException:
        if first:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    if first:
        _flush(folder.parent)


def point(link: Path, target: Path) -> None:
    """Make the symbolic link `link` point to its sibling `target`, in one atomic step."""
    fresh = link.parent / f"{PARTIAL}{link.name}-{os.getpid()}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target.name)
    os.replace(fresh, link)
    _flush(link.parent)


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The object in `path`; UserError when it is missing or damaged."""
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path.parent} is not a vnc checkpoint: it has no {path.name}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); use another checkpoint") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} does not hold a JSON object; use another checkpoint")
    return value


def resolve(path: Path) -> Path:
    """The checkpoint that `path` means: itself, or the last one of a run folder or a `checkpoints` folder."""
    for candidate in (path, path / "last", path / "checkpoints" / "last"):
        if (candidate / MODEL_JSON).is_file():
            return candidate
    if not path.exists():
        raise UserError(f"{path} does not exist; give a checkpoint directory such as runs/NAME/checkpoints/last")
    raise UserError(f"{path} is not a vnc checkpoint: it has no {MODEL_JSON}; "
                    "give a directory such as runs/NAME/checkpoints/last")  # fmt: skip


def write_model_json(folder: Path, config: GPTConfig, chat: bool) -> None:
    write_json(folder / MODEL_JSON, {"format": FORMAT, "config": dataclasses.asdict(config), "chat": chat})


def read_model_json(folder: Path) -> tuple[GPTConfig, bool]:
    """(sizes, trained to chat?) of a checkpoint or export."""
    values = read_json(folder / MODEL_JSON)
    if values.get("format") != FORMAT:
        raise UserError(
            f"{folder / MODEL_JSON}: format {values.get('format')!r} is not one this version reads ({FORMAT})"
        )
    return GPTConfig.from_dict(values["config"], str(folder / MODEL_JSON)), bool(values["chat"])


def load_weights(folder: Path, gpt: GPT) -> None:
    """Fill `gpt` from a checkpoint or an export, keeping the dtype of its parameters."""
    parameters = {name: Piece.whole(parameter.data) for name, parameter in gpt.named_parameters()}
    if (folder / MODEL_FILE).is_file():
        load_file(folder / MODEL_FILE, parameters)
    else:
        load_tensors(folder / MODEL_DIR, parameters)


def load_tensors(folder: Path, into: Mapping[str, Piece]) -> None:
    """Fill the pieces in place from the shards in `folder`, whichever number of processes wrote them.

    Every name must be there with the same shape; UserError names the first that is not, or the damaged file.
    """
    found = shards(folder)
    if len(found) == 1:
        return load_file(found[0], into)
    from vnc.sharded_tensors import load_pieces

    return load_pieces(folder, into)


def load_model(
    path: Path | str, device: torch.device | str = "cpu", compute_dtype: torch.dtype | None = None
) -> LoadedModel:
    """Open a checkpoint, a run's last checkpoint or an export for inference.

    `compute_dtype` None takes what vnc.precision chooses for the device.
    """
    from vnc.precision import choose_compute_dtype

    folder = resolve(Path(path))
    config, chat = read_model_json(folder)
    tokenizer = Tokenizer.load(folder)
    # An imported GPT-2 (vnc/gpt2_import.py) ends with its BOS: it has no tokens of conversations, and cannot say them.
    imported = not chat and config.vocab_size == tokenizer.bos_id + 1
    if tokenizer.vocab_size != config.vocab_size and not imported:
        raise UserError(f"{folder}: its tokenizer has {tokenizer.vocab_size} tokens, its model {config.vocab_size}; "
                        "files of two checkpoints were mixed")  # fmt: skip
    dtype = compute_dtype if compute_dtype is not None else choose_compute_dtype("auto", device)[0]
    with torch.device("meta"):
        gpt = GPT(config, dtype)
    gpt.to_empty(device=device)
    load_weights(folder, gpt)
    return LoadedModel(gpt.eval().requires_grad_(False), tokenizer, chat, folder)


def export(checkpoint: Path | str, out: Path | str, dtype: str = "bfloat16") -> Path:
    """Write weights, sizes and tokenizer of a checkpoint to the new directory `out`, for inference.

    `dtype`: bfloat16 (half the size) or float32 (exactly the trained weights).
    """
    from vnc.precision import DTYPES

    out = Path(out)
    if out.exists():
        raise UserError(f"{out} exists already; choose another place or remove it first")
    if dtype not in DTYPES:
        raise UserError(f"dtype={dtype!r}: use {' or '.join(DTYPES)}")
    loaded = load_model(checkpoint, compute_dtype=torch.float32)

    def write(folder: Path) -> None:
        tensors = {name: p.data.to(DTYPES[dtype]).contiguous() for name, p in loaded.gpt.named_parameters()}
        safetensors.torch.save_file(tensors, folder / MODEL_FILE)
        write_model_json(folder, loaded.gpt.config, loaded.chat)
        loaded.tokenizer.save(folder)

    publish(out, write)
    return out


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
