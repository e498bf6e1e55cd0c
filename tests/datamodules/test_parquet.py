"""Parquet folders, good and bad. Every bad one must end in one line that names the file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules.parquet import identity, open_shard, read_shards, read_texts
from datamodules.recent import RECENT
from tests.datamodules.refused import refused

WriteShard = Callable[..., Path]


def test_the_last_shard_by_name_is_validation(corpus: Path) -> None:
    training, validation = read_shards(corpus)
    assert [shard.name for shard in training] == ["shard_0.parquet", "shard_1.parquet"]
    assert validation.name == "shard_2.parquet" and str(validation) == str(corpus / "shard_2.parquet")
    assert [shard.row_groups for shard in training] == [(50,) * 4] * 2 and validation.row_groups == (50, 10)
    assert training[0].size == (corpus / "shard_0.parquet").stat().st_size


def test_only_the_first_shards_are_taken(corpus: Path) -> None:
    training, validation = read_shards(corpus, max_shards=2)
    assert [shard.name for shard in (*training, validation)] == ["shard_0.parquet", "shard_1.parquet"]
    with refused("max_shards=1: at least 2"):
        read_shards(corpus, max_shards=1)


def test_identity_is_sizes_and_counts(corpus: Path) -> None:
    size = (corpus / "shard_2.parquet").stat().st_size
    assert identity([read_shards(corpus)[1]]) == {"shard_2.parquet": f"{size} bytes with 60 documents"}


def test_a_manifest_gives_checksums_and_is_held_to_its_sizes(tmp_path: Path, write_shard: WriteShard) -> None:
    sizes = [write_shard(tmp_path / f"{name}.parquet", [name]).stat().st_size for name in "ab"]
    listed = [{"name": f"{name}.parquet", "rows": 1, "bytes": size, "sha256": name * 64}
              for name, size in zip("ab", sizes, strict=True)]  # fmt: skip
    about = {"format": 1, "dataset": "text", "source": "here", "settings": {}, "left_out": {}, "documents": 2}
    (tmp_path / "manifest.json").write_text(json.dumps(about | {"shards": listed}))
    assert identity([read_shards(tmp_path)[1]]) == {
        "b.parquet": f"{sizes[1]} bytes with 1 documents, sha256 {'b' * 64}"
    }
    third = write_shard(tmp_path / "c.parquet", ["one more"])
    with refused("c.parquet: not in manifest.json"):
        read_shards(tmp_path)
    third.unlink()
    write_shard(tmp_path / "b.parquet", ["another text"])
    with refused("b.parquet: [0-9]* bytes, but [0-9]* in manifest.json"):
        read_shards(tmp_path)
    (tmp_path / "a.parquet").unlink()
    with refused("a.parquet: missing, though manifest.json names it"):
        read_shards(tmp_path)


def test_a_row_group_is_decoded_once_for_its_neighbours(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = open_shard(corpus / "shard_0.parquet")
    decoded, real = [], pq.ParquetFile.read_row_group

    def count(self: pq.ParquetFile, group: int, *args: Any, **options: Any) -> pa.Table:
        decoded.append(group)
        return real(self, group, *args, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", count)
    RECENT.forget()
    whole = [text for first in range(0, 50, 10) for text in read_texts(shard, 3, first, first + 10)]
    assert whole == read_texts(shard, 3) and decoded == [3]
    RECENT.forget()
    monkeypatch.setattr(RECENT, "max_bytes", 10)  # as of a row group larger than all that is kept
    assert whole == read_texts(shard, 3) == read_texts(shard, 3) and decoded == [3, 3, 3]


def test_a_file_that_changes_after_it_was_opened(tmp_path: Path, write_shard: WriteShard) -> None:
    shard = open_shard(write_shard(tmp_path / "a.parquet", ["one", "two"], row_group=1))
    assert read_texts(shard, 0) == ["one"]
    write_shard(tmp_path / "a.parquet", ["six", "ten"], row_group=1)
    with refused("a.parquet: changed while it was in use"):
        read_texts(shard, 1)
    (tmp_path / "a.parquet").unlink()
    with refused("a.parquet: cannot be read"):
        read_texts(shard, 1)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_all_kinds_of_strings_are_read(tmp_path: Path, kind: pa.DataType, write_shard: WriteShard) -> None:
    path = write_shard(tmp_path / "a.parquet", ["one", "two", "one"], kind=kind)
    open_shard(path)
    assert read_texts(path, 0, 1) == ["two", "one"]


def test_missing_folder(tmp_path: Path) -> None:
    with refused("nowhere: no such data folder.*data_dir"):
        read_shards(tmp_path / "nowhere")


def test_a_file_in_place_of_the_folder(corpus: Path) -> None:
    with refused("shard_0.parquet: a file"):
        read_shards(corpus / "shard_0.parquet")


def test_folder_without_shards(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with refused("no Parquet shards"):
        read_shards(tmp_path)


def test_one_shard_leaves_nothing_to_train_on(tmp_path: Path, write_shard: WriteShard) -> None:
    write_shard(tmp_path / "only.parquet", ["one"])
    with refused("only.parquet is its only shard"):
        read_shards(tmp_path)


def test_shards_without_documents(tmp_path: Path, write_shard: WriteShard) -> None:
    write_shard(tmp_path / "a.parquet", [])
    write_shard(tmp_path / "b.parquet", ["one"])
    with refused("training shards.*no documents"):
        read_shards(tmp_path)
    write_shard(tmp_path / "c.parquet", [])
    with refused("validation shards.*no documents"):
        read_shards(tmp_path)


@pytest.mark.parametrize("kept", [0, 3, 0.5, 0.99])
def test_truncated_file(tmp_path: Path, corpus: Path, kept: float, write_shard: WriteShard) -> None:
    whole = (corpus / "shard_0.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[: int(kept * len(whole) if kept < 1 else kept)])
    write_shard(tmp_path / "b.parquet", ["one"])
    with refused("a.parquet: not a whole Parquet file"):
        read_shards(tmp_path)


@pytest.mark.parametrize("compression", ["snappy", "none"])
def test_corrupt_row_group(tmp_path: Path, text: Callable[[int], str], compression: str) -> None:
    """Without compression only the page's checksum can tell that a letter has changed."""
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [text(number) for number in range(100)]})
    pq.write_table(table, path, row_group_size=50, write_page_checksum=True, compression=compression)
    broken = bytearray(path.read_bytes())
    broken[300] ^= 1
    path.write_bytes(broken)
    assert open_shard(path).documents == 100
    assert len(read_texts(path, 1)) == 50
    with refused("a.parquet, row group 0: cannot be read"):
        read_texts(path, 0)


