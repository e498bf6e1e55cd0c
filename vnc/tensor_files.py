"""Tensors in safetensors files: what a file holds is checked before anything is read from it.

One file, as one process writes it or an export is, is read here. Folders of several, each with what one of the
processes held, are torch.distributed.checkpoint's (vnc/sharded_tensors.py); importing that takes longer than reading a
small model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors

from vnc.buckets import Piece
from vnc.errors import UserError


def load_file(path: Path, into: Mapping[str, Piece]) -> None:
    """Fill the pieces in place from a file that holds all of each tensor.

    Every name must be there with the same shape; UserError names the first that is not, or the damaged file.
    """
    check_shard(path)
    with safetensors.safe_open(path, framework="pt") as file:
        names = file.keys()
        found = {name: file.get_slice(name) for name in names}
        shapes = {name: tuple(tensor.get_shape()) for name, tensor in found.items()}
        compare_shapes(path, shapes, {name: piece.shape for name, piece in into.items()})
        for name, piece in into.items():
            if not piece.shape:  # a slice must be of something
                piece.tensor.copy_(file.get_tensor(name))
                continue
            block = (slice(at, at + size) for at, size in zip(piece.offsets, piece.tensor.shape, strict=True))
            piece.tensor.copy_(found[name][tuple(block)])


def shards(folder: Path) -> list[Path]:
    """The files of tensors in `folder`; UserError when there are none."""
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise UserError(f"{folder} has no *.safetensors files; use another checkpoint")
    return found


def check_shard(path: Path) -> None:
    """UserError when a safetensors file is truncated or no such file: its header must describe its exact length."""
    try:
        with safetensors.safe_open(path, framework="pt"):
            pass
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} is truncated or damaged ({error}); use an earlier checkpoint") from None


def compare_shapes(source: Path, found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """UserError unless `found` has everything `wanted`."""
    for name, shape in wanted.items():
        if name not in found:
            raise UserError(f"{source} has no tensor {name!r}: it was saved by another model or optimizer")
        if found[name] != tuple(shape):
            raise UserError(f"{source}: {name} has shape {found[name]}, this run needs {tuple(shape)}; "
                            "the model's sizes or vocabulary differ")  # fmt: skip
