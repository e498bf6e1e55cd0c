"""VNCModule: the model, its plan and its optimizer as a LightningModule. One training_step is one optimizer step over
all micro-batches of the step, so `global_step`, schedules, checkpoints and resume can never disagree."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

import lightning
import torch

from vnc import batch_size, batch_trial, run_checkpoint
from vnc import checkpoint as files
from vnc.bits_per_byte import BitsPerByte
from vnc.compiling import compile_in_place, use_fp8
from vnc.cuda import cudnn_attention
from vnc.cuda_graph import LossRecorder
from vnc.depth import Preset, Stage, TrainingPlan, make_plan
from vnc.errors import UserError
from vnc.gpt import GPT
from vnc.hardware import peak_flops
from vnc.optimizer import MuonAdamW
from vnc.precision import choose_compute_dtype
from vnc.processes import Processes
from vnc.rows import IGNORED, StepBatch, inputs_and_targets
from vnc.wire import Transfer


class VNCModule(lightning.LightningModule):
    """Args:
    preset: modern (nanochat's recipe) or gpt2 (the classic 124M).
    depth: Layers; the one knob that sets width, heads, batch, learning rates and horizon.
    aspect_ratio: Width for each layer of depth.
    head_dim: Channels of one attention head; the preset's own when null.
    sequence_len: Context in tokens; the preset's own when null.
    window_pattern: Attention spans by layer, S = quarter context and L = whole; the preset's own when null.
    num_steps: Optimizer steps; decides the horizon when given.
    target_flops: Training FLOPs; decides the horizon when num_steps is null.
    param_data_ratio: Tokens for each scaling parameter; decides the horizon when both others are null.
    warmup_steps: Steps of linear learning-rate warm-up; the preset's own when null.
    total_batch_tokens: Tokens of one optimizer step over all processes; the recipe's own when null.
    device_batch_size: Rows of one micro-batch on one process; when null the largest up to 32 with which 1
        to 8 processes compute the same micro-batches, and when auto the largest that fits, by trial.
    lr_scale: Factor on the learning rates; the matrices' decay is divided by it.
    matrix_lr: Muon's learning rate; the recipe's own, which shrinks with the batch, when null.
    z_loss: Weight of the squared log-partition added to the loss; 0 is off.
    clip_norm: Largest norm of all gradients together; larger ones are scaled down to it. null is off.
    compute_dtype: auto, bfloat16 or float32: the dtype of matrix products. Weights stay fp32.
    compile: auto compiles the blocks on a GPU, where it pays for itself over the planned steps.
    cuda_graph: On one GPU, record a micro-batch in the second step and replay it from then on, which spares the GPU
        the wait for Python and computes the same. Where that leaves too little memory free, it is not done.
    fp8: Multiply the blocks' large matrices in 8 bits in training, on GPUs that can. At depth 20 a micro-batch takes a
        tenth less time.
    init_from: Checkpoint whose weights and sizes to start from; null starts from random weights.
    stage: pretraining or midtraining: which recipe sets rates and schedule (see vnc/depth.py). When auto,
        midtraining where chat data meets init_from.
    init_optimizer: Start from the optimizer state in init_from as well. When null, midtraining does if it is there.
    """

    gpt: GPT
    plan: TrainingPlan
    stage: Stage
    last_step: int
    """Global step at which this process ends: the plan's, or trainer.max_steps if that is earlier."""

    def __init__(
        self,
        preset: Preset = "modern",
        depth: int = 12,
        aspect_ratio: int = 64,
        head_dim: int | None = None,
        sequence_len: int | None = None,
        window_pattern: str | None = None,
        num_steps: int | None = None,
        target_flops: float | None = None,
        param_data_ratio: float | None = None,
        warmup_steps: int | None = None,
        total_batch_tokens: int | None = None,
        device_batch_size: int | Literal["auto"] | None = None,
        lr_scale: float = 1.0,
        matrix_lr: float | None = None,
        z_loss: float = 0.0,
        clip_norm: float | None = None,
        compute_dtype: Literal["auto", "bfloat16", "float32"] = "auto",
        compile: Literal["auto", "on", "off"] = "auto",
        cuda_graph: bool = True,
        fp8: bool = False,
        init_from: str | None = None,
        stage: Stage | Literal["auto"] = "auto",
        init_optimizer: bool | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.plan_arguments: dict[str, Any] = dict(
            preset=preset,
            depth=depth,
            aspect_ratio=aspect_ratio,
            head_dim=head_dim,
            sequence_len=sequence_len,
            window_pattern=window_pattern,
            num_steps=num_steps,
            target_flops=target_flops,
            param_data_ratio=param_data_ratio,
            warmup_steps=warmup_steps,
            total_batch_tokens=total_batch_tokens,
            device_batch_size=device_batch_size,
            lr_scale=lr_scale,
            matrix_lr=matrix_lr,
        )
        if clip_norm is not None and not clip_norm > 0:
            raise UserError(f"clip_norm={clip_norm}: must be positive, or null for none")
        self.z_loss, self.compute_dtype_setting, self.compile_setting = z_loss, compute_dtype, compile
        self.clip_norm, self.fp8 = clip_norm, fp8
        self.cuda_graph, self._recorder = cuda_graph, LossRecorder(wanted=False)
        if init_from is None and (stage == "midtraining" or init_optimizer):
            raise UserError("model.stage=midtraining and model.init_optimizer need a pretrained model: give "
                            "--model.init_from CHECKPOINT")  # fmt: skip
        self.init_from, self.init_optimizer = init_from, init_optimizer
        self.stage_setting, self.stage = stage, "pretraining" if stage == "auto" else stage
        self.notes: list[str] = []  # choices made on the way to the first step, for callbacks.Progress to say
        self.peak_flops = float("nan")  # of this process's device, per second
        self.first_step = 0  # global step at which this process started

    # What Lightning calls before the first step, in this order.

    def setup(self, stage: str) -> None:
        """Make the plan: the vocabulary comes from the data, the number of processes from the trainer."""
        if hasattr(self, "plan"):
            return
        tokenizer = self._datamodule.tokenizer
        config = None
        if self.init_from is not None:
            folder = files.resolve(Path(self.init_from))
            config, _chat = files.read_model_json(folder)
            run_checkpoint.check_vocabulary(folder, tokenizer)
            self._inherit(folder)
        by_trial = self.plan_arguments["device_batch_size"] == "auto"
        self.plan = make_plan(
            **(self.plan_arguments | (dict(device_batch_size=None) if by_trial else {})),
            config=config,
            vocab_size=tokenizer.vocab_size,
            world_size=self.trainer.world_size,
            stage=self.stage,
        )
        if by_trial and stage == "fit":
            self._find_batch_size()
        limit = self.trainer.max_steps  # the user's own early end; schedules follow the plan all the same
        self.last_step = self.plan.num_steps if limit < 0 else min(limit, self.plan.num_steps)
        self.trainer.fit_loop.epoch_loop.max_steps = self.last_step
        self.val_bits = BitsPerByte(torch.from_numpy(tokenizer.token_bytes))

    def _inherit(self, folder: Path) -> None:
        """Take over what the plan of the checkpoint `folder` decides for this run; in midtraining also its batch, and
        one epoch as the horizon, unless they are given."""
        given = self.plan_arguments
        if self.stage_setting == "auto" and self._datamodule.chat:
            self.stage = "midtraining"
        if not (folder / "plan.json").is_file():
            raise UserError(f"{folder} is an export, without the plan of its training: give model.init_from the "
                            "checkpoint it was made from, such as runs/NAME/checkpoints/last")  # fmt: skip
        plan = TrainingPlan.from_dict(files.read_json(folder / "plan.json"), str(folder / "plan.json"))
        given |= dict(preset=plan.preset, depth=plan.depth)
        if self.stage != "midtraining":
            return
        if given["total_batch_tokens"] is None:
            given["total_batch_tokens"] = plan.total_batch_tokens
        horizon = (given[key] for key in ("num_steps", "target_flops", "param_data_ratio"))
        if all(value is None for value in horizon) and hasattr(self._datamodule, "epoch_tokens"):
            tokens = self._datamodule.epoch_tokens(sequence_len=plan.config.sequence_len)
            given["num_steps"] = max(1, round(tokens / given["total_batch_tokens"]))
            self.notes.append(f"one epoch: about {tokens:,} tokens, {given['num_steps']:,} steps")

    def _find_batch_size(self) -> None:
        """Replace the plan's device_batch_size by that of the checkpoint that the run goes on from, or by the largest
        that fits."""
        resumed = run_checkpoint.resumed_plan(self.trainer)
        if resumed is not None and all(getattr(resumed, key) == getattr(self.plan, key)
                                       for key in ("world_size", "rows_per_step", "config")):  # fmt: skip
            rows, said = resumed.device_batch_size, f"device_batch_size {resumed.device_batch_size}: the checkpoint's"
        else:
            strategy: Any = self.trainer.strategy
            dtype, _reason = choose_compute_dtype(self.compute_dtype_setting, strategy.root_device)
            rows, said = batch_trial.agree_on_rows(self.plan, strategy, dtype)
        self.plan = batch_size.with_rows(self.plan, rows)
        self.notes.append(said)

    def configure_model(self) -> None:
        """Allocate and fill the model on its device."""
        if hasattr(self, "gpt"):
            return
        device = self.trainer.strategy.root_device
        dtype, reason = choose_compute_dtype(self.compute_dtype_setting, device)
        self.notes.append(f"compute dtype {reason}")
        with torch.device("meta"):
            gpt = GPT(self.plan.config, dtype)
        gpt.to_empty(device=device)
        if self.init_from is not None:
            files.load_weights(files.resolve(Path(self.init_from)), gpt)
        else:
            # Drawn on the CPU whatever the device, so that one seed means one model.
            seed = torch.initial_seed() % 2**63
            with torch.device("cpu"):  # Lightning calls this where new tensors are made on the GPU
                on_cpu = gpt if device.type == "cpu" else GPT(self.plan.config, dtype)
                on_cpu.init_weights(torch.Generator().manual_seed(seed))
            if on_cpu is not gpt:
                gpt.load_state_dict(on_cpu.state_dict())
        self.gpt = gpt

    def configure_optimizers(self) -> MuonAdamW:
        strategy: Any = self.trainer.strategy
        if not hasattr(strategy, "wire"):
            if self.trainer.world_size > 1:
                raise UserError(f"trainer.strategy={type(strategy).__name__} cannot train this optimizer on several "
                                "processes; use trainer.strategy=dist_muon")  # fmt: skip
            return self._warm(MuonAdamW(self.gpt, self.plan))
        if strategy.gather_dtype != torch.float32 and strategy.gather_dtype != self.gpt.compute_dtype:
            raise UserError(f"dist_muon.gather_dtype=bfloat16 would change the forward, whose products run in "
                            f"{self.gpt.compute_dtype}; use it with model.compute_dtype=bfloat16")  # fmt: skip
        return self._warm(
            MuonAdamW(
                self.gpt,
                self.plan,
                strategy.wire,
                reduce_every_micro_batch=strategy.reduce_every_micro_batch,
                ordered=strategy.ordered,
                overlap=strategy.overlap,
                gather_dtype=strategy.gather_dtype,
            )
        )

    def _warm(self, optimizer: MuonAdamW) -> MuonAdamW:
        """The optimizer, with the state that the run which `init_from` comes from left it in, if that is wanted. A
        resumed run then reads its own over it."""
        wanted = self.stage == "midtraining" if self.init_optimizer is None else self.init_optimizer
        if self.init_from is None or not wanted:
            return optimizer
        folder = files.resolve(Path(self.init_from))
        if (folder / files.OPTIMIZER_DIR).is_dir():
            run_checkpoint.load_optimizer(folder, self.gpt, optimizer)
            self.notes.append(f"optimizer state from {folder}")
        elif self.init_optimizer:
            raise UserError(f"{folder} holds no optimizer state; leave out model.init_optimizer, or give a checkpoint "
                            "of a run")  # fmt: skip
        return optimizer

    def on_fit_start(self) -> None:
        one_gpu = self.device.type == "cuda" and self._optimizer.wire.world_size == 1
        self._recorder = LossRecorder(wanted=self.cuda_graph and one_gpu)
        self.peak_flops, source = peak_flops(self.device, self.gpt.compute_dtype)
        if self.fp8:
            self.notes.append(use_fp8(self.gpt, self.device))
        choice = compile_in_place(self.gpt, self.plan, self.compile_setting, self.device, self.peak_flops)
        if self._recorder.wanted:
            self.notes.append("a micro-batch is recorded in step 2 and replayed from then on")
        if (tip := cudnn_attention.advice(self.device, self.plan.config)) is not None:
            self.notes.append(tip)
        self.notes += [f"compile {choice}", f"MFU is against {self.peak_flops / 1e12:.3g} TFLOP/s ({source})"]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Lightning calls this before training and validation; gradients must stay in the optimizer's buffers."""
        if self.trainer.optimizers:
            self._optimizer.zero_grad()

    # Steps.

    def training_step(self, batch: StepBatch, batch_idx: int) -> dict[str, torch.Tensor]:
        """All micro-batches forward and backward, then one update. Returns loss (mean nats for each target of the step,
        over all processes) and gradient_norm (before clipping), fp32 scalars, the same on every process.

        If the device of any process runs out of memory in one of the first steps, all of them do the step again with
        smaller micro-batches, and keep to these."""
        optimizer = self._optimizer
        if self.global_step > self.first_step:  # all has run once
            shape = torch.Size((self.plan.device_batch_size, self.plan.config.sequence_len))
            self._recorder.record(self.gpt, shape, self.z_loss)
        while (loss := self._accumulate(batch.rows)) is None:
            before, self.plan = self.plan, batch_size.with_fewer_rows(self.plan)
            if optimizer.wire.rank == 0:
                warnings.warn(f"out of memory with device_batch_size={before.device_batch_size}: going on with "
                              f"{self.plan.device_batch_size} ({self.plan.micro_batches} micro-batches instead of "
                              f"{before.micro_batches}; the batch stays the same)", stacklevel=1)  # fmt: skip
        optimizer.finish_gradients()
        sums = torch.stack([loss, optimizer.owned_square()])
        optimizer.wire.all_reduce(sums).wait()
        loss, norm = sums[0].float(), sums[1].sqrt().float()
        if self.clip_norm is not None:
            optimizer.scale_gradients((self.clip_norm / (norm + 1e-6)).clamp(max=1.0))
        optimizer.set_schedule(self.plan, self.global_step)
        wrapped: Any = self.optimizers()
        wrapped.step()  # Lightning's wrapper counts the step; it calls MuonAdamW.step
        optimizer.zero_grad()
        return {"loss": loss, "gradient_norm": norm}

    def _accumulate(self, rows: torch.Tensor) -> torch.Tensor | None:
        """Forward and backward of the step's micro-batches; rows: (micro_batches, device_batch_size, sequence_len + 1)
        of this plan or an earlier one. Returns this process's share of the loss, fp64, so that the order of its parts
        does not show; or None, without gradients, if a process has run out of memory."""
        optimizer, plan = self._optimizer, self.plan
        early = self.global_step - self.first_step < batch_size.OOM_STEPS
        left, ran_out = plan.micro_batches, False
        count = torch.zeros((), dtype=torch.int64, device=self.device)
        counted: Transfer | None = None
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        try:
            inputs, targets = inputs_and_targets(batch_size.regroup(rows, plan.device_batch_size))
            count = (targets != IGNORED).sum()
            counted = optimizer.wire.all_reduce(count)  # arrives while the first forward runs
            for micro_inputs, micro_targets in zip(inputs, targets, strict=True):
                left -= 1
                optimizer.reducer.begin(last=left == 0)
                loss += self._micro_batch(micro_inputs, micro_targets, count, counted)
                optimizer.reducer.flush()
        except RuntimeError as error:
            if not batch_size.is_out_of_memory(error):
                raise
            if not early:
                raise UserError(f"out of memory in step {self.global_step + 1}, though the first "
                                f"{batch_size.OOM_STEPS} had enough: lower model.device_batch_size (it is "
                                f"{plan.device_batch_size}) and go on with --resume true") from error  # fmt: skip
            ran_out = True
        if ran_out:  # and the exception, with all that its frames held, is gone
            self._recorder.drop()
            batch_size.release_memory(self.device)
            # The others wait for this process wherever they are in the step.
            counted = counted or optimizer.wire.all_reduce(count)
            optimizer.reducer.abandon(left)
        if not early or not self._processes.any(ran_out):
            return loss
        if counted is not None:
            counted.wait()
        optimizer.finish_gradients()
        optimizer.zero_grad()
        batch_size.release_memory(self.device)
        return None

    def _micro_batch(
        self, inputs: torch.Tensor, targets: torch.Tensor, count: torch.Tensor, counted: Transfer
    ) -> torch.Tensor:
        """Forward and backward of (device_batch_size, sequence_len) tokens; `count` is there when `counted` is.
        Returns their part of the step's loss."""
        summed = self.summed_loss(inputs, targets)
        counted.wait()
        part = summed / count.clamp(min=1)
        self.manual_backward(part)
        return part.detach()

    def summed_loss(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Sum of the losses of (B, T) targets, from a recording where there is one."""
        return self._recorder.summed_loss(self.gpt, inputs, targets, self.z_loss)

    def on_train_batch_end(self, outputs: Any, batch: StepBatch, batch_idx: int) -> None:
        if self.global_step >= self.last_step:
            self.trainer.should_stop = True  # has Lightning validate once more before it ends

    def validation_step(self, batch: StepBatch, batch_idx: int) -> None:
        inputs, targets = inputs_and_targets(batch.rows)
        for micro_inputs, micro_targets in zip(inputs, targets, strict=True):
            self.val_bits.update(self.gpt.token_losses(micro_inputs, micro_targets), micro_targets)

    def on_validation_epoch_end(self) -> None:
        self.log("val/bits_per_byte", self.val_bits.compute().float(), prog_bar=False, rank_zero_only=False)
        self.val_bits.reset()

    test_step = validation_step
    on_test_epoch_end = on_validation_epoch_end

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Set Lightning's counters to the checkpoint's step, as if its batches had been drawn by this process."""
        step = self.first_step = int(checkpoint["global_step"])
        loop = self.trainer.fit_loop.epoch_loop
        loop._batches_that_stepped = step  # the step that loggers see
        totals: Any = loop.batch_progress.total
        totals.ready = totals.started = totals.processed = totals.completed = step
        steps = loop.manual_optimization.optim_step_progress.total
        steps.ready = steps.completed = step

    @property
    def _datamodule(self) -> Any:
        return self.trainer.datamodule  # type: ignore[attr-defined]

    @property
    def _processes(self) -> Processes:
        processes: Processes = getattr(self.trainer.strategy, "processes", Processes())
        return processes

    @property
    def _optimizer(self) -> MuonAdamW:
        optimizer = self.trainer.optimizers[0]
        assert isinstance(optimizer, MuonAdamW)
        return optimizer
