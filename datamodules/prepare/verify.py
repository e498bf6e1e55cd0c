"""`vnc prepare verify`: is prepared data what its manifest says?"""

from __future__ import annotations

from pathlib import Path

from datamodules.manifest import MANIFEST, check_content, check_files, read_manifest
from vnc.errors import UserError


def verify(data: str) -> None:
    """Check every shard of prepared data against manifest.json: there, whole, and unchanged to the last bit.

    Args:
        data: Folder that `vnc prepare` wrote.
    """
    folder = Path(data)
    manifest = read_manifest(folder)
    if manifest is None:
        raise UserError(f"--data {folder}: no {MANIFEST} there; name a folder that `vnc prepare` has finished")
    check_files(folder, manifest)
    check_content(folder, manifest)
    print(f"{folder}: {len(manifest.shards):,} shards with {manifest.documents:,} documents are as {MANIFEST} says")
