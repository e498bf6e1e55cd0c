"""Most memory resident in training steps at depth 12: ours, without each of our savings, and nanochat's.

    PYTHONPATH=. python benchmarks/memory.py [--depth 12] [--vocab_size 32768] [--nanochat CHECKOUT]

Every row is one process (or two ranks, gloo on the loopback interface) of its own that makes two steps of two
micro-batches on random token ids, plan, model and optimizer as `vnc fit` has them, data and callbacks left out. Printed
is what the process held at its most, and that less what it held after its imports. With two ranks it is rank 0's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

import vnc.loss
from benchmarks.dist_muon import spawn, update
from benchmarks.training import most_resident, nanochat_parts
from vnc.depth import TrainingPlan, make_plan
from vnc.gpt import GPT
from vnc.memory import keep_freed_memory
from vnc.optimizer import MuonAdamW
from vnc.wire import Wire

ROWS, MICRO_BATCHES, STEPS = 8, 2, 2
CASES = {
    "vnc": (1, {}),
    "vnc, all logits at once": (1, {"whole_loss": True}),
    "2 ranks: vnc": (2, {}),
    "2 ranks: gradients of all layers kept until the step": (2, {"reduce_every_micro_batch": False}),
    "2 ranks: weights gathered in bf16": (2, {"gather_dtype": torch.bfloat16}),
}


def ours(wire: Wire, plan: TrainingPlan, whole_loss: bool = False, **options: Any) -> tuple[int, int]:
    """(bytes at most, bytes before)."""
    keep_freed_memory()
    before = most_resident(os.getpid())
    if whole_loss:
        vnc.loss.product_tokens = vnc.loss.chunk_tokens = lambda *_: 2**62  # type: ignore[assignment]
    gpt = GPT(plan.config, torch.bfloat16)
    gpt.init_weights(torch.Generator().manual_seed(0))
    optimizer: Any = MuonAdamW(gpt, plan, wire, **options)
    optimizer.model, optimizer.plan = gpt, plan
    for _ in range(STEPS):
        for left in reversed(range(MICRO_BATCHES)):
            inputs, targets = micro_batch(plan)
            optimizer.reducer.begin(last=left == 0)
            (gpt.summed_loss(inputs, targets) / plan.total_batch_tokens).backward()
            optimizer.reducer.flush()
        update(optimizer)
    return most_resident(os.getpid()), before


def theirs(checkout: str, plan: TrainingPlan) -> tuple[int, int]:
    before = most_resident(os.getpid())
    model, optimizer = nanochat_parts(checkout, plan, "L", 0)
    compiled = torch.compile(model, dynamic=False)
    for _ in range(STEPS):
        for _ in range(MICRO_BATCHES):
            inputs, targets = micro_batch(plan)
            (compiled(inputs, targets) / MICRO_BATCHES).backward()
        optimizer.step()
        model.zero_grad(set_to_none=True)
    return most_resident(os.getpid()), before


def micro_batch(plan: TrainingPlan) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(0, plan.config.vocab_size, (ROWS, plan.config.sequence_len + 1))
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


def run(case: str, options: argparse.Namespace) -> None:
    """What a row's process does: measures, and prints a line of the table."""
    ranks, arguments = CASES.get(case, (1, {}))
    plan = make_plan(options.depth, vocab_size=options.vocab_size, sequence_len=options.sequence_len, head_dim=64,
                     window_pattern="L", num_steps=100, device_batch_size=ROWS, world_size=ranks,
                     total_batch_tokens=ranks * MICRO_BATCHES * ROWS * options.sequence_len)  # fmt: skip
    start = time.perf_counter()
    if case not in CASES:
        most, before = theirs(options.nanochat, plan)
    elif ranks > 1:
        most, before = spawn(ranks, in_rank, plan, arguments)
    else:
        most, before = ours(Wire(), plan, **arguments)
    seconds = time.perf_counter() - start
    print(f"| {case} | {most / 2**20:,.0f} | {(most - before) / 2**20:,.0f} | {seconds:.0f} |", flush=True)


def in_rank(wire: Wire, plan: TrainingPlan, arguments: dict[str, Any]) -> tuple[int, int]:
    return ours(wire, plan, **arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=12)
    parser.add_argument("--vocab_size", type=int, default=32_768)
    parser.add_argument("--sequence_len", type=int, default=512)
    parser.add_argument("--nanochat", help="checkout of nanochat")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        return run(options.case, options)
    print(f"depth {options.depth}, vocabulary {options.vocab_size:,}, micro-batches of {ROWS} x {options.sequence_len}")
    print("| | MB at most | less what it held before | seconds |\n|---|---|---|---|", flush=True)
    for case in (*CASES, *(["nanochat, fp32", "nanochat, bf16"] if options.nanochat else [])):
        dtype = {"NANOCHAT_DTYPE": "bfloat16" if "bf16" in case else "float32"}
        subprocess.run([sys.executable, *sys.argv, "--case", case], env=os.environ | dtype, check=True)
    return None


if __name__ == "__main__":
    sys.argv[0] = str(Path(__file__))
    main()
