"""Steps of `vnc fit` beside nanochat's on the same rows, by turns: tokens/s, loss, split of time, first step, memory.

    python benchmarks/training.py --data DIR --tokenizer DIR [--depth 4] [--steps 30] [--nanochat CHECKOUT]
        [--contenders vnc vnc-fp8 nanochat-fp32 nanochat-bf16 nanochat-bf16-flash nanochat-bf16-flash-fp8]
        [--device cuda --together]

Every contender is a process of its own that waits until it is its turn, so that all of them meet the same machine; what
vnc trains on is `vnc fit` as it comes, with its data, callbacks and logs, held at each step by the callback `Turns`.
nanochat is compiled, with its own optimizer, and gets the plan's rates and schedule, which follow its rules.
Times of the first steps are left out; medians and quartiles of the rest are printed. "first step" is from the start of
the process, with torch.compile's cache empty, while the others wait.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

from vnc.cuda.fp8 import suits_fp8
from vnc.depth import TrainingPlan, make_plan
from vnc.hardware import measure_matmul, peak_flops
from vnc.precision import cpu_bf16_feature
from vnc.schedule import decay_multiplier, lr_multiplier, muon_momentum

SOCKET, ROWS = "VNC_BENCHMARK_SOCKET", "VNC_BENCHMARK_ROWS"
WARM_UP = 3  # steps whose times do not count


class Stopwatch:
    """Seconds spent in functions, by name; on a GPU those of the device, which works behind Python's back."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.spans: list[tuple[str, Any, Any]] = []

    def watch(self, owner: Any, method: str, name: str) -> None:
        function: Callable[..., Any] = getattr(owner, method)

        def timed(*arguments: Any, **options: Any) -> Any:
            start = self.mark()
            try:
                return function(*arguments, **options)
            finally:
                self.spans.append((name, start, self.mark()))

        setattr(owner, method, timed)

    def mark(self) -> Any:
        if self.device == "cpu":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def take(self) -> dict[str, float]:
        """Seconds since the last time, and the most bytes of a GPU's memory so far."""
        taken = {"peak": float(torch.cuda.max_memory_allocated())} if self.device == "cuda" else {}
        for name, start, end in self.spans:
            seconds = end - start if self.device == "cpu" else start.elapsed_time(end) / 1000
            taken[name] = taken.get(name, 0.0) + seconds
        self.spans = []
        return taken


class Turns(Callback):
    """Lets `vnc fit` make a step when it is asked for one, and reports it."""

    def __init__(self) -> None:
        self.connection: Connection = Client(os.environ[SOCKET])

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        owner: Any = module
        self.watch = Stopwatch(module.device.type)
        self.watch.watch(owner, "summed_loss", "forward")
        self.watch.watch(owner, "manual_backward", "backward")
        self.watch.watch(owner._optimizer, "step", "optimizer")

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.connection.recv()
        self.watch.take()
        self.began = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.waited = time.perf_counter() - self.began
        np.save(os.environ[ROWS] + ".new.npy", batch.rows.cpu().numpy())
        os.replace(os.environ[ROWS] + ".new.npy", os.environ[ROWS])  # never half of it

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, *_: Any) -> None:
        loss = float(outputs["loss"])  # waits for the device
        now = time.perf_counter()  # the step since the last turn: its data, the step, and the callbacks of the last one
        self.connection.send({"loss": loss, "step": now - self.began, "data": self.waited, **self.watch.take()})
        self.connection.recv()
        self.began = time.perf_counter()


