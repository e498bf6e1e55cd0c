"""`vnc export CHECKPOINT OUT`: the part of a checkpoint that inference needs."""

from __future__ import annotations

from typing import Literal


def export(checkpoint: str, out: str, dtype: Literal["bfloat16", "float32"] = "bfloat16") -> None:
    """Write weights, sizes and tokenizer of a checkpoint to a new folder.

    Args:
        checkpoint: Checkpoint directory, or a run folder for its last one.
        out: Folder to make.
        dtype: bfloat16 halves the size; float32 keeps the trained weights exactly.
    """
    from vnc import checkpoint as files

    folder = files.export(checkpoint, out, dtype)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder}: {size / 1e6:.1f} MB in {dtype}; talk to it with: vnc chat --checkpoint {folder}")
