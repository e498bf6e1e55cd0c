"""What all data modules share: rows by the plan, a position that resumes bit for bit, a check that nothing changed.

A data module opens its tokenizer and its windows in `setup`. How long a row is and how many rows make a step it reads
in the module's `TrainingPlan`, which exists by the time Lightning asks for dataloaders.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypedDict, cast

import torch
import torch.distributed as dist
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from datamodules import lanes as lane_order
from datamodules.ahead_of_training import AheadOfTraining
from datamodules.lanes import Position
from datamodules.packing import Packing, Row
from datamodules.read_ahead import threads_for
from datamodules.streaming import DocumentWindows, PackedWindows, StepBatches, ValidationBatches, first_rows
from vnc.depth import TrainingPlan
from vnc.errors import UserError
from vnc.rows import StepBatch
from vnc.tokenizer import Tokenizer


class DataState(TypedDict):
    """What a checkpoint keeps of a data module; JSON-able."""

    position: Position
    identity: dict[str, Any]
    """All that the order of rows depends on: tokenizer, packing, lanes, seed, sequence_len, data."""


class RowDataModule(LightningDataModule):
    """Rows from windows of documents. A subclass's `setup` sets the four attributes below."""

    tokenizer: Tokenizer
    train_windows: DocumentWindows
    val_windows: DocumentWindows
    data_identity: dict[str, Any]
    """JSON-able and cheap to make; equal only for equal data."""
    chat: bool = False
    """Whether the rows are conversations: what is trained on them answers instead of continuing."""

    def __init__(self, packing: Packing, lanes: int, seed: int, num_workers: int, val_tokens: int) -> None:
        super().__init__()
        if seed < 0:
            raise UserError(f"seed={seed}: must be 0 or more")
        if num_workers < 0:
            raise UserError(f"num_workers={num_workers}: must be 0 or more")
        if val_tokens < 1:
            raise UserError(f"val_tokens={val_tokens}: must be at least 1")
        lane_order.check_shares(lanes, rows_per_step=1, world=1)
        self.packing, self.lanes, self.seed = packing, lanes, seed
        self.num_workers, self.val_tokens = num_workers, val_tokens
        self._position = lane_order.start(lanes)
        self._restored: dict[str, Any] | None = None  # the identity that a restored position belongs to

    # ---- batches

    def train_dataloader(self) -> Iterable[StepBatch]:
        """The batches of the steps that are left, from the restored position or from the start."""
        plan, world = self._plan, self._trainer.world_size
        lane_order.check_shares(self.lanes, plan.rows_per_step, world)
        if self.num_workers:
            lane_order.check_shares(self.lanes, plan.rows_per_step, world * self.num_workers, "readers (processes x "
                                    "data.num_workers)")  # fmt: skip
        if self._restored is not None:
            refuse_changes(self._restored, self.identity())
        batches = StepBatches(
            self._packed(self.train_windows, self.packing),
            self.seed,
            self._position,
            steps=max(0, plan.num_steps - self._trainer.global_step),
            micro_batches=plan.micro_batches,
            device_batch_size=plan.device_batch_size,
            rank=self._trainer.global_rank,
            world=world,
            workers=self.num_workers,
            threads=threads_for(self._trainer.num_devices * max(1, self.num_workers)),
        )
        return AheadOfTraining(batches, self._trainer.strategy.root_device)

    def val_dataloader(self) -> DataLoader[StepBatch]:
        """The validation rows; the same whatever the seed, the lanes, the packing and the number of processes."""
        batches = ValidationBatches(
            self.validation_rows(),
            self.tokenizer.bos_id,
            device_batch_size=self._plan.device_batch_size,
            rank=self._trainer.global_rank,
            world=self._trainer.world_size,
        )
        return DataLoader(batches, batch_size=None, pin_memory=self._trainer.strategy.root_device.type == "cuda")

    def test_dataloader(self) -> DataLoader[StepBatch]:
        return self.val_dataloader()

    def validation_rows(self) -> Row:
        """The first rows of validation that hold val_tokens tokens, at least one: int32 (rows, sequence_len + 1).

        However training packs, every token of a text counts, with as much of the text before it as a row holds.
        """
        packing: Packing = "bestfit_pad" if self.packing == "bestfit_pad" else "bestfit_split"
        windows = self._packed(self.val_windows, packing)
        return first_rows(windows, max(1, self.val_tokens // self._plan.config.sequence_len))

    def transfer_batch_to_device(self, batch: StepBatch, device: torch.device, dataloader_idx: int) -> StepBatch:
        return batch._replace(rows=batch.rows.to(device, non_blocking=True))

    def on_after_batch_transfer(self, batch: StepBatch, dataloader_idx: int) -> StepBatch:
        # Loaders run ahead, but Lightning moves a batch to the device just before its training_step: what has come
        # through here has been trained on, and a checkpoint must go on after it.
        if batch.position is not None:
            self._position = cast(Position, batch.position)
        return batch

    # ---- state

    def identity(self) -> dict[str, Any]:
        """All that the order of rows depends on, JSON-able."""
        return {
            "tokenizer": self.tokenizer.fingerprint,
            "packing": self.packing,
            "lanes": self.lanes,
            "seed": self.seed,
            "sequence_len": self._plan.config.sequence_len,
            "data": self.data_identity,
        }

    def state_dict(self) -> dict[str, Any]:
        """The position after the last batch trained on, and what it belongs to (`DataState`).

        With several processes this gathers the lanes of all ranks, so all of them must call it, after the same step.
        """
        parts: list[Any] = [self._position]
        if self._trainer.world_size > 1:
            parts = [None] * self._trainer.world_size
            dist.all_gather_object(parts, self._position)
        return dict(DataState(position=lane_order.merge(parts), identity=self.identity()))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes what `state_dict` returned; `train_dataloader` refuses it if the data or its settings have changed."""
        self._position, self._restored = state_dict["position"], state_dict["identity"]

    # ---- parts

    @property
    def _trainer(self) -> Any:
        if self.trainer is None:
            raise RuntimeError(f"{type(self).__name__} has no trainer: rows depend on the plan of the module it trains")
        return self.trainer

    @property
    def _plan(self) -> TrainingPlan:
        return cast(TrainingPlan, self._trainer.lightning_module.plan)

    def _packed(self, source: DocumentWindows, packing: Packing) -> PackedWindows:
        return PackedWindows(source, packing, self._plan.config.sequence_len + 1, self.tokenizer.bos_id)


def refuse_changes(saved: dict[str, Any], current: dict[str, Any]) -> None:
    """UserError that names what differs between the identity in a checkpoint and that of the data at hand."""
    before, now = saved | saved["data"], current | current["data"]
    keys = dict.fromkeys([*now, *before])  # settings first: a changed one changes the data too
    changed = [key for key in keys if key != "data" and before.get(key) != now.get(key)]
    if changed:
        key, more = changed[0], f" ({len(changed) - 1} more differ)" if len(changed) > 1 else ""
        was, now_is = (str(values.get(key, "absent"))[:60] for values in (before, now))
        raise UserError(f"--data: {key} was {was} when this run was saved, now it is {now_is}{more}; a run can only be "
                        "resumed on the same data: restore it, or start a new run")  # fmt: skip
