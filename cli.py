"""The front door: `vnc VERB ...`. fit, validate and test are Lightning's command line (lightning_cli.py); every other
verb is one plain typed function, imported only when it is asked for, so that `vnc --help` and `vnc plan` are quick."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vnc import __version__
from vnc.errors import UserError
from vnc.memory import keep_freed_memory
from vnc.quick_torchmetrics import import_torchmetrics

LIGHTNING_VERBS = {
    "fit": "train a model: vnc fit --config configs/tiny.yaml",
    "validate": "bits per byte of a checkpoint: vnc validate --config ... --ckpt_path DIR",
    "test": "the same on the data's test split",
}

# verb: (module:function, what it does)
VERBS = {
    "plan": ("vnc.plan_report:plan", "what a run will be and cost, before it starts"),
    "prepare text": ("datamodules.prepare.text:prepare_text", "shuffled Parquet shards from your own files"),
    "prepare fineweb_edu": ("datamodules.prepare.hub_datasets:fineweb_edu", "the same from FineWeb-Edu or another"),
    "prepare openwebtext": ("datamodules.prepare.hub_datasets:openwebtext", "the same from OpenWebText"),
    "prepare task_mixture": ("datamodules.prepare.task_mixture:task_mixture", "chat and questions for mid-training"),
    "prepare verify": ("datamodules.prepare.verify:verify", "check prepared data against its manifest"),
    "data show": ("datamodules.tasks.show:show_task", "print conversations of a task with what is learnt marked"),
    "tokenizer report": ("datamodules.tokenizer_report:report", "bytes per token of a vocabulary, beside GPT-2's"),
    "train": ("training_modes:train", "pretraining, mid-training, or both, one after the other"),
    "processes": ("running_processes:processes", "your training processes on this machine; --kill true ends them"),
    "tokenizer train": ("datamodules.tokenizer_training:train", "train a vocabulary on your text"),
    "chat": ("vnc.chat:chat", "talk to a checkpoint"),
    "evaluate": (
        "vnc.evals.evaluate:evaluate",
        "score a checkpoint: CORE, the gauntlet, ChatCORE, IFEval, judged answers",
    ),
    "app": ("streamlit_app.launch:app", "chat, runs, evals, scaling and plan in a browser"),
    "export": ("vnc.export:export", "weights, sizes and tokenizer alone, for inference"),
    "scaling sweep": ("scaling.sweep:sweep", "train a grid of depths x FLOPs budgets x seeds"),
    "scaling fit": ("scaling.fit_report:fit_command", "optima, power laws and surfaces, each with its interval"),
    "scaling predict": ("scaling.predict:predict_command", "what to train with so many FLOPs or GPU-hours"),
    "scaling plot": ("scaling.report:plot", "its figures, and a report with the answer"),
    "scaling verify-flops": ("scaling.verify_flops:verify_flops", "the FLOPs formula against counted FLOPs and 6ND"),
    "scaling import": ("scaling.import_logs:import_logs", "a study from logs of VibeNanoChat"),
    "import gpt2": ("vnc.gpt2_import:import_gpt2", "a Hugging Face GPT-2, to score beside your own model"),
}
POSITIONAL = {"export", "import gpt2"}  # verbs whose required arguments stand without --names


def main() -> None:
    """Run the command line; bad input ends in one line and exit code 2, an internal fault in its traceback."""
    # Threads that wait for each other spin only briefly, then sleep (GNU OpenMP, read when torch loads): as fast as its
    # default on an idle machine, and several times as fast beside a busy neighbour (benchmarks/threads.py). While it
    # answers, a model has longer waits between products, and notices a neighbour anyway (decoding/thread_trials.py).
    os.environ.setdefault("GOMP_SPINCOUNT", "10000" if sys.argv[1:2] in (["chat"], ["app"]) else "1000")
    # When a process of a run dies, the others say which one in a line (vnc/watch.py); torch would add C++ stack traces.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    keep_freed_memory()
    warnings.formatwarning = one_line_warning
    arguments = sys.argv[1:]
    try:
        run(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone: nothing to say
    except KeyboardInterrupt:
        sys.exit(130)


def one_line_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning without the source line that raised it."""
    return f"warning: {message}\n"


def run(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return
    if arguments[0] == "--version":
        print(f"vnc {__version__}")
        return
    if arguments[0] in LIGHTNING_VERBS:
        sys.argv[1:] = find_configs(arguments)
        import_torchmetrics()
        importlib.import_module("lightning_cli").main()
        return
    for length in (2, 1):
        name = " ".join(arguments[:length])
        if name in VERBS:
            call(name, load(VERBS[name][0]), arguments[length:])
            return
    following = [name for name in VERBS if name.startswith(arguments[0] + " ")]
    hint = f"vnc {arguments[0]} needs one of: {', '.join(name.split()[1] for name in following)}" if following else (
        f"vnc has no verb {arguments[0]!r}; it has {', '.join([*LIGHTNING_VERBS, *VERBS])}"
    )  # fmt: skip
    raise UserError(hint)


def find_configs(arguments: list[str]) -> list[str]:
    """The arguments, with each --config that is not in the working directory taken from those installed with vnc."""
    from config_files import find_config

    found = list(arguments)
    for position, argument in enumerate(arguments[:-1]):
        if argument in ("--config", "-c"):
            found[position + 1] = str(find_config(Path(arguments[position + 1])))
    return found


def load(target: str) -> Callable[..., Any]:
    module, _, function = target.partition(":")
    loaded: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return loaded


def call(name: str, function: Callable[..., Any], arguments: list[str]) -> None:
    """Parse `arguments` by the function's signature and call it."""
    from one_line_errors import OneLineErrors

    parser = OneLineErrors(prog=f"vnc {name}")
    parser.add_function_arguments(function, as_positional=name in POSITIONAL)
    function(**vars(parser.parse_args(spell_out_pairs(function, spell_out_flags(function, arguments)))))


def spell_out_flags(function: Callable[..., Any], arguments: list[str]) -> list[str]:
    """`--json` alone means `--json true`, for every parameter whose default is False."""
    flags = {f"--{name}" for name, parameter in inspect.signature(function).parameters.items()
             if parameter.default is False}  # fmt: skip
    spelled: list[str] = []
    for position, argument in enumerate(arguments):
        spelled.append(argument)
        following = arguments[position + 1 : position + 2]
        if argument in flags and following not in (["true"], ["false"]):
            spelled.append("true")
    return spelled


def spell_out_pairs(function: Callable[..., Any], arguments: list[str]) -> list[str]:
    """`--compare A B` means `--compare ["A", "B"]`, for every parameter that takes a pair of texts."""
    pairs = {f"--{name}" for name, parameter in inspect.signature(function).parameters.items()
             if "tuple[str, str]" in str(parameter.annotation)}  # fmt: skip
    spelled: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        spelled.append(argument)
        if argument in pairs and len(rest) >= 2 and not rest[0].startswith("[") and not rest[1].startswith("--"):
            spelled.append(json.dumps([rest.pop(0), rest.pop(0)]))
    return spelled


def overview() -> str:
    """The text of `vnc --help`."""
    verbs = {**LIGHTNING_VERBS, **{name: text for name, (_, text) in VERBS.items()}}
    width = max(map(len, verbs))
    lines = [f"  vnc {name:<{width}}  {text}" for name, text in verbs.items()]
    return "\n".join(
        [
            "vnc trains small GPTs from raw text into chatbots.",
            "",
            *lines,
            "",
            "vnc VERB --help tells a verb's options.",
        ]
    )


if __name__ == "__main__":
    main()
