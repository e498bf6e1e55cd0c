"""Answers to GSM8K's questions written one at a time, in plain batches, and in a batch whose places are filled again.

    python benchmarks/generation.py --checkpoint runs/chat4 --data gsm8k_test.jsonl

Every round takes other questions and answers them in all three ways, one after the other, greedy and with calculator
calls, so that a busy neighbour slows all alike. Printed are rows/s (median of the rounds), the median of the rounds'
ratios by the clock and by processor time (which a neighbour hardly disturbs; with one thread it is the better figure on
a busy machine), and how many answers differ from those written one at a time. Any chat checkpoint will do; the one of
docs/chatcore.md, of depth 4, was made with

    vnc tokenizer train --data TEXT --vocab_size 4096 --max_bytes 12000000 --out tok
    vnc fit --data TaskMixture --data.data_dir MIX --data.tokenizer tok --data.lanes 8 --data.tasks \\
      '[{task: gsm8k, epochs: 3}, {task: mmlu, epochs: 2}, {task: spelling, size: 6000}]' --model.depth 4 \\
      --model.sequence_len 512 --model.head_dim 64 --model.total_batch_tokens 8192 --model.num_steps 350 --name chat4
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from vnc.checkpoint import load_model
from vnc.conversation import Conversation, render_prompt
from vnc.engine import Engine, freeze, newest_part
from vnc.precision import DTYPES, choose_compute_dtype

Prompts = list[list[int]]
Ways = dict[str, Callable[[Prompts], Prompts]]


def ways(engine: Engine, max_tokens: int, places: int) -> Ways:
    def one_at_a_time(prompts: Prompts) -> Prompts:
        return [engine.generate([prompt], max_tokens=max_tokens)[0] for prompt in prompts]

    def sorted_batches(prompts: Prompts) -> Prompts:
        said: Prompts = [[] for _ in prompts]
        order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
        for first in range(0, len(order), places):
            batch = order[first : first + places]
            answers = engine.generate([prompts[place] for place in batch], max_tokens=max_tokens)
            for place, answer in zip(batch, answers, strict=True):
                said[place] = answer
        return said

    def refilled(prompts: Prompts) -> Prompts:
        said: Prompts = [[] for _ in prompts]
        order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
        for event in engine.stream_queue([prompts[place] for place in order], max_tokens=max_tokens, places=places):
            if event.token is not None:
                said[order[event.row]].append(event.token)
        return said

    return {"one at a time": one_at_a_time, "sorted batches": sorted_batches, "places refilled": refilled}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="JSON Lines with a question in each")
    parser.add_argument("--rows", type=int, default=128, help="questions of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--places", type=int, default=64, help="rows of a batch")
    parser.add_argument("--max_tokens", type=int, default=256)
    parser.add_argument("--compute_dtype", choices=("auto", *DTYPES), default="auto")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dtype, reason = choose_compute_dtype(options.compute_dtype, "cpu")
    loaded = load_model(options.checkpoint, compute_dtype=dtype)
    engine = Engine(freeze(loaded.gpt), loaded.tokenizer)
    prompts = []
    for line in options.data.read_text().splitlines()[: options.rows * options.rounds]:
        asked = Conversation.from_dicts([{"role": "user", "content": json.loads(line)["question"]}])
        prompts.append(newest_part(render_prompt(asked, loaded.tokenizer), engine.context // 2)[0])
    print(
        f"{reason}; {options.rounds} rounds of {options.rows} rows, {options.places} places, {options.threads} threads"
    )
    table = ways(engine, options.max_tokens, options.places)
    for answer in table.values():
        answer(prompts[:4])  # the first pass of a process is slow
    seconds: dict[str, list[float]] = {name: [] for name in table}
    processor: dict[str, list[float]] = {name: [] for name in table}
    differ = dict.fromkeys(table, 0)
    all_said: Prompts = []
    for round_ in range(options.rounds):
        own = prompts[round_ * options.rows : (round_ + 1) * options.rows]
        reference: Prompts = []
        for name, answer in table.items():
            start, busy = time.perf_counter(), time.process_time()
            said = answer(own)
            seconds[name].append(time.perf_counter() - start)
            processor[name].append(time.process_time() - busy)
            reference = reference or said
            differ[name] += sum(mine != theirs for mine, theirs in zip(said, reference, strict=True))
        all_said += reference
    tokens, calls = sum(map(len, all_said)), loaded.tokenizer.special("<|output_start|>")
    print(f"{tokens / len(all_said):.0f} tokens a row, {len(set(map(tuple, all_said)))} different answers of "
          f"{len(all_said)}, {sum(said.count(calls) for said in all_said)} calculator calls")  # fmt: skip
    for name in table:
        rate = statistics.median(options.rows / second for second in seconds[name])
        by_clock, by_processor = (ratios(times["one at a time"], times[name]) for times in (seconds, processor))
        print(f"{name:<18}{rate:>8.2f} rows/s  clock {by_clock}  processor {by_processor}  {differ[name]} differ")


def ratios(before: list[float], after: list[float]) -> str:
    each = [one / other for one, other in zip(before, after, strict=True)]
    return f"{statistics.median(each):>5.1f} x ({min(each):.1f} to {max(each):.1f})"


if __name__ == "__main__":
    main()
