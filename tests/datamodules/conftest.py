"""Small data folders, and a data module attached to a plan as a trainer would attach it."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from datamodules.base import RowDataModule
from vnc.depth import make_plan
from vnc.tokenizer import Tokenizer

WORDS = ("the", "old", "boat", "on", "our", "lake", "is", "red", "and", "slow", "but", "it", "never", "sinks", "while")


def _text(number: int) -> str:
    length = 1 + number * 37 % 90
    return f"{number}: " + " ".join(WORDS[(number + k * k) % len(WORDS)] for k in range(length))


def _write_shard(path: Path, texts: list[Any], row_group: int = 50, column: str = "text", kind: Any = None) -> Path:
    table = pa.table({"id": list(range(len(texts))), column: pa.array(texts, type=kind or pa.string())})
    pq.write_table(table, path, row_group_size=row_group)
    return path


@pytest.fixture(scope="session")
def text() -> Callable[[int], str]:
    """text(number): a document that no other number has, of 1 to 90 words."""
    return _text


@pytest.fixture(scope="session")
def write_shard() -> Callable[..., Path]:
    """write_shard(path, texts, row_group=50, column="text", kind=string): a Parquet file of ids and texts."""
    return _write_shard


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards of 200, 200 and 60 documents in row groups of 50."""
    folder = tmp_path_factory.mktemp("corpus")
    for shard, (first, count) in enumerate([(0, 200), (200, 200), (400, 60)]):
        _write_shard(folder / f"shard_{shard}.parquet", [_text(first + k) for k in range(count)])
    return folder


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    Tokenizer.train([_text(number) for number in range(400)], 320).save(folder)
    return folder


@pytest.fixture
def attach() -> Callable[..., Any]:
    """attach(data, ...) does what Lightning does before it asks for dataloaders, and returns the data module."""

    def attach_(
        data: RowDataModule,
        *,
        rank: int = 0,
        world: int = 1,
        sequence_len: int = 32,
        rows: int = 8,
        num_steps: int = 10,
        global_step: int = 0,
    ) -> Any:
        data.prepare_data()
        data.setup("fit")
        plan = make_plan(2, head_dim=16, sequence_len=sequence_len, total_batch_tokens=sequence_len * rows,
                         num_steps=num_steps, world_size=world, device_batch_size=max(1, rows // world // 2),
                         vocab_size=data.tokenizer.vocab_size)  # fmt: skip
        data.trainer = SimpleNamespace(  # type: ignore[assignment]
            lightning_module=SimpleNamespace(plan=plan),
            strategy=SimpleNamespace(root_device=torch.device("cpu")),
            world_size=world,
            global_rank=rank,
            num_devices=world,
            global_step=global_step,
        )
        return data

    return attach_
