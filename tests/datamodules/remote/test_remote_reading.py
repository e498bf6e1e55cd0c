"""Texts from a server are those of the same files on this machine, for as few bytes as can be."""

import hashlib
import json
import multiprocessing
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from datamodules import remote
from datamodules.fineweb_edu import FineWebEdu
from datamodules.parquet import read_shards, read_texts
from tests.datamodules.http_server import FileServer, HubServer
from tests.datamodules.remote_shards import pattern, served, texts_of

pytestmark = pytest.mark.filterwarnings("ignore:.*trying again:UserWarning")

WriteShard = Callable[..., Path]


# ---- the same texts


@pytest.mark.parametrize("kind", ["names", "folder", "s3", "memory"])
def test_texts_are_those_of_the_local_files(kind: str, corpus: Path, files: dict[str, bytes]) -> None:
    with served(kind, files) as (url, _):
        training, validation = read_shards(url)
        assert [shard.name for shard in training] == ["shard_0.parquet", "shard_1.parquet"]
        assert [shard.row_groups for shard in training] == [(50,) * 4] * 2 and validation.row_groups == (50, 10)
        assert validation.size == len(files["data/shard_2.parquet"])
        assert texts_of(training, validation) == texts_of(*read_shards(corpus))


def test_file_urls_are_read(corpus: Path) -> None:
    assert texts_of(*read_shards(f"file://{corpus}")) == texts_of(*read_shards(corpus))


def text_columns(folder: Path) -> int:
    """Bytes of the text column in all row groups of all files."""
    found = [pq.read_metadata(path) for path in folder.glob("*.parquet")]
    return sum(each.row_group(group).column(1).total_compressed_size for each in found
               for group in range(each.num_row_groups))  # fmt: skip


HUB_READER = """
import json, sys
from datamodules.parquet import identity, read_shards, read_texts
training, validation = read_shards(sys.argv[1])
shards = [*training, validation]
texts = [read_texts(shard, group) for shard in shards for group in range(len(shard.row_groups))]
print(json.dumps([str(validation), identity(shards), texts]))
"""


@pytest.mark.parametrize("revision", ["", "@v1"])
def test_the_hub_is_read_at_one_commit(revision: str, corpus: Path, files: dict[str, bytes]) -> None:
    """In a process of its own: huggingface_hub reads HF_ENDPOINT when it is imported."""
    commit = "c" * 40
    with HubServer({f"{commit}/sample/10BT/{Path(name).name}": content for name, content in files.items()}) as hub:
        hub.heads = {"v1" if revision else "main": commit}
        hub.faults = [] if revision else ["500", "short", "damaged"]
        url = f"hf://datasets/someone/texts{revision}/sample/10BT"
        ended = subprocess.run(
            [sys.executable, "-c", HUB_READER, url],
            env=os.environ | {"HF_ENDPOINT": hub.url, "PYTHONPATH": str(Path(remote.__file__).parents[1])},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        assert all(commit in sent.path for sent in hub.sent(".parquet"))
        if not hub.faults and revision:
            ends = sum(min(2**16, len(content)) for content in files.values())
            assert sum(sent.bytes for sent in hub.sent(".parquet")) == ends + text_columns(corpus)
    location, found, texts = json.loads(ended.stdout)
    assert location == f"{url}/shard_2.parquet"
    assert texts == texts_of(*read_shards(corpus))
    assert found["shard_2.parquet"].endswith(f"sha256 {hashlib.sha256(files['data/shard_2.parquet']).hexdigest()}")


@pytest.mark.parametrize("kind, method", [("names", "fork"), ("s3", "fork"), ("s3", "spawn")])
def test_another_process_reads_on(kind: str, method: str, corpus: Path, files: dict[str, bytes]) -> None:
    """As a DataLoader's worker does: the parent has open connections, the child makes its own."""
    with served(kind, files) as (url, _):
        training, validation = read_shards(url)
        assert read_texts(training[0], 0)
        context: Any = multiprocessing.get_context(method)
        with context.Pool(1) as pool:
            assert pool.apply_async(texts_of, (training, validation)).get(60) == texts_of(*read_shards(corpus))


def test_shards_can_be_pickled(server: FileServer, corpus: Path, tmp_path: Path) -> None:
    shards = read_shards(pattern(server), cache_dir=tmp_path)
    assert texts_of(*pickle.loads(pickle.dumps(shards))) == texts_of(*read_shards(corpus))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["names", "s3"])
def test_training_reads_the_rows_of_the_local_folder(
    kind: str, workers: int, corpus: Path, files: dict[str, bytes], tokenizer_folder: Path, tmp_path: Path,
    attach: Callable[..., Any],
) -> None:  # fmt: skip
    def rows(data_dir: str, **options: Any) -> tuple[list[Any], list[Any]]:
        data = attach(FineWebEdu(data_dir, str(tokenizer_folder), lanes=4, val_tokens=320, **options), num_steps=20)
        return [batch.rows.tolist() for batch in data.train_dataloader()], data.validation_rows().tolist()

    with served(kind, files) as (url, server):
        kept = str(tmp_path / "kept")
        found = rows(url, cache_dir=kept, num_workers=workers)
        assert found == rows(str(corpus), cache_dir=str(tmp_path / "tokens"))
        assert server is not None
        before = len(server.log)
        assert rows(url, cache_dir=kept) == found
        assert sum(sent.bytes for sent in server.log[before:]) < 5_000  # from the disk, but for a look at each file


# ---- what travels


def test_a_row_group_costs_its_column_chunk(server: FileServer, files: dict[str, bytes], tmp_path: Path) -> None:
    training, _ = read_shards(pattern(server))
    before = len(server.log)
    read_texts(training[0], 2, 10, 20)
    read_texts(training[0], 2, 20, 30)
    (sent,) = server.log[before:]
    (tmp_path / "a.parquet").write_bytes(files["data/shard_0.parquet"])
    column = pq.read_metadata(tmp_path / "a.parquet").row_group(2).column(1)
    assert column.path_in_schema == "text" and sent.bytes == column.total_compressed_size


def test_a_footer_costs_the_end_of_the_file(server: FileServer, write_shard: WriteShard, tmp_path: Path) -> None:
    rng = random.Random(5)
    words = ["".join(rng.choices("abcdefghijklmnop", k=400)) for _ in range(1500)]
    server.files["data/shard_0.parquet"] = write_shard(tmp_path / "a.parquet", words, row_group=500).read_bytes()
    assert len(server.files["data/shard_0.parquet"]) > 400_000
    read_shards(pattern(server))
    assert sum(sent.bytes for sent in server.sent("shard_0.parquet")) <= 2**16 + 1


def test_several_row_groups_are_on_their_way_at_once(server: FileServer, corpus: Path) -> None:
    training, validation = read_shards(pattern(server))
    server.busiest, server.choose = 0, lambda asked: "slow"
    assert texts_of(training, validation, threads=10) == texts_of(*read_shards(corpus))
    assert server.busiest >= 5


def test_threads_that_want_one_row_group_fetch_it_once(server: FileServer) -> None:
    training, _ = read_shards(pattern(server))
    before, server.choose = len(server.log), lambda asked: "slow"
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda first: read_texts(training[0], 1, first, first + 1), range(8)))
    assert found == [[text] for text in read_texts(training[0], 1, 0, 8)] and len(server.log) == before + 1


def test_only_the_first_shards_are_looked_at(server: FileServer) -> None:
    training, validation = read_shards(pattern(server), max_shards=2)
    assert [shard.name for shard in (*training, validation)] == ["shard_0.parquet", "shard_1.parquet"]
    assert not server.sent("shard_2.parquet")
