"""The token cache: what it holds, when it is made again, and what it does not take for whole."""

import multiprocessing
import os
import pickle
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules import FineWebEdu, token_cache
from datamodules.parquet import read_shards
from datamodules.token_cache import CachedText, MappedTokens
from datamodules.tokenized_text import TokenizedText, tokenize
from datamodules.windows import TextWindows
from vnc.errors import UserError
from vnc.tokenizer import Tokenizer

Attach = Callable[..., Any]


@pytest.fixture
def folder(corpus: Path, tmp_path: Path) -> Path:
    """The corpus, with some documents that hold nothing."""
    copy = tmp_path / "data"
    shutil.copytree(corpus, copy, ignore=shutil.ignore_patterns(".tokens"))
    write_plain(copy / "shard_1.parquet", ["one", "", "  \n ", "two", *["many words here"] * 196])
    return copy


def write_plain(path: Path, texts: list[str]) -> None:
    """Neither compressed nor described, so that other texts of the same length make a file of the same size."""
    pq.write_table(pa.table({"text": texts}), path, row_group_size=50, compression="none", use_dictionary=False,
                   write_statistics=False)  # fmt: skip


@pytest.fixture
def tokenizer(tokenizer_folder: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_folder)


def cached(folder: Path, tokenizer: Tokenizer, lanes: int = 4) -> CachedText:
    training, _ = read_shards(folder)
    texts = TextWindows.of("texts", training, lanes)
    return CachedText(texts, token_cache.token_cache(training, tokenizer, folder / ".tokens"), tokenizer.vocab_size)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob(".tokens/*/*.arrow"))


@pytest.mark.parametrize("lanes", [1, 3, 7])
def test_the_cache_holds_what_tokenising_on_the_fly_gives(folder: Path, tokenizer: Tokenizer, lanes: int) -> None:
    """Over windows that span row groups and shards, some documents empty."""
    from_cache = cached(folder, tokenizer, lanes)
    on_the_fly = TokenizedText(from_cache.texts, tokenizer)
    assert from_cache.count == on_the_fly.count >= lanes
    for window in range(from_cache.count):
        one, other = from_cache.documents(0, window), on_the_fly.documents(3, window)
        assert one.tokens.dtype == other.tokens.dtype == np.uint16
        assert one.tokens.tolist() == other.tokens.tolist() and one.starts.tolist() == other.starts.tolist()
    again = pickle.loads(pickle.dumps(from_cache))
    assert again.documents(0, 0).tokens.tolist() == from_cache.documents(0, 0).tokens.tolist()


def test_a_window_inside_a_row_group_is_a_view_of_the_mapped_file(folder: Path, tokenizer: Tokenizer) -> None:
    tokens = MappedTokens(files_made(folder, tokenizer)[0]).group(0, 5, 40).tokens
    assert len(tokens) and not tokens.flags.owndata and not tokens.flags.writeable


def files_made(folder: Path, tokenizer: Tokenizer) -> list[Path]:
    cached(folder, tokenizer)
    return files(folder)


def test_tokens_are_made_once_and_again_when_the_text_changes(folder: Path, tokenizer: Tokenizer) -> None:
    made = {path: path.stat().st_mtime_ns for path in files_made(folder, tokenizer)}
    assert len(made) == 2
    assert {path: path.stat().st_mtime_ns for path in files_made(folder, tokenizer)} == made
    os.utime(folder / "shard_0.parquet")  # touched, but the same
    assert {path: path.stat().st_mtime_ns for path in files_made(folder, tokenizer)} == made

    before = (folder / "shard_1.parquet").stat()
    write_plain(folder / "shard_1.parquet", ["two", "", "  \n ", "one", *["many words here"] * 196])
    assert (folder / "shard_1.parquet").stat().st_size == before.st_size  # no size gives the change away
    changed = cached(folder, tokenizer, 1).documents(0, 4)
    assert tokenizer.decode(changed[0][1:]) == "two"
    assert [path.stat().st_mtime_ns == made[path] for path in files(folder)] == [True, False]


