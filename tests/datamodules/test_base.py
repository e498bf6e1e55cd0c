"""State, resume and hooks of a data module, with a fake trainer and with Lightning's own."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow.parquet as pq
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from datamodules import FineWebEdu
from datamodules.base import refuse_changes
from vnc.depth import make_plan
from vnc.errors import UserError
from vnc.rows import StepBatch

Attach = Callable[..., Any]


class Recorder(LightningModule):
    """Trains nothing and writes down what it is given, one optimizer step for each training step."""

    def __init__(self, num_steps: int, save_at: int | None = None) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.plan = make_plan(
            2, head_dim=16, sequence_len=32, total_batch_tokens=32 * 8, num_steps=num_steps, device_batch_size=4
        )
        self.seen: list[Any] = []
        self.validated: list[Any] = []
        self.save_at = save_at
        self.state: dict[str, Any] = {}

    @property
    def data(self) -> FineWebEdu:
        return self.trainer.datamodule  # type: ignore[attr-defined,no-any-return]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch: StepBatch, batch_idx: int) -> None:
        self.seen.append(batch.rows.tolist())
        assert self.data.state_dict()["position"] == batch.position
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        optimizer.step()

    def validation_step(self, batch: StepBatch, batch_idx: int) -> None:
        self.validated.append(batch.rows.tolist())

    def on_train_batch_end(self, *_: Any) -> None:
        if self.trainer.global_step == self.save_at:
            self.state = json.loads(json.dumps(self.data.state_dict()))


def trainer(num_steps: int, folder: Path, **options: Any) -> Trainer:
    return Trainer(max_steps=num_steps, accelerator="cpu", logger=False, enable_checkpointing=False,
                   enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
                   default_root_dir=folder, **options)  # fmt: skip


@pytest.fixture
def data(corpus: Path, tokenizer_folder: Path) -> Callable[..., FineWebEdu]:
    def make(**options: Any) -> FineWebEdu:
        settings: dict[str, Any] = {
            "data_dir": str(corpus),
            "tokenizer": str(tokenizer_folder),
            "lanes": 8,
            "seed": 3,
            "val_tokens": 640,
        }
        return FineWebEdu(**(settings | options))

    return make


@pytest.mark.parametrize("workers", [0, 1])
def test_lightning_resumes_with_the_batch_after_the_last_one_trained_on(
    data: Callable[..., FineWebEdu], tmp_path: Path, workers: int
) -> None:
    """Lightning's loaders run ahead; the state must not. Validation in between must not disturb it."""
    through = Recorder(8, save_at=5)
    trainer(8, tmp_path, val_check_interval=2, limit_val_batches=1).fit(through, datamodule=data(num_workers=workers))
    assert len(through.seen) == 8 and through.validated
    assert through.state["position"]["next_row"] == 5 * 8

    resumed, again = Recorder(3), data(num_workers=workers)
    again.load_state_dict(through.state)
    trainer(3, tmp_path, limit_val_batches=0).fit(resumed, datamodule=again)
    assert resumed.seen == through.seen[5:]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_shard_ends_fit_with_one_line(
    data: Callable[..., FineWebEdu], corpus: Path, tmp_path: Path, workers: int
) -> None:
    folder = tmp_path / "damaged"
    folder.mkdir()
    shutil.copy(corpus / "shard_2.parquet", folder)
    shard = folder / "shard_0.parquet"
    pq.write_table(pq.read_table(corpus / "shard_0.parquet"), shard, row_group_size=50, write_page_checksum=True)
    content = bytearray(shard.read_bytes())
    content[pq.read_metadata(shard).row_group(0).column(1).dictionary_page_offset + 300] ^= 1
    shard.write_bytes(content)
    damaged = data(data_dir=str(folder), token_cache=False, num_workers=workers)
    with pytest.raises(UserError, match=r"\A\S*shard_0.parquet, row group 0: cannot be read [^\n]*\Z"):
        trainer(2, tmp_path, limit_val_batches=0).fit(Recorder(2), datamodule=damaged)


def test_the_loader_has_the_steps_that_are_left(data: Callable[..., FineWebEdu], attach: Attach) -> None:
    assert len(list(attach(data(), num_steps=6).train_dataloader())) == 6
    assert len(list(attach(data(), num_steps=6, global_step=4).train_dataloader())) == 2
    assert len(list(attach(data(), num_steps=6, global_step=9).train_dataloader())) == 0