def nanochat_parts(
    checkout: str, plan: TrainingPlan, window_pattern: str, seed: int, device: str = "cpu"
) -> tuple[Any, Any]:
    """nanochat's model, of the plan's shape, and its optimizer, with the rates that its rules give for the plan."""
    sys.path.insert(0, checkout)
    from nanochat.gpt import GPT, GPTConfig  # type: ignore[import-not-found]

    size = plan.config
    config = GPTConfig(size.sequence_len, size.vocab_size, size.n_layer, size.n_head, size.n_head, size.n_embd,
                       window_pattern)  # fmt: skip
    torch.manual_seed(seed)
    with torch.device("meta"):
        model = GPT(config)
    model.to_empty(device=device)
    model.init_weights()
    scale = (plan.total_batch_tokens / 2**19) ** 0.5
    decay = plan.groups["matrices"].weight_decay
    return model, model.setup_optimizer(0.008 * scale, 0.3 * scale, 0.02 * scale, decay, 0.5 * scale)


def nanochat(checkout: str, options: argparse.Namespace) -> None:
    """The other side: makes the same steps with nanochat's model and optimizer on the rows that `Turns` left."""
    connection, watch, plan = Client(os.environ[SOCKET]), Stopwatch(options.device), the_plan(options)
    original, optimizer = nanochat_parts(checkout, plan, options.window_pattern, options.seed, options.device)
    if "-flash" in options.child:
        lend_flash_attention()
    if options.child.endswith("-fp8"):
        from nanochat.fp8 import Float8LinearConfig, convert_to_float8_training  # type: ignore[import-not-found]

        convert_to_float8_training(original, config=Float8LinearConfig.from_recipe_name("tensorwise"),
                                   module_filter_fn=in_fp8)  # fmt: skip
    model = torch.compile(original, dynamic=False)
    decay = plan.groups["matrices"].weight_decay
    watch.watch(optimizer, "step", "optimizer")
    for step in range(options.steps):
        connection.recv()
        while not os.path.exists(os.environ[ROWS]):  # before the first step of `vnc fit`
            time.sleep(0.1)
        began = time.perf_counter()
        rows = torch.from_numpy(np.load(os.environ[ROWS])).long().to(options.device)
        waited = time.perf_counter() - began
        losses = []
        for micro in rows:
            start = watch.mark()
            loss = model(micro[:, :-1].contiguous(), micro[:, 1:].contiguous())
            middle = watch.mark()
            losses.append(loss.detach())
            (loss / len(rows)).backward()
            watch.spans += [("forward", start, middle), ("backward", middle, watch.mark())]
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * lr_multiplier(plan, step)
            if group["kind"] == "muon":
                group["momentum"] = muon_momentum(plan, step)
                group["weight_decay"] = decay * decay_multiplier(plan, step)
        optimizer.step()
        original.zero_grad(set_to_none=True)
        mean = float(torch.stack(losses).mean())
        connection.send({"loss": mean, "step": time.perf_counter() - began, "data": waited, **watch.take()})


def in_fp8(module: torch.nn.Module, name: str) -> bool:
    """nanochat's choice of layers for FP8."""
    return isinstance(module, torch.nn.Linear) and suits_fp8(module.weight)


def lend_flash_attention() -> None:
    """nanochat wants FlashAttention 3, and without it masks whole matrices of scores for its windows. Where that cannot
    be had, this gives it the kernel that ours uses."""
    from nanochat import flash_attention  # type: ignore[import-not-found]

    def with_window(q: Any, k: Any, v: Any, causal: bool = False, window_size: tuple[int, int] = (-1, -1)) -> Any:
        assert causal
        left = -1 if window_size[0] >= q.size(1) else window_size[0]
        return torch.ops.aten._flash_attention_forward(
            q, k, v, None, None, q.size(1), k.size(1), 0.0, True, False, window_size_left=left, window_size_right=0
        )[0]

    flash_attention.flash_attn.flash_attn_func = with_window


def planned_steps(options: argparse.Namespace) -> int:
    """One more than are made: `vnc fit` ends its last one by writing a checkpoint."""
    return int(options.steps) + 1


def the_plan(options: argparse.Namespace) -> TrainingPlan:
    return make_plan(
        options.depth, head_dim=options.head_dim, sequence_len=options.sequence_len, num_steps=planned_steps(options),
        window_pattern=options.window_pattern, device_batch_size=options.rows, vocab_size=options.vocab_size,
        total_batch_tokens=options.batch_tokens,
    )  # fmt: skip


