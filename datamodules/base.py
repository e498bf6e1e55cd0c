"""What all data modules share: rows by the plan, a position that resumes bit for bit, a check that nothing changed.

A data module opens its tokenizer and its windows in `setup`. How long a row is and how many rows make a step it reads
in the module's `TrainingPlan`, which exists by the time Lightning asks for dataloaders.
"""

from __future__ import annotations

import signal
from typing import Any, TypedDict, cast

import torch
import torch.distributed as dist
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from datamodules import lanes as lane_order
from datamodules.lanes import Position
from datamodules.packing import Packing, Row
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

    def train_dataloader(self) -> DataLoader[StepBatch]:
        """The batches of the steps that are left, from the restored position or from the start."""
        plan, world = self._plan, self._trainer.world_size
        lane_order.check_shares(self.lanes, plan.rows_per_step, world)
        if self._restored is not None:
            refuse_changes(self._restored, self.identity())
        batches = StepBatches(
            self._packed(self.train_windows),
            self.seed,
            self._position,
            steps=max(0, plan.num_steps - self._trainer.global_step),
            micro_batches=plan.micro_batches,
            device_batch_size=plan.device_batch_size,
            rank=self._trainer.global_rank,
            world=world,
        )
        return self._loader(batches, self.num_workers)

    def val_dataloader(self) -> DataLoader[StepBatch]:
        """The validation rows; the same whatever the seed, the lanes and the number of processes."""
        batches = ValidationBatches(
            self.validation_rows(),
            self.tokenizer.bos_id,
            device_batch_size=self._plan.device_batch_size,
            rank=self._trainer.global_rank,
            world=self._trainer.world_size,
        )
        return self._loader(batches, workers=0)

    def test_dataloader(self) -> DataLoader[StepBatch]:
        return self.val_dataloader()

    def validation_rows(self) -> Row:
        """The first rows of validation that hold val_tokens tokens, at least one: int32 (rows, sequence_len + 1)."""
        sequence_len = self._plan.config.sequence_len
        return first_rows(self._packed(self.val_windows), max(1, self.val_tokens // sequence_len))

    def on_before_batch_transfer(self, batch: StepBatch | UserError, dataloader_idx: int) -> StepBatch:
        if isinstance(batch, UserError):  # from a worker, see StepBatches
            raise batch
        return batch

    def transfer_batch_to_device(self, batch: StepBatch, device: torch.device, dataloader_idx: int) -> StepBatch:
        return StepBatch(batch.rows.to(device, non_blocking=True), batch.position)

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

    def _packed(self, source: DocumentWindows) -> PackedWindows:
        return PackedWindows(source, self.packing, self._plan.config.sequence_len + 1, self.tokenizer.bos_id)

    def _loader(self, batches: StepBatches | ValidationBatches, workers: int) -> DataLoader[StepBatch]:
        return DataLoader(
            batches,
            batch_size=None,
            num_workers=workers,
            collate_fn=_as_is,
            worker_init_fn=_leave_sigterm_to_the_trainer,
            pin_memory=self._trainer.strategy.root_device.type == "cuda",
        )


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


def _as_is(batch: Any) -> Any:
    """In place of DataLoader's conversion, which would walk through every number of the position."""
    return batch


def _leave_sigterm_to_the_trainer(worker: int) -> None:
    """A signal to all processes asks the training process to save and end; it ends its workers."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
