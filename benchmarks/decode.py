"""Reading a prompt and saying one token after another: how fast, how near to the memory's limit, beside nanochat's.

    python benchmarks/decode.py --depth 4
    python benchmarks/decode.py --depth 4 8 --nanochat CHECKOUT --threads 1 2 --rounds 9
    python benchmarks/decode.py --depth 12 --head_dim 128 --sequence_len 2048 --device cuda --threads 1

A model of random weights reads a prompt of 128 tokens and says 128 more, greedily; then eight rows do so at once. With
--nanochat the engine of that checkout does the same in every round, in a process of its own, with the same weights and
in fp32, its default on a CPU (its variable NANOCHAT_DTYPE changes that). Its first line for each model compares the
logits of both in fp32, which tells that the same is computed. Printed are tokens/s (median of the rounds, lowest and
highest) and the median of the rounds' ratios, by the clock and by processor time; for decoding also the bytes of the
matrices that one token needs and how fast they were read, against a sum over a buffer of that size. A model that fits
into the processor's cache is not bound by that, but by the number of calls.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any

import torch

from vnc.depth import model_config
from vnc.engine import Engine, frozen_copy
from vnc.gpt import GPT, Block
from vnc.memory import keep_freed_memory
from vnc.precision import DTYPES, choose_compute_dtype
from vnc.sampling import GREEDY
from vnc.tokenizer import Tokenizer

PROMPT, SAID, MANY = 128, 128, 8
TASKS = {"prefill": PROMPT, "decode, 1 row": SAID - 1, f"decode, {MANY} rows": MANY * (SAID - 1)}  # tokens of each
Steps = Callable[[list[int], int], Iterator[None]]
Seconds = dict[str, tuple[float, float]]  # of each task, by the clock and of the processors


def random_model(depth: int, options: argparse.Namespace) -> GPT:
    config = model_config(
        depth, head_dim=options.head_dim, vocab_size=options.vocab_size, sequence_len=options.sequence_len
    )
    gpt, generator = GPT(config).requires_grad_(False), torch.Generator().manual_seed(0)
    gpt.init_weights(generator)
    for parameter in gpt.parameters():  # what training starts at zero would leave most of the model out
        if parameter.dim() >= 2:
            std = 0.02 if parameter is gpt.head else parameter.size(-1) ** -0.5
            parameter.normal_(0, std, generator=generator)
    gpt.smear_scale.fill_(0.3)
    return gpt


def prompt_ids() -> list[int]:
    return torch.randint(0, 256, (PROMPT,), generator=torch.Generator().manual_seed(1)).tolist()


def vnc_steps(gpt: GPT, options: argparse.Namespace) -> Steps:
    letters = random.Random(0).choices("etaoinshrdlu ", k=200_000)  # any text that is enough for so many tokens
    tokenizer = Tokenizer.train(["".join(letters)], options.vocab_size)
    gpt.compute_dtype = choose_compute_dtype(options.compute_dtype, options.device)[0]
    engine = Engine(frozen_copy(gpt.to(options.device)), tokenizer)

    def steps(prompt: list[int], rows: int) -> Iterator[None]:
        for event in engine.stream([prompt] * rows, GREEDY, SAID, ()):
            if event.token is not None and event.row == rows - 1:
                yield

    return steps


def nanochat_steps(gpt: GPT, options: argparse.Namespace) -> Steps:
    model = nanochat_model(gpt, options.nanochat).to(options.device)
    from nanochat.engine import Engine as TheirEngine  # type: ignore[import-not-found]

    class NoSpecials:
        """The engine asks where tool calls begin and what ends a row; here nothing does."""

        def encode_special(self, name: str) -> int:
            return -1

        def get_bos_token_id(self) -> int:
            return -1

    engine = TheirEngine(model, NoSpecials())

    def steps(prompt: list[int], rows: int) -> Iterator[None]:
        for _ in engine.generate(prompt, num_samples=rows, max_tokens=SAID, temperature=0.0):
            yield

    return steps


def nanochat_model(gpt: GPT, checkout: str) -> Any:
    """Its model with our weights."""
    sys.path.insert(0, checkout)
    sys.modules.setdefault("rustbpe", ModuleType("rustbpe"))  # trains its tokenizers, none of which is needed
    from nanochat import gpt as theirs  # type: ignore[import-not-found]

    config = gpt.config
    sizes = dict(sequence_len=config.sequence_len, vocab_size=config.vocab_size, n_layer=config.n_layer,
                 n_head=config.n_head, n_kv_head=config.n_head, n_embd=config.n_embd,
                 window_pattern=config.window_pattern)  # fmt: skip
    model = theirs.GPT(theirs.GPTConfig(**sizes))
    model.init_weights()
    weights: dict[str, Any] = {
        "transformer.wte.weight": gpt.wte.weight, "lm_head.weight": gpt.head, "resid_lambdas": gpt.residual_scale,
        "x0_lambdas": gpt.x0_scale, "smear_gate.weight": gpt.smear_gate.weight, "smear_lambda": gpt.smear_scale,
        "backout_lambda": gpt.backout_scale,
    }  # fmt: skip
    for name, table in gpt.value_embeds.items():
        weights[f"value_embeds.{name}.weight"] = table.weight
    for layer, block in enumerate(gpt.blocks):
        assert isinstance(block, Block)
        place, attn = f"transformer.h.{layer}.", block.attn
        # It turns queries and keys the other way round, which exchanging the halves of each head makes up for.
        halves = attn.qkv[:2].view(2, config.n_head, 2, -1, config.n_embd).flip(2).reshape(2, config.n_embd, -1)
        for name, matrix in zip("qkv", (*halves, attn.qkv[2]), strict=True):
            weights[f"{place}attn.c_{name}.weight"] = matrix
        weights[place + "attn.c_proj.weight"] = attn.proj.weight
        weights[place + "mlp.c_fc.weight"] = block.mlp.fc.weight
        weights[place + "mlp.c_proj.weight"] = block.mlp.proj.weight
        if attn.value_gate is not None:
            weights[place + "attn.ve_gate.weight"] = attn.value_gate.weight
    model.load_state_dict(weights)
    return model.eval()


@torch.inference_mode()
def differ(gpt: GPT, options: argparse.Namespace) -> float:
    """The largest difference between the logits of both models in fp32."""
    ids = torch.tensor([prompt_ids()])
    return float((gpt.logits(gpt(ids)) - nanochat_model(gpt, options.nanochat)(ids)).abs().max())


def bytes_per_token(gpt: GPT, itemsize: int) -> int:
    """Of the matrices in the compute dtype; of a table of embeddings just one row is read."""
    matrices = sum(parameter.numel() for parameter in gpt.blocks.parameters() if parameter.dim() >= 2)
    return (matrices + gpt.config.vocab_size * gpt.config.n_embd) * itemsize


def one_round(steps: Steps) -> Seconds:
    found: Seconds = {}
    for rows, (first, rest) in ((1, ("prefill", "decode, 1 row")), (MANY, (None, f"decode, {MANY} rows"))):
        marks = [(time.perf_counter(), time.process_time())]
        for done, _ in enumerate(steps(prompt_ids(), rows), 1):
            if done in (1, SAID):
                marks.append((time.perf_counter(), time.process_time()))
        for task, before, after in zip((first, rest), marks, marks[1:], strict=False):
            if task is not None:
                found[task] = (after[0] - before[0], after[1] - before[1])
    return found


def serve(connection: Connection, name: str, depth: int, options: argparse.Namespace) -> None:
    """The life of a process: for each number of threads that comes, one round and its times."""
    if name == "vnc":
        keep_freed_memory()  # as `vnc chat` does
    make = {"vnc": vnc_steps, "nanochat": nanochat_steps}[name]
    steps = make(random_model(depth, options), options)
    while (threads := connection.recv()) is not None:
        torch.set_num_threads(threads)
        connection.send(one_round(steps))


def reading_speed(size: int, device: str) -> float:
    """Bytes/s at which a sum goes through a buffer of so many bytes again and again."""
    buffer, seconds = torch.ones(size // 4, device=device), []
    for _ in range(20):
        start = time.perf_counter()
        buffer.sum().item()
        seconds.append(time.perf_counter() - start)
    return size / statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--head_dim", type=int, default=64)
    parser.add_argument("--vocab_size", type=int, default=4096)
    parser.add_argument("--sequence_len", type=int, default=512)
    parser.add_argument("--compute_dtype", choices=("auto", *DTYPES), default="auto")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--nanochat", metavar="DIR", help="a checkout of nanochat, to run beside")
    options = parser.parse_args()
    dtype, reason = choose_compute_dtype(options.compute_dtype, options.device)
    print(f"{reason}; {options.rounds} rounds, prompt {PROMPT}, said {SAID} tokens")
    processes = multiprocessing.get_context("spawn")
    for depth in options.depth:
        gpt = random_model(depth, options)
        size = bytes_per_token(gpt, dtype.itemsize)
        print(f"\ndepth {depth}: width {gpt.config.n_embd}, {sum(map(torch.numel, gpt.parameters())):,} parameters")
        if options.nanochat:
            print(f"logits of both models in fp32 differ by at most {differ(gpt, options):.1e}")
        engines = {}
        for name in ("nanochat", "vnc") if options.nanochat else ("vnc",):
            engines[name], theirs = processes.Pipe()
            processes.Process(target=serve, args=(theirs, name, depth, options), daemon=True).start()
        for threads in options.threads:
            torch.set_num_threads(threads)
            rounds: dict[str, list[Seconds]] = {name: [] for name in engines}
            speeds = []
            for round_ in range(1 + options.rounds):
                speeds.append(reading_speed(size, options.device))
                for name, engine in engines.items():
                    time.sleep(0.2)  # the threads of the process before may still spin, waiting for work
                    engine.send(threads)
                    found = engine.recv()
                    if round_ > 0:  # the first one warms up
                        rounds[name].append(found)
            report(threads, rounds, size, statistics.median(speeds))
        for engine in engines.values():
            engine.send(None)


def report(threads: int, rounds: dict[str, list[Seconds]], size: int, speed: float) -> None:
    print(f"threads {threads}: {size / 1e6:.1f} MB a token, which a sum reads at {speed / 1e9:.0f} GB/s")
    for task, tokens in TASKS.items():
        for name, times in rounds.items():
            rates = [tokens / seconds[task][0] for seconds in times]
            median = statistics.median(rates)
            line = f"  {task:<16}{name:<10}{median:>8,.0f} tokens/s ({min(rates):,.0f} to {max(rates):,.0f})"
            if name == "vnc" and "nanochat" in rounds:
                clock, processor = (
                    statistics.median(
                        theirs[task][kind] / mine[task][kind]
                        for theirs, mine in zip(rounds["nanochat"], times, strict=True)
                    )
                    for kind in (0, 1)
                )
                line += f"  {clock:.1f} x, by processor time {processor:.1f} x"
            if name == "vnc" and task == "decode, 1 row":
                line += f"  {size * median / 1e9:.1f} GB/s, {size * median / speed:.0%} of a sum's"
            print(line, flush=True)


if __name__ == "__main__":
    main()
