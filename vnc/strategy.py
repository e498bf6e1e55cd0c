"""DistMuonStrategy: processes that train together, as a Lightning strategy without DDP.

It builds on Lightning's DDPStrategy for devices, launching and rendezvous, and wraps nothing: MuonAdamW owns the layout
and moves gradients and weights over the `wire` that this class sets up (docs/dist_muon.md tells what and when).
`--trainer.strategy dist_muon --trainer.devices N` selects it; its options are `--dist_muon.*`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from lightning.fabric.utilities.seed import reset_seed
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from lightning.pytorch.trainer.states import TrainerFn

from vnc import checkpoint as files
from vnc.errors import UserError
from vnc.processes import Processes
from vnc.wire import Wire

GatherDtype = Literal["float32", "bfloat16"]


class DistMuonStrategy(DDPStrategy):
    """One process for each device; all train the same model on their share of every batch.

    Args:
        reduce_every_micro_batch: Sum gradients after each micro-batch: each process holds its share alone. False
            sums them once a step: fewer bytes sent, all gradients held on every process meanwhile.
        ordered: Add the processes' gradients in a fixed order. With reduce_every_micro_batch, any number of processes
            then trains to the same weights. False leaves the order to the backend's reduce-scatter, which sends less
            between several machines.
        overlap: Start to sum gradients while backward goes on; false is for measuring what that saves.
        gather_dtype: float32, or bfloat16: processes hold and exchange weights in bf16, and each the fp32 master of
            what it owns alone. The same forward where products run in bf16; half the bytes.
        timeout_seconds: Longest that a process may stand still before the run ends.
        heartbeat_seconds: Longest silence of a process before it counts as dead.
        process_group_backend: gloo or nccl; null takes what fits the device.
    """

    strategy_name = "dist_muon"

    def __init__(
        self,
        reduce_every_micro_batch: bool = True,
        ordered: bool = True,
        overlap: bool = True,
        gather_dtype: GatherDtype = "float32",
        timeout_seconds: float = 1800.0,
        heartbeat_seconds: float = 30.0,
        process_group_backend: str | None = None,
    ) -> None:
        if timeout_seconds <= 0 or heartbeat_seconds <= 0:
            raise UserError(f"dist_muon: timeout_seconds={timeout_seconds} and heartbeat_seconds={heartbeat_seconds} "
                            "must be positive")  # fmt: skip
        timeout = timedelta(seconds=timeout_seconds)
        super().__init__(timeout=timeout, process_group_backend=process_group_backend)
        self.reduce_every_micro_batch, self.ordered, self.overlap = reduce_every_micro_batch, ordered, overlap
        self.gather_dtype = torch.bfloat16 if gather_dtype == "bfloat16" else torch.float32
        self.timeout_seconds, self.heartbeat_seconds = timeout_seconds, heartbeat_seconds
        self.wire = Wire()
        self.processes = self.savers = Processes()
        """Groups on the CPU: one for what the training loop does, one for checkpoints written beside it."""

    def setup_distributed(self) -> None:
        if self.num_nodes * self.num_processes == 1:
            reset_seed()
            self.set_world_ranks()
            return
        super().setup_distributed()
        rank, world = self.global_rank, self.world_size
        self.wire = Wire(rank, world)
        self.processes, self.savers = (
            Processes(rank, world, dist.new_group(backend="gloo", timeout=self._timeout)) for _ in range(2)
        )

    def setup(self, trainer: Trainer) -> None:
        """No wrapper around the module: gradients are reduced by the optimizer's buckets. Nothing is broadcast: all
        processes have made the same weights from the same seed or read them from the same checkpoint."""
        assert self.accelerator is not None and self.model is not None
        self.accelerator.setup(trainer)
        self.model = self.precision_plugin.convert_module(self.model)
        self.model_to_device()
        if trainer.state.fn == TrainerFn.FITTING:
            self.setup_optimizers(trainer)
        self.setup_precision_plugin()

    # Checkpoints: Lightning hands over or takes one dict; on disk it is the directory of vnc/checkpoint.py.

    def lightning_module_state_dict(self) -> dict[str, Any]:
        return {}  # weights go from the parameters to safetensors without a copy

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
        return {}  # likewise

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Publish the directory `filepath`; `checkpoint` is what Trainer.save_checkpoint collected."""
        module: Any = self.lightning_module
        module.write_checkpoint(Path(filepath), checkpoint)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """What Lightning needs of a checkpoint directory; tensors are read later, straight into their places."""
        module: Any = self.lightning_module
        values: dict[str, Any] = module.read_checkpoint(files.resolve(Path(checkpoint_path)))
        return values

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        module: Any = self.lightning_module
        files.load_weights(Path(checkpoint["folder"]), module.gpt)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        module: Any = self.lightning_module
        module.load_optimizer(Path(checkpoint["folder"]), self.optimizers[0])

    def remove_checkpoint(self, filepath: Any) -> None:
        raise UserError(f"{filepath}: checkpoints are removed by callbacks.CheckpointWriter, which knows which to keep")


StrategyRegistry.register("dist_muon", DistMuonStrategy, description="sharded Muon + AdamW without DDP")
