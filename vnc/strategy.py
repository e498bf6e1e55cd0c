"""DistMuonStrategy: processes that train together, as a Lightning strategy without DDP.

It builds on Lightning's DDPStrategy for devices, launching and rendezvous, and wraps nothing: MuonAdamW owns the layout
and moves gradients and weights over the `wire` that this class sets up (docs/dist_muon.md tells what and when).
`--trainer.strategy dist_muon --trainer.devices N` selects it; its options are `--dist_muon.*`.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Mapping
from concurrent.futures import Future
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from lightning.fabric.utilities.seed import reset_seed
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from lightning.pytorch.trainer.states import TrainerFn

from vnc import checkpoint as files
from vnc import run_checkpoint
from vnc.errors import UserError
from vnc.launcher import Launcher, die_with_parent
from vnc.processes import OtherRankError, Processes
from vnc.watch import WAY_OUT, RankFailure, Watch
from vnc.wire import Wire

ENDING_SECONDS = 30.0  # for the children to end once the main process has
ENDING_AFTER_FAILURE_SECONDS = 5.0  # less than the watch's grace, which would print the line once more

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
    saving: Future[None]
    """Of the newest checkpoint."""

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
        # Longer than the watch's own, which names the rank at fault.
        timeout = timedelta(seconds=timeout_seconds + heartbeat_seconds)
        super().__init__(timeout=timeout, process_group_backend=process_group_backend)
        self.reduce_every_micro_batch, self.ordered, self.overlap = reduce_every_micro_batch, ordered, overlap
        self.gather_dtype = torch.bfloat16 if gather_dtype == "bfloat16" else torch.float32
        self.timeout_seconds, self.heartbeat_seconds = timeout_seconds, heartbeat_seconds
        self.watch: Watch | None = None
        self.failure: str | None = None  # the line that names the rank at fault
        self.wire = Wire()
        self.processes = self.savers = Processes()
        """Groups on the CPU: one for what the training loop does, one for checkpoints written beside it."""

    # Processes: begin together, end together.

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = Launcher(self.cluster_environment, self.num_processes, self.num_nodes)

    def setup_distributed(self) -> None:
        if self.num_nodes * self.num_processes == 1:
            reset_seed()
            self.set_world_ranks()
            return
        parent = die_with_parent()
        super().setup_distributed()
        rank, world = self.global_rank, self.world_size
        self.wire = Wire(rank, world)
        self.processes, self.savers = (
            Processes(rank, world, dist.new_group(backend="gloo", timeout=self._timeout)) for _ in range(2)
        )
        self.watch = Watch(
            dist.distributed_c10d._get_default_store(),
            rank,
            world,
            heartbeat_seconds=self.heartbeat_seconds,
            timeout_seconds=self.timeout_seconds,
        )
        launcher = self._launcher
        if isinstance(launcher, Launcher):
            launcher.on_death = self.watch.note_death
            self.watch.on_end = partial(launcher.end_children, 0)
        if parent is not None:
            self.watch.on_end = partial(self._end_launcher, parent)
        self.watch.start()

    def _end_launcher(self, process: int) -> None:
        """A launcher that is frozen cannot end by itself, and whoever waits for it would wait for ever."""
        assert self.watch is not None
        if self.watch.blames(self.global_rank - self.local_rank) and os.getppid() == process:
            os.kill(process, signal.SIGKILL)

    def on_exception(self, exception: BaseException) -> None:
        """Find out which rank is at fault, and tell the others if it is this one."""
        if self.watch is None or isinstance(exception, KeyboardInterrupt | SystemExit):
            return
        if not is_collective_failure(exception):
            self.watch.report_failure(str(exception) or type(exception).__name__)
        else:
            self.failure = self.watch.verdict()
            if self.failure is None:
                self.watch.report_failure(str(exception))

    def teardown(self) -> None:
        super().teardown()
        stopped = self.watch.stop() if self.watch is not None else None
        seconds = ENDING_SECONDS if self.failure is None and stopped is None else ENDING_AFTER_FAILURE_SECONDS
        endings = self._launcher.end_children(seconds) if isinstance(self._launcher, Launcher) else []
        if self.failure is None and stopped is None and dist.is_initialized():
            dist.destroy_process_group()  # gloo's threads must not outlive the interpreter
        if self.failure is None and sys.exception() is None:
            self.failure = stopped or (f"{'; '.join(endings)}; {WAY_OUT}" if endings else None)
        if self.failure is not None:
            # One line from one process is enough.
            raise RankFailure(self.failure) if self.watch is None or self.watch.speaks() else SystemExit(1)

    # Signs of life, at the same points of a step on every rank.

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        self.progress("forward and backward")
        outputs = super().training_step(*args, **kwargs)
        self.progress("between steps")
        return outputs

    def post_backward(self, closure_loss: torch.Tensor) -> None:
        self.progress("after a backward")

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        self.progress("validation")
        return super().validation_step(*args, **kwargs)

    def progress(self, phase: str) -> None:
        if self.watch is not None and self.lightning_module is not None:
            self.watch.progress(self.lightning_module.global_step, phase)

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
        """Publish the directory `filepath`; `checkpoint` is what Trainer.save_checkpoint collected. With
        storage_options={"background": True}, `saving` tells when it is there."""
        self.progress("saving")
        module: Any = self.lightning_module
        background = bool(storage_options and storage_options.get("background"))
        self.saving = run_checkpoint.write(module, Path(filepath), checkpoint, background)
        if not background:
            self.saving.result()

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """What Lightning needs of a checkpoint directory; tensors are read later, straight into their places."""
        module: Any = self.lightning_module
        return run_checkpoint.read(module, files.resolve(Path(checkpoint_path)))

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        module: Any = self.lightning_module
        files.load_weights(Path(checkpoint["folder"]), module.gpt)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        module: Any = self.lightning_module
        optimizer: Any = self.optimizers[0]
        run_checkpoint.load_optimizer(Path(checkpoint["folder"]), module.gpt, optimizer)

    def remove_checkpoint(self, filepath: Any) -> None:
        raise UserError(f"{filepath}: checkpoints are removed by callbacks.CheckpointWriter, which knows which to keep")


def is_collective_failure(exception: BaseException) -> bool:
    """Whether another rank may be the cause: an error of torch.distributed, gloo, NCCL, or told by the other rank."""
    if isinstance(exception, OtherRankError | dist.DistError):
        return True
    words = r"gloo|nccl|process ?group|connection (closed|reset|refused)|timed out waiting|broken pipe|socket"
    return isinstance(exception, RuntimeError) and re.search(words, str(exception), re.IGNORECASE) is not None


StrategyRegistry.register("dist_muon", DistMuonStrategy, description="sharded Muon + AdamW without DDP")
