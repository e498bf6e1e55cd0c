"""A file in another version is never taken for this one, on the server, in the cache, or when a run is resumed."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules.parquet import identity, read_shards, read_texts
from datamodules.recent import RECENT
from tests.datamodules.http_server import FileServer
from tests.datamodules.refused import refused
from tests.datamodules.remote_shards import manifest, pattern, served, texts_of
from vnc.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:.*trying again:UserWarning")

WriteShard = Callable[..., Path]


# ---- identity


def test_identity_is_the_same_wherever_a_prepared_folder_lies(tmp_path: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (tmp_path / Path(name).name).write_bytes(content)
    (tmp_path / "manifest.json").write_bytes(manifest(files))
    local, _ = read_shards(tmp_path)
    with served("folder", files) as (url, _):
        training, _ = read_shards(url)
    digest = hashlib.sha256(files["data/shard_0.parquet"]).hexdigest()
    size = len(files["data/shard_0.parquet"])
    assert identity(training)["shard_0.parquet"] == f"{size} bytes with 200 documents, sha256 {digest}"
    assert identity(training) == identity(local)


def test_identity_tells_versions_apart(server: FileServer) -> None:
    before = identity(read_shards(pattern(server))[0])
    server.files["data/shard_1.parquet"] = server.files["data/shard_0.parquet"]
    after = identity(read_shards(pattern(server))[0])
    assert before["shard_0.parquet"] == after["shard_0.parquet"] and "etag" in before["shard_0.parquet"]
    assert before["shard_1.parquet"] != after["shard_1.parquet"]


# ---- the cache on disk


def test_a_second_start_fetches_nothing_again(server: FileServer, corpus: Path, tmp_path: Path) -> None:
    expected = texts_of(*read_shards(corpus))
    assert texts_of(*read_shards(pattern(server), cache_dir=tmp_path)) == expected
    RECENT.forget()
    before = len(server.log)
    assert texts_of(*read_shards(pattern(server), cache_dir=tmp_path)) == expected
    assert [sent.range for sent in server.log[before:]] == ["bytes=0-0"] * 3  # whether the files are still the same


def test_damaged_cache_files_are_fetched_again(server: FileServer, corpus: Path, tmp_path: Path) -> None:
    expected = texts_of(*read_shards(pattern(server), cache_dir=tmp_path))
    for number, path in enumerate(sorted(tmp_path.glob("*.range"))):
        content = bytearray(path.read_bytes())
        content[number * 7 % len(content)] ^= 1
        path.write_bytes(content if number % 2 else content[: len(content) // 2])
    RECENT.forget()
    before = len(server.log)
    assert texts_of(*read_shards(pattern(server), cache_dir=tmp_path)) == expected == texts_of(*read_shards(corpus))
    assert len(server.log) > before + 10


def twins(folder: Path) -> tuple[bytes, bytes]:
    """Two files of the same size and layout, so that the same ranges of them are read."""
    for name in ("one", "two"):
        pq.write_table(pa.table({"text": [name] * 100}), folder / name, compression="none", use_dictionary=False)
    return (folder / "one").read_bytes(), (folder / "two").read_bytes()


def test_the_cache_never_gives_another_version(server: FileServer, tmp_path: Path) -> None:
    one, two = twins(tmp_path)
    assert len(one) == len(two)
    for content, text in ((one, "one"), (two, "two"), (one, "one")):
        server.files["data/shard_0.parquet"] = content
        training, _ = read_shards(pattern(server), cache_dir=tmp_path / "cache")
        assert read_texts(training[0], 0) == [text] * 100


def test_what_came_from_another_version_is_not_kept(server: FileServer, tmp_path: Path) -> None:
    one, two = twins(tmp_path)
    server.files["data/shard_0.parquet"] = one
    training, _ = read_shards(pattern(server), cache_dir=tmp_path / "cache")
    server.files["data/shard_0.parquet"] = two
    with refused("shard_0.parquet: changed on the server"):
        read_texts(training[0], 0)
    server.files["data/shard_0.parquet"] = one
    assert read_texts(training[0], 0) == ["one"] * 100


def test_nothing_is_kept_of_a_file_that_has_no_version(server: FileServer, corpus: Path, tmp_path: Path) -> None:
    server.etags = False
    assert texts_of(*read_shards(pattern(server), cache_dir=tmp_path)) == texts_of(*read_shards(corpus))
    assert not list(tmp_path.glob("*.range"))


@pytest.mark.parametrize("fault", ["damaged", "short", "500"])
def test_nothing_bad_is_kept(fault: str, server: FileServer, tmp_path: Path) -> None:
    training, _ = read_shards(pattern(server), cache_dir=tmp_path)
    kept, server.choose = len(list(tmp_path.glob("*.range"))), lambda asked: fault
    with pytest.raises(UserError):
        read_texts(training[0], 0)
    assert len(list(tmp_path.glob("*.range"))) == kept


def test_a_small_cache_keeps_its_cap(server: FileServer, corpus: Path, tmp_path: Path) -> None:
    cap = 20_000
    found = texts_of(*read_shards(pattern(server), cache_dir=tmp_path, cache_bytes=cap), threads=4)
    assert found == texts_of(*read_shards(corpus))
    assert 0 < sum(path.stat().st_size for path in tmp_path.glob("*.range")) <= cap