def test_no_text_column(tmp_path: Path, write_shard: WriteShard) -> None:
    with refused("a.parquet: no column 'text' .*id, content"):
        open_shard(write_shard(tmp_path / "a.parquet", ["one"], column="content"))


@pytest.mark.parametrize(
    "values, kind", [([1, 2], pa.int64()), ([b"one"], pa.binary()), ([["one"]], pa.list_(pa.string()))]
)
def test_text_column_of_another_type(
    tmp_path: Path, values: list[object], kind: pa.DataType, write_shard: WriteShard
) -> None:
    with refused("a.parquet: column 'text' holds .*, not strings"):
        open_shard(write_shard(tmp_path / "a.parquet", values, kind=kind))


def test_null_document_is_found_on_opening(tmp_path: Path, write_shard: WriteShard) -> None:
    path = write_shard(tmp_path / "a.parquet", ["one", "two", "three", None], row_group=2)
    with refused("a.parquet, row group 1, row 1: the document is null"):
        open_shard(path)


def test_null_document_without_statistics_is_found_on_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["one", "two", None, "four"]}), path, write_statistics=False)
    open_shard(path)
    assert read_texts(path, 0, 0, 2) == ["one", "two"]
    with refused("a.parquet, row group 0, row 2: the document is null"):
        read_texts(path, 0, 2)


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    raw = pa.array([b"one", b"\xff\xfe"], type=pa.binary())
    pq.write_table(pa.table({"text": raw.view(pa.string())}), tmp_path / "a.parquet")
    with refused("a.parquet, row group 0, row 1: the document is not UTF-8"):
        read_texts(tmp_path / "a.parquet", 0)
