"""DistMuonStrategy: where tensors live and how they move, as a Lightning strategy without DDP.

It builds on Lightning's DDPStrategy for processes and rendezvous and wraps nothing: MuonAdamW owns the layout, this
class answers for devices and checkpoints. `--trainer.strategy dist_muon` selects it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry

from vnc import checkpoint as files
from vnc.errors import UserError


class DistMuonStrategy(DDPStrategy):
    """One process for each device; one process is served so far, and a larger number is refused in one line."""

    strategy_name = "dist_muon"

    def setup_environment(self) -> None:
        processes = self.num_nodes * self.num_processes
        if processes > 1:
            raise UserError(f"dist_muon was asked for {processes} processes and serves one so far; "
                            "set trainer.devices=1 and trainer.num_nodes=1")  # fmt: skip
        super().setup_environment()

    def configure_ddp(self) -> None:
        """No wrapper: gradients are reduced by the optimizer's buckets."""

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
