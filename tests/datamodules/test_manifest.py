"""The manifest is read as it was written, and tells of every way in which a folder differs from it."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datamodules.manifest import Manifest, ShardEntry, check_content, check_files, read_manifest, write_manifest
from tests.datamodules.refused import refused


@pytest.fixture
def prepared(tmp_path: Path, write_shard: Callable[..., Path]) -> tuple[Path, Manifest]:
    entries = []
    for name, texts in (("shard_00000.parquet", ["one", "two"]), ("deep/test.parquet", ["three"])):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        content = write_shard(path, texts).read_bytes()
        entries.append(ShardEntry(name, len(texts), len(content), hashlib.sha256(content).hexdigest()))
    manifest = Manifest("text", "mine", {"seed": 42, "config": None}, tuple(entries), {"empty": 2}, 3)
    write_manifest(tmp_path, manifest)
    return tmp_path, manifest


def test_what_is_written_is_read(prepared: tuple[Path, Manifest]) -> None:
    folder, manifest = prepared
    assert read_manifest(folder) == manifest
    check_files(folder, manifest)
    check_content(folder, manifest)
    assert not list(folder.glob("*.part"))


def test_no_manifest(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None
    assert read_manifest(tmp_path / "nowhere") is None


@pytest.mark.parametrize("kept", [0, 20, 0.5, 0.98])
def test_cut_short(prepared: tuple[Path, Manifest], kept: float) -> None:
    path = prepared[0] / "manifest.json"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole) if 0 < kept < 1 else kept)])
    with refused("manifest.json: cannot be read"):
        read_manifest(path.parent)


@pytest.mark.parametrize(
    "change, match",
    [
        ({"format": 99}, "not a manifest of format 1"),
        ({"shards": 3}, "broken"),
        ({"documents": "many"}, "broken"),
        ({"left_out": []}, "broken"),
        ({"shards": [{"name": "../x.parquet", "rows": 1, "bytes": 1, "sha256": ""}]}, "outside of the folder"),
    ],
)
def test_broken(prepared: tuple[Path, Manifest], change: dict[str, Any], match: str) -> None:
    path = prepared[0] / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with refused(match):
        read_manifest(path.parent)


def test_a_shard_named_twice(prepared: tuple[Path, Manifest]) -> None:
    folder, manifest = prepared
    write_manifest(folder, replace(manifest, shards=(manifest.shards[0], *manifest.shards)))
    with refused("names the shard shard_00000.parquet twice"):
        read_manifest(folder)


def test_files_that_differ(prepared: tuple[Path, Manifest], write_shard: Callable[..., Path]) -> None:
    folder, manifest = prepared
    extra = write_shard(folder / "deep" / "more.parquet", ["four"])
    with refused(r"deep/more.parquet: not in manifest.json"):
        check_files(folder, manifest)
    extra.unlink()
    (folder / ".hidden").mkdir()
    write_shard(folder / ".hidden" / "more.parquet", ["four"])
    check_files(folder, manifest)
    path = folder / "shard_00000.parquet"
    path.write_bytes(path.read_bytes() + b"x")
    with refused(r"shard_00000.parquet: \d+ bytes, but \d+ in manifest.json"):
        check_files(folder, manifest)
    path.unlink()
    with refused("shard_00000.parquet: missing"):
        check_files(folder, manifest)


def test_one_changed_bit(prepared: tuple[Path, Manifest]) -> None:
    folder, manifest = prepared
    path = folder / "deep" / "test.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    check_files(folder, manifest)
    with refused("deep/test.parquet: its content differs"):
        check_content(folder, manifest)