def test_resume_takes_up_on_other_world_sizes_and_steps(data: Callable[..., FineWebEdu], attach: Attach) -> None:
    whole = [row for batch in attach(data(), rows=8, num_steps=9).train_dataloader()
             for row in batch.rows.flatten(0, 1).tolist()]  # fmt: skip
    first = attach(data(), rows=8, num_steps=5)
    for batch in first.train_dataloader():
        first.on_after_batch_transfer(batch, 0)
    state = json.loads(json.dumps(first.state_dict()))
    for world in (1, 2, 4, 8):
        rest: list[Any] = []
        for rank in range(world):
            resumed = data()
            resumed.load_state_dict(state)
            attach(resumed, rank=rank, world=world, rows=16, num_steps=2)
            rest += [row for batch in resumed.train_dataloader() for row in batch.rows.flatten(0, 1).tolist()]
        assert sorted(rest) == sorted(whole[40:])


def test_the_state_gathers_the_lanes_of_all_ranks(data: Callable[..., FineWebEdu], attach: Attach) -> None:
    ranks = [attach(data(), rank=rank, world=2) for rank in (0, 1)]
    for one in ranks:
        one.on_after_batch_transfer(next(iter(one.train_dataloader())), 0)
    alone = attach(data())
    alone.on_after_batch_transfer(next(iter(alone.train_dataloader())), 0)

    def gather(parts: list[Any], own: Any) -> None:
        parts[:] = [one._position for one in ranks]

    with patch("datamodules.base.dist.all_gather_object", gather):
        assert ranks[0].state_dict() == ranks[1].state_dict() == alone.state_dict()


def test_validation_leaves_the_position_alone(data: Callable[..., FineWebEdu], attach: Attach) -> None:
    module = attach(data())
    before = module.state_dict()
    for batch in module.val_dataloader():
        module.on_after_batch_transfer(batch, 0)
    assert module.state_dict() == before


@pytest.mark.parametrize(
    "change, named",
    [
        ({"seed": 4}, "seed was 3 .* now it is 4"),
        ({"lanes": 16}, "lanes was 8"),
        ({"packing": "bestfit_pad"}, "packing was concat .* now it is bestfit_pad"),
    ],
)
def test_a_changed_setting_is_refused_on_resume(
    data: Callable[..., FineWebEdu], attach: Attach, change: dict[str, Any], named: str
) -> None:
    state = attach(data()).state_dict()
    changed = data(**change)
    changed.load_state_dict(state)
    with pytest.raises(UserError, match=named):
        attach(changed).train_dataloader()


def test_another_context_length_is_refused_on_resume(data: Callable[..., FineWebEdu], attach: Attach) -> None:
    state = attach(data()).state_dict()
    changed = data()
    changed.load_state_dict(state)
    with pytest.raises(UserError, match=r"sequence_len was 32 .* now it is 64"):
        attach(changed, sequence_len=64).train_dataloader()


def test_what_changed_is_named_settings_first() -> None:
    saved = {"tokenizer": "aaa", "seed": 1, "data": {"a.parquet": "10 bytes", "b.parquet": "20 bytes"}}
    refuse_changes(saved, json.loads(json.dumps(saved)))
    with pytest.raises(UserError, match=r"tokenizer was aaa .* now it is bbb;"):
        refuse_changes(saved, saved | {"tokenizer": "bbb"})
    with pytest.raises(UserError, match=r"c.parquet was absent .* now it is 20 bytes \(1 more differ\)"):
        refuse_changes(saved, saved | {"data": {"a.parquet": "10 bytes", "c.parquet": "20 bytes"}})
    with pytest.raises(UserError, match=r"tokenizer was aaa .*\(1 more differ\)"):
        refuse_changes(
            saved, {"tokenizer": "bbb", "seed": 1, "data": {"a.parquet": "9 bytes", "b.parquet": "20 bytes"}}
        )


@pytest.mark.parametrize("option", [{"seed": -1}, {"num_workers": -1}, {"val_tokens": 0}, {"lanes": 0}])
def test_senseless_settings_are_refused(data: Callable[..., FineWebEdu], option: dict[str, int]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(option))}={next(iter(option.values()))}: must be"):
        data(**option)


def test_world_sizes_that_do_not_divide_the_lanes_are_refused(data: Callable[..., FineWebEdu], attach: Attach) -> None:
    with pytest.raises(UserError, match="lanes=8: 3 processes"):
        attach(data(), rows=9, world=3).train_dataloader()
