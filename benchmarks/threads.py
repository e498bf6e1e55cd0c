"""What waiting threads cost: training steps with GNU OpenMP's own long spinning, with vnc's short one, and with none,
alone and beside a busy neighbour process.

    python benchmarks/threads.py

Each figure is the median tokens/s of 6 steps of a depth-4 model in a process of its own.
"""

import os
import subprocess
import sys

STEPS = """
import time, torch
from vnc.depth import make_plan
from vnc.gpt import GPT
from vnc.optimizer import MuonAdamW
from vnc.precision import choose_compute_dtype
plan = make_plan(4, vocab_size=4096, sequence_len=512, head_dim=64, window_pattern="L",
                 total_batch_tokens=4096, num_steps=9)
gpt = GPT(plan.config, choose_compute_dtype("auto", "cpu")[0])
gpt.init_weights(torch.Generator().manual_seed(0))
optimizer = MuonAdamW(gpt, plan)
ids = torch.randint(0, 4096, (8, 513))
times = []
for step in range(9):
    start = time.perf_counter()
    (gpt.summed_loss(ids[:, :-1], ids[:, 1:]) / 4096).backward()
    optimizer.set_schedule(plan, step)
    optimizer.step()
    optimizer.zero_grad()
    times.append(time.perf_counter() - start)
print(4096 / sorted(times[3:])[3])
"""
NEIGHBOUR = "while True: sum(range(10**6))"


def tokens_per_second(spin: str | None) -> float:
    environment = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    if spin is not None:
        environment["GOMP_SPINCOUNT"] = spin
    output = subprocess.run([sys.executable, "-c", STEPS], env=environment, capture_output=True, text=True, check=True)
    return float(output.stdout)


def main() -> None:
    print(f"{'tokens/s, spin count':<24}{'default':>10}{'1000':>10}{'0':>10}")
    for name, neighbours in (("alone", 0), ("one busy neighbour", 1)):
        busy = [subprocess.Popen([sys.executable, "-c", NEIGHBOUR]) for _ in range(neighbours)]
        try:
            figures = [tokens_per_second(spin) for spin in (None, "1000", "0")]
            print(f"{name:<24}" + "".join(f"{figure:>10,.0f}" for figure in figures))
        finally:
            for process in busy:
                process.kill()


if __name__ == "__main__":
    main()
