"""The manifest of a data folder: which shards it holds, their sizes and checksums, and what they were made from.

`vnc prepare` writes `manifest.json` last, so a folder that has one is complete. It holds no times and no names of
machines: the same data prepared with the same settings has the same manifest, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from datamodules.durable import write_json
from datamodules.progress import Progress
from vnc.errors import UserError

MANIFEST = "manifest.json"
FORMAT = 1
_CHUNK = 1 << 22


@dataclass(frozen=True)
class ShardEntry:
    """One Parquet file of the folder."""

    name: str
    """Path in the folder, with forward slashes."""
    rows: int
    bytes: int
    sha256: str
    """Of the file, in hexadecimal."""

    @property
    def version(self) -> str:
        """What the content goes by."""
        return f"sha256 {self.sha256}"

    def check_size(self, location: str, size: int) -> None:
        """Raises UserError where the file at `location` has another size."""
        if size != self.bytes:
            raise UserError(f"{location}: {size} bytes, but {self.bytes} in {MANIFEST}: changed or cut short; fetch it "
                            "again, or prepare the data again into another folder")  # fmt: skip


@dataclass(frozen=True)
class Manifest:
    """What a data folder holds and where it came from."""

    dataset: str
    source: str
    """As the user named it; for a Hub dataset with the commit that was read."""
    settings: dict[str, Any]
    """Everything the bytes depend on besides the source; JSON-able."""
    shards: tuple[ShardEntry, ...]
    left_out: dict[str, int]
    """How many documents (or files) are not among the rows, by reason."""
    documents: int
    """Rows of all shards."""


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder, None when it has none. UserError when it is broken or names a shard twice."""
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); prepare the data again") from None
    return parse_manifest(content, str(path))


def parse_manifest(content: bytes, location: str) -> Manifest:
    """The manifest in `content`, which was read from `location`. UserError when it is broken or names a shard twice."""
    try:
        value = json.loads(content)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{location}: cannot be read ({reason}); prepare the data again") from None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise UserError(f"{location}: not a manifest of format {FORMAT}; prepare the data again with this version of "
                        "vnc")  # fmt: skip
    try:
        shards = tuple(_entry(shard) for shard in value["shards"])
        manifest = Manifest(str(value["dataset"]), str(value["source"]), dict(value["settings"]), shards,
                            {str(key): int(count) for key, count in value["left_out"].items()},
                            int(value["documents"]))  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{location}: broken ({type(error).__name__}: {error}); prepare the data again") from None
    names = [shard.name for shard in shards]
    twice = next((name for position, name in enumerate(names) if name in names[:position]), None)
    if twice is not None:
        raise UserError(f"{location}: names the shard {twice} twice; prepare the data again")
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write FOLDER/manifest.json in one step."""
    write_json(folder / MANIFEST, {"format": FORMAT, **asdict(manifest)})


def check_files(folder: Path, manifest: Manifest) -> None:
    """Every shard is there with its size and there is no other Parquet file; reads no content.

    UserError names the first file that is amiss."""
    for shard in manifest.shards:
        path = folder / shard.name
        if not path.is_file():
            raise UserError(f"{path}: missing, though {MANIFEST} names it; prepare the data again into another folder")
        shard.check_size(str(path), path.stat().st_size)
    known = {shard.name for shard in manifest.shards}
    for path in sorted(folder.rglob("*.parquet")):
        name = path.relative_to(folder)
        if name.as_posix() not in known and not any(part.startswith(".") for part in name.parts):
            raise UserError(f"{path}: not in {MANIFEST}; move it out of {folder}, which holds prepared data alone")


def check_content(folder: Path, manifest: Manifest) -> None:
    """The SHA-256 of every shard is the manifest's; reads all of them. UserError names the first that differs."""
    with Progress("checking", sum(shard.bytes for shard in manifest.shards)) as progress:
        for shard in manifest.shards:
            path, digest = folder / shard.name, hashlib.sha256()
            try:
                with path.open("rb") as file:
                    while chunk := file.read(_CHUNK):
                        digest.update(chunk)
                        progress.advance(len(chunk))
            except OSError as error:
                raise UserError(f"{path}: cannot be read ({error.strerror}); prepare the data again") from None
            if digest.hexdigest() != shard.sha256:
                raise UserError(f"{path}: its content differs from {MANIFEST} (SHA-256 {digest.hexdigest()[:12]}..., "
                                f"not {shard.sha256[:12]}...); prepare the data again into another folder")  # fmt: skip


def _entry(value: dict[str, Any]) -> ShardEntry:
    name = str(value["name"])
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise ValueError(f"the shard {name!r} lies outside of the folder")
    return ShardEntry(name, int(value["rows"]), int(value["bytes"]), str(value["sha256"]))