class Contender:
    def __init__(self, name: str, options: argparse.Namespace, folder: Path) -> None:
        self.name, self.folder = name, folder / name
        self.folder.mkdir()
        address = str(self.folder / "socket")
        environment = os.environ | {
            SOCKET: address, ROWS: str(folder / "rows.npy"), "GOMP_SPINCOUNT": "1000",
            "TORCHINDUCTOR_CACHE_DIR": str(self.folder / "inductor"),  # empty: what a newcomer's is
            "PYTHONPATH": os.pathsep.join((str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", ""))),
        }  # fmt: skip
        command = [sys.executable, *sys.argv, "--child", name]
        if name.startswith("vnc"):
            command = vnc_fit(options, self.folder, fp8=name == "vnc-fp8")
        if name.startswith("nanochat"):
            environment["NANOCHAT_DTYPE"] = {"fp32": "float32", "bf16": "bfloat16"}[name.split("-")[1]]
        self.began = time.perf_counter()
        with Listener(address) as listener:
            self.log = (self.folder / "log").open("w")
            self.process = subprocess.Popen(command, env=environment, stdout=self.log, stderr=subprocess.STDOUT)
            self.connection = listener.accept()
        self.steps: list[dict[str, float]] = []

    def step(self) -> dict[str, float]:
        self.begin_step()
        return self.end_step()

    def begin_step(self) -> None:
        if self.steps:  # it waits: after its last step it may have ended
            self.peak_bytes = most_resident(self.process.pid)
        try:
            self.connection.send("step")
        except BrokenPipeError:
            self.say_why_it_ended()

    def end_step(self) -> dict[str, float]:
        try:
            report: dict[str, float] = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.say_why_it_ended()
        if "peak" in report:
            self.peak_bytes = int(report["peak"])
        if not self.steps:
            self.first_step = time.perf_counter() - self.began
        self.steps.append(report)
        return report

    def say_why_it_ended(self) -> NoReturn:
        raise SystemExit(f"{self.name} ended: " + (self.folder / "log").read_text()[-3000:]) from None


def most_resident(process: int) -> int:
    """Bytes of memory that it held at its most."""
    return 1024 * int(Path(f"/proc/{process}/status").read_text().split("VmHWM:")[1].split()[0])


def vnc_fit(options: argparse.Namespace, folder: Path, fp8: bool) -> list[str]:
    data = ["--data", "TinyWorld", "--data.vocab_size", str(options.vocab_size)]
    if options.data:
        data = ["--data", "FineWebEdu", "--data.data_dir", options.data, "--data.tokenizer", options.tokenizer]
    more = [*data, "--trainer.callbacks+=benchmarks.training.Turns", f"--seed_everything={options.seed}"]
    return fit_command(options, folder, *more, depth=options.depth, num_steps=planned_steps(options),
                       compile=options.compile, fp8=str(fp8).lower())  # fmt: skip


def fit_command(options: argparse.Namespace, folder: Path, *more: str, **model: object) -> list[str]:
    """`vnc fit`, without samples and validation; `model`: what of --model is not among the options."""
    model |= dict(
        head_dim=options.head_dim, sequence_len=options.sequence_len, window_pattern=options.window_pattern,
        device_batch_size=options.rows, total_batch_tokens=options.batch_tokens,
    )  # fmt: skip
    return [
        sys.executable, "-m", "cli", "fit", *(f"--model.{key}={value}" for key, value in model.items()),
        f"--trainer.accelerator={getattr(options, 'device', 'cpu')}", "--samples.every_n_steps=0",
        f"--trainer.val_check_interval={10**6}", f"--runs_dir={folder}", *more,
    ]  # fmt: skip


def table(contenders: list[Contender], options: argparse.Namespace, measured: float) -> None:
    """measured: the rate of products before the first step, in the faster dtype; of known GPUs the data sheet's counts
    instead."""
    plan = the_plan(options)
    flops_per_token = plan.total_flops / (plan.num_steps * plan.total_batch_tokens)
    print("| | tokens/s: median (quartiles) | data | forward | backward | optimizer | the rest, ms | GFLOP/s | "
          "MFU | first step, s | peak, MB |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    peak = peak_flops(torch.device(options.device), torch.bfloat16)[0] if options.device == "cuda" else measured
    for contender in contenders:
        counted = contender.steps[WARM_UP:]
        rates = sorted(plan.total_batch_tokens / step["step"] for step in counted)
        low, median, high = statistics.quantiles(rates, n=4)
        parts = [1e3 * statistics.median(step[name] for step in counted) for name in PARTS]
        parts.append(1e3 * statistics.median(step["step"] for step in counted) - sum(parts))
        flops = median * flops_per_token
        print(f"| {contender.name} | {median:,.0f} ({low:,.0f}, {high:,.0f}) | "
              f"{' | '.join(f'{part:.0f}' for part in parts)} | {flops / 1e9:.0f} | {flops / peak:.1%} | "
              f"{contender.first_step:.1f} | {contender.peak_bytes / 2**20:,.0f} |")  # fmt: skip


SIZES = {"cpu": (1024, 2048), "cuda": (4096, 8192)}  # of the products that say how fast the machine can be
PARTS = ("data", "forward", "backward", "optimizer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of Parquet shards; TinyWorld without")
    parser.add_argument("--tokenizer", help="of the data")
    parser.add_argument("--vocab_size", type=int, default=4096, help="of the tokenizer")
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--head_dim", type=int, default=64)
    parser.add_argument("--sequence_len", type=int, default=512)
    parser.add_argument("--window_pattern", default="L")
    parser.add_argument("--rows", type=int, default=8, help="of a micro-batch")
    parser.add_argument("--batch_tokens", type=int, default=16_384, help="of a step")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--together", action="store_true", help="all make their first step at once")
    parser.add_argument("--lock", help="file: after the first steps wait until no other benchmark holds it")
    parser.add_argument("--compile", default="auto", choices=["auto", "on", "off"])
    parser.add_argument("--nanochat", help="checkout of nanochat")
    parser.add_argument("--contenders", nargs="+")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return nanochat(options.nanochat, options)
    slow_bf16 = options.device == "cpu" and not cpu_bf16_feature()
    peers = ["nanochat-fp32"] if slow_bf16 else ["nanochat-fp32", "nanochat-bf16"]
    names = options.contenders or ["vnc", *(peers if options.nanochat else [])]
    rates = []
    for dtype in (torch.float32, torch.bfloat16):
        rate = max(
            measure_matmul(torch.device(options.device), dtype, size, limit=2.0) for size in SIZES[options.device]
        )
        rates.append(rate)
        print(f"{dtype}: {rate / 1e9:.0f} GFLOP/s, {torch.get_num_threads()} threads, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder, Path(options.lock or os.devnull).open("w") as lock:
        contenders = []
        try:
            for name in names:  # one after the other, so that first steps are those of a machine at rest
                contenders.append(Contender(name, options, Path(folder)))
                contenders[-1].begin_step()
                if not options.together:
                    contenders[-1].end_step()
            for contender in contenders if options.together else []:
                contender.end_step()
            if options.lock:
                print("first steps made", flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
            for step in range(1, options.steps):
                losses = [contender.step()["loss"] for contender in contenders]
                if step % max(1, options.steps // 6) == 0 or step == options.steps - 1:
                    said = "  ".join(f"{c.name} {loss:.4f}" for c, loss in zip(contenders, losses, strict=True))
                    print(f"loss of step {step}: {said}", flush=True)
            table(contenders, options, max(rates))
            for contender in contenders:
                said = [line for line in (contender.folder / "log").read_text().splitlines() if "CUDA graph" in line]
                print(*said, sep="\n")
        finally:
            for contender in contenders:
                contender.process.kill()
    return None


if __name__ == "__main__":
    main()
