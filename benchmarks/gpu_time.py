"""Where a GPU's time goes in training: kernels of a compiled micro-batch, an eager one, and a step of the optimizer.

    PYTHONPATH=. python benchmarks/gpu_time.py [--depth 12] [--rows 32] [--top 25] [--compile on off] [--fp8]
        [--lock FILE]

Prints, for each of them, the time by the clock, at first and when the card has worked for seconds without a break (it
may lower its clock then), the time of the device by kind of kernel and the longest kernels, and how far the whole is
from the time that its matrix products would take at the card's data-sheet rate.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Literal

import torch
from torch.profiler import ProfilerActivity, profile

from vnc.compiling import compile_in_place, use_fp8
from vnc.cuda_graph import RecordedLoss
from vnc.depth import TrainingPlan, make_plan
from vnc.gpt import GPT
from vnc.hardware import peak_flops
from vnc.optimizer import MuonAdamW

LONG = 3.0  # seconds
KINDS = {  # the first that fits
    "compiled": ("triton",),
    "attention": ("flash", "sdpa", "dot_do_o", "convert_dq"),
    "matrix product": ("gemm", "nvjet", "cutlass", "splitk", "xmma"),
    "embedding": ("sort", "Sort", "embedding", "scatter", "index", "Radix", "grad_weight"),
    "copy and fill": ("Memcpy", "Memset", "copy", "Fill", "fill"),
}


def kind_of(kernel: str) -> str:
    return next((kind for kind, words in KINDS.items() if any(word in kernel for word in words)), "other")


def pace(work: Callable[[], None], seconds: float) -> float:
    """Seconds that `work` takes, done over and over for so many seconds."""
    torch.cuda.synchronize()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        work()
        count += 1
        if count % 3 == 0:  # or Python would be seconds ahead of the device
            torch.cuda.synchronize()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / count


def show(title: str, work: Callable[[], None], flops: float, peak: float, top: int) -> None:
    work()
    at_first, seconds = pace(work, 0.5), pace(work, LONG)
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        work()
        torch.cuda.synchronize()
    kernels: dict[str, tuple[float, int]] = {}
    kinds: dict[str, float] = defaultdict(float)
    for event in profiler.key_averages():
        if event.self_device_time_total > 0:
            kernels[event.key] = event.self_device_time_total / 1e3, event.count
            kinds[kind_of(event.key)] += event.self_device_time_total / 1e3
    busy = sum(kinds.values())
    print(f"\n{title}: {at_first * 1e3:.1f} ms at first, {seconds * 1e3:.1f} ms in {LONG:.0f} s without a break, then "
          f"{busy:.1f} of the device; {flops / at_first / peak:.1%} and {flops / seconds / peak:.1%} of "
          f"{peak / 1e12:.0f} TFLOP/s", flush=True)  # fmt: skip
    print("  " + ", ".join(f"{kind} {ms:.1f}" for kind, ms in sorted(kinds.items(), key=lambda item: -item[1])))
    for name, (ms, count) in sorted(kernels.items(), key=lambda item: -item[1][0])[:top]:
        print(f"  {ms:8.2f} ms {count:5}  {name[:110]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=12)
    parser.add_argument("--rows", type=int, default=32, help="of 2,048 tokens in a micro-batch")
    parser.add_argument("--top", type=int, default=25)
    parser.add_argument("--compile", nargs="+", default=["on", "off"])
    parser.add_argument("--fp8", action="store_true")
    parser.add_argument("--lock", default=os.devnull, help="file: after compiling wait until no other command holds it")
    options = parser.parse_args()
    device, plan = torch.device("cuda"), make_plan(options.depth, num_steps=10)
    peak = peak_flops(device, torch.bfloat16)[0]
    lock = os.open(options.lock, os.O_RDWR | os.O_CREAT)  # held until the process ends
    for setting in options.compile:
        trainee = Trainee(plan, setting, options, peak)
        start = time.perf_counter()
        trainee.micro_batch()
        torch.cuda.synchronize()
        print(f"\ncompile {setting}: first micro-batch after {time.perf_counter() - start:.1f} s")
        fcntl.flock(lock, fcntl.LOCK_EX)
        flops = plan.flops_per_token * trainee.targets.numel()
        show(f"micro-batch, compile {setting}", trainee.micro_batch, flops, peak, options.top)
        trainee.record()
        show(f"the same, recorded as a CUDA graph, compile {setting}", trainee.micro_batch, flops, peak, top=0)
        print(f"  at most {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
    show("optimizer", trainee.step, 280 * plan.config.n_layer * plan.config.n_embd**3, peak, options.top)


class Trainee:
    """A model with its optimizer, and one micro-batch."""

    def __init__(self, plan: TrainingPlan, compile: Literal["on", "off"], options: argparse.Namespace, peak: float):
        torch.cuda.reset_peak_memory_stats()
        self.plan, device = plan, torch.device("cuda")
        self.gpt = GPT(plan.config, torch.bfloat16)
        self.gpt.init_weights()
        for parameter in self.gpt.blocks.parameters():
            if parameter.dim() >= 2:  # no zeros, as training begins with: products with them may be faster
                parameter.data.normal_(0, parameter.size(-1) ** -0.5)
        self.gpt.to(device)
        self.optimizer = MuonAdamW(self.gpt, plan)
        if options.fp8:
            print(use_fp8(self.gpt, device))
        compile_in_place(self.gpt, plan, compile, device, peak)
        ids = torch.randint(plan.config.vocab_size, (options.rows, plan.config.sequence_len + 1), device=device)
        self.summed_loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = self.gpt.summed_loss
        self.inputs, self.targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def micro_batch(self) -> None:
        self.optimizer.reducer.begin(last=False)
        (self.summed_loss(self.inputs, self.targets) / self.targets.numel()).backward()
        self.optimizer.reducer.flush()

    def record(self) -> None:
        self.summed_loss = RecordedLoss(self.gpt, self.inputs.shape, 0.0)

    def step(self) -> None:
        self.optimizer.finish_gradients()
        self.optimizer.owned_square()
        self.optimizer.set_schedule(self.plan, 5)
        self.optimizer.step()
        self.optimizer.zero_grad()


if __name__ == "__main__":
    main()
