"""FineWebEdu on small shards and, where they are, on real ones."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules import FineWebEdu
from datamodules.bestfit import bestfit_split
from vnc.errors import UserError
from vnc.tokenizer import Tokenizer

Attach = Callable[..., Any]


def test_rows_are_the_text(corpus: Path, tokenizer_folder: Path, attach: Attach, text: Callable[[int], str]) -> None:
    """Every stretch from BOS to BOS is the beginning of one document of the training shards, used once in an epoch."""
    data = attach(FineWebEdu(str(corpus), str(tokenizer_folder), "bestfit_crop", lanes=4), rows=8, num_steps=10)
    tokenizer = Tokenizer.load(tokenizer_folder)
    documents = {tokenizer.decode(tokenizer.encode(text(number))) for number in range(400)}
    seen: list[str] = []
    for batch in data.train_dataloader():
        for row in batch.rows.flatten(0, 1).numpy():
            assert row[0] == tokenizer.bos_id and row.min() >= 0
            starts = np.flatnonzero(row == tokenizer.bos_id)
            seen += [tokenizer.decode(piece[1:]) for piece in np.split(row, starts[1:])]
    assert all(any(document.startswith(one) for document in documents) for one in seen)
    long_enough = [one for one in seen if len(one) > 12]  # so long that the document's number is in it
    assert len(long_enough) > 80 and len(set(long_enough)) == len(long_enough)


def test_an_epoch_reads_all_windows_of_the_training_shards_and_no_validation(
    corpus: Path, tokenizer_folder: Path, attach: Attach, text: Callable[[int], str]
) -> None:
    data = attach(FineWebEdu(str(corpus), str(tokenizer_folder), lanes=4))
    for window in range(data.train_windows.count):
        documents = data.train_windows.documents(0, window)
        again = data.train_windows.documents(1, window)
        assert again.tokens.tolist() == documents.tokens.tolist() and again.starts.tolist() == documents.starts.tolist()
    first = [document for window in range(4) for document in data.train_windows.documents(0, window)]
    tokenizer = data.tokenizer
    assert [tokenizer.decode(one[1:]) for one in first] == [text(number) for number in range(400)]
    held_out = [tokenizer.decode(one[1:]) for one in data.val_windows.documents(0, 0)]
    assert held_out == [text(number) for number in range(400, 460)]


def test_validation_is_the_same_for_all_seeds_lanes_and_worlds(
    corpus: Path, tokenizer_folder: Path, attach: Attach
) -> None:
    def rows(world: int = 1, **options: Any) -> list[Any]:
        found = []
        for rank in range(world):
            data = attach(
                FineWebEdu(str(corpus), str(tokenizer_folder), val_tokens=32 * 21, **options), rank=rank, world=world
            )
            found += [row for batch in data.val_dataloader() for row in batch.rows[0].tolist() if row[1] >= 0]
        return sorted(found)

    expected = rows(lanes=8)
    assert len(expected) == 21
    assert rows(lanes=16) == rows(lanes=8, seed=99) == rows(world=4, lanes=8) == rows(world=8, lanes=8) == expected


def test_validation_has_at_least_one_row_and_at_most_all(corpus: Path, tokenizer_folder: Path, attach: Attach) -> None:
    few = attach(FineWebEdu(str(corpus), str(tokenizer_folder), lanes=8, val_tokens=1))
    assert few.validation_rows().shape == (1, 33)
    many = attach(FineWebEdu(str(corpus), str(tokenizer_folder), lanes=8, val_tokens=10**9))
    lengths = [len(document) for document in many.val_windows.documents(0, 0)]
    assert len(many.validation_rows()) == sum(count for _, _, count in bestfit_split(lengths, 33)) // 33


def test_documents_that_are_all_empty_are_an_error(
    tmp_path: Path, corpus: Path, tokenizer_folder: Path, attach: Attach, write_shard: Callable[..., Path]
) -> None:
    full = corpus / "shard_0.parquet"
    empty = write_shard(tmp_path / "empty.parquet", ["", "  \n"] * 40)
    for name, shards in {"training": (empty, full), "validation": (full, empty)}.items():
        folder = tmp_path / name
        folder.mkdir()
        for shard, source in zip("ab", shards, strict=True):
            shutil.copy(source, folder / f"{shard}.parquet")
        data = attach(FineWebEdu(str(folder), str(tokenizer_folder), lanes=4))
        with pytest.raises(UserError, match=rf"{name} shard.*documents are empty"):
            next(iter(data.train_dataloader() if name == "training" else data.val_dataloader()))


def test_a_changed_file_is_named_on_resume(
    tmp_path: Path, corpus: Path, tokenizer_folder: Path, attach: Attach, write_shard: Callable[..., Path]
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(corpus, folder)
    state = attach(FineWebEdu(str(folder), str(tokenizer_folder), lanes=8)).state_dict()
    moved = FineWebEdu(str(corpus), str(tokenizer_folder), lanes=8)
    moved.load_state_dict(state)
    attach(moved).train_dataloader()  # the same files in another place are the same data

    write_shard(folder / "shard_1.parquet", ["something else"] * 200)
    changed = FineWebEdu(str(folder), str(tokenizer_folder), lanes=8)
    changed.load_state_dict(state)
    with pytest.raises(UserError, match=r"shard_1.parquet was .* 200 documents when"):
        attach(changed).train_dataloader()


def test_a_missing_folder_says_how_to_get_data(tokenizer_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such data folder.*vnc prepare"):
        FineWebEdu(str(tmp_path / "nowhere"), str(tokenizer_folder)).setup("fit")


def test_real_shards_fill_rows_and_resume(
    shared_data: Path, tokenizer_folder: Path, tmp_path: Path, attach: Attach
) -> None:
    def data() -> FineWebEdu:
        return FineWebEdu(
            str(shared_data / "text"),
            str(tokenizer_folder),
            "bestfit_split",
            lanes=8,
            val_tokens=128 * 64,
            cache_dir=str(tmp_path),  # the shared folder is only read
        )

    whole = attach(data(), sequence_len=128, rows=8, num_steps=4)
    batches = list(whole.train_dataloader())
    assert {tuple(batch.rows.shape) for batch in batches} == {(2, 4, 129)}
    assert all((batch.rows[..., 0] == whole.tokenizer.bos_id).all() and batch.rows.min() >= 0 for batch in batches)
    for batch in batches[:2]:
        whole.on_after_batch_transfer(batch, 0)
    resumed = data()
    resumed.load_state_dict(whole.state_dict())
    rest = list(attach(resumed, sequence_len=128, rows=8, num_steps=4, global_step=2).train_dataloader())
    assert [batch.rows.tolist() for batch in rest] == [batch.rows.tolist() for batch in batches[2:]]
    assert len(whole.validation_rows()) == 64