def test_each_vocabulary_has_its_own(folder: Path, tokenizer: Tokenizer) -> None:
    cached(folder, tokenizer)
    other = Tokenizer.train(["some other words and other pairs of letters"] * 3, 270)
    assert cached(folder, other).documents(0, 0).tokens.max() < 270
    assert len(files(folder)) == 4


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.999])
def test_a_file_that_is_not_whole_is_made_again(folder: Path, tokenizer: Tokenizer, kept: float) -> None:
    expected = cached(folder, tokenizer, 1).documents(0, 0).tokens.tolist()
    first = files(folder)[0]
    content = first.read_bytes()
    first.write_bytes(content[: int(kept * len(content) if kept < 1 else kept)])
    with pytest.warns(UserWarning, match=r"shard_0.*not a whole token file .*made again"):
        assert cached(folder, tokenizer, 1).documents(0, 0).tokens.tolist() == expected
    assert first.read_bytes() == content


def test_an_id_outside_the_vocabulary_is_refused(folder: Path, tokenizer: Tokenizer) -> None:
    cached(folder, tokenizer)
    path = files(folder)[0]
    content = bytearray(path.read_bytes())
    ids = cached(folder, tokenizer, 1).documents(0, 0).tokens[:50].tobytes()
    place = content.index(ids) + 20  # the eleventh token
    content[place : place + 2] = (60_000).to_bytes(2, "little")
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"shard_0.*row group 0: token id 60000 is outside the vocabulary of 320.*remove"
    ):
        cached(folder, tokenizer, 1).documents(0, 0)


def test_large_vocabularies_take_four_bytes() -> None:
    large: Any = SimpleNamespace(
        vocab_size=70_000, bos_id=69_999, encode_to_array=lambda text: np.array([65_600], "u4")
    )
    documents = tokenize(["one", " ", "two"], large)
    assert documents.tokens.dtype == np.uint32 and documents.tokens.tolist() == [69_999, 65_600] * 2
    assert documents.starts.tolist() == [0, 2, 2, 4]


def test_a_full_disk_is_told_before_anything_is_written(
    folder: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_cache.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"tokens need about .* GB, 0.00 GB are free.*--data.token_cache false"):
        cached(folder, tokenizer)
    assert files(folder) == []


def test_a_folder_that_cannot_be_written_says_what_to_do(folder: Path, tokenizer: Tokenizer) -> None:
    (folder / ".tokens").write_text("in the way")
    with pytest.raises(UserError, match=r"tokens cannot be written .*--data.token_cache false"):
        cached(folder, tokenizer)


def _make(folder: Path, tokenizer_folder: Path) -> None:
    cached(folder, Tokenizer.load(tokenizer_folder))


def test_processes_that_come_at_once_make_them_once(folder: Path, tokenizer_folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_make, args=(folder, tokenizer_folder)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    left = {path.name for path in folder.glob(".tokens/*/*")}
    assert left == {".lock", "shard_0.parquet.arrow", "shard_1.parquet.arrow"}


def test_a_process_killed_while_it_writes_leaves_nothing_that_is_taken_for_whole(
    folder: Path, tokenizer: Tokenizer, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = os.fork()
    if child == 0:  # stops for ever between writing and renaming
        monkeypatch.setattr(token_cache.os, "replace", lambda *_: time.sleep(60))
        _make(folder, tokenizer_folder)
        os._exit(0)
    deadline = time.monotonic() + 30
    while not list(folder.glob(".tokens/*/.shard_0*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert files(folder) == []
    assert len(cached(folder, tokenizer, 1).documents(0, 0)) == 50
    assert len(files(folder)) == 2


def test_training_reads_the_same_rows_with_and_without_it(folder: Path, tokenizer_folder: Path, attach: Attach) -> None:
    def rows(**options: Any) -> list[Any]:
        data = attach(FineWebEdu(str(folder), str(tokenizer_folder), lanes=4, **options), num_steps=30)
        return [batch.rows.tolist() for batch in data.train_dataloader()]

    assert rows() == rows(token_cache=False) == rows(token_cache=False, num_workers=2)
    assert rows(cache_dir=str(folder.parent / "elsewhere")) == rows()
    assert len(list((folder.parent / "elsewhere").glob("data-*/*/*.arrow"))) == 3


def test_data_folders_that_share_a_cache_folder_do_not_meet(
    folder: Path, corpus: Path, tokenizer_folder: Path, tmp_path: Path, attach: Attach
) -> None:
    """Their shards have the same names."""
    elsewhere = str(tmp_path / "elsewhere")
    for data_dir in (folder, corpus, folder):
        attach(FineWebEdu(str(data_dir), str(tokenizer_folder), lanes=4, cache_dir=elsewhere))
    assert len(list(Path(elsewhere).glob("*/*/*.arrow"))) == 6
