"""A page of C as a library, compiled by the machine's own compiler when it is first needed and kept for the next time.

The libraries lie in the user's cache folder, one for each state of the page and each processor. Nothing is written
where there is none that can be written; then the page is compiled for this process alone.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from vnc.config import SMEAR_CHANNELS, VALUE_GATE_CHANNELS
from vnc.precision import cpu_flags

# For the processor it will run on. OpenMP's functions are left to be found in torch's own copy: one pool of threads.
# Without the two "-fno", which torch itself is built with and which change no result, a choice between two computations
# is a branch.
FLAGS = (
    *("-O3", "-march=native", "-mprefer-vector-width=512", "-fno-trapping-math", "-fno-math-errno"),
    *("-fopenmp", "-fPIC", "-Wno-psabi"),
)
FOLDER = Path(__file__).parent
# What a processor must be able to do, for pages that work on numbers of a dtype.
NEEDED = {torch.bfloat16: {"avx512f", "avx512_bf16"}, torch.float32: {"avx2", "fma"}}
CONSTANTS = dict(SMEAR_CHANNELS=SMEAR_CHANNELS, GATE_CHANNELS=VALUE_GATE_CHANNELS)


@functools.cache
def library(name: str, dtype: torch.dtype) -> ctypes.CDLL | None:
    """The page vnc/c/`name`.c for numbers of that dtype, or None where it cannot run."""
    needed = NEEDED.get(dtype)
    if needed is None or not needed <= cpu_flags():
        return None
    constants = CONSTANTS | dict(BF16=int(dtype == torch.bfloat16))
    return load(FOLDER / f"{name}.c", *(f"-D{constant}={value}" for constant, value in constants.items()))


def has_pages() -> bool:
    """Whether pages can be used here, as far as can be told without compiling one."""
    return compiler() is not None and any(needed <= cpu_flags() for needed in NEEDED.values())


def call(page: str, dtype: torch.dtype, function: str, *arguments: Any) -> None:
    """A function of a page, by as many threads as torch takes, which it gets as its last argument. Of tensors it gets
    the address, of structures too; whole numbers are its longs. Raises MemoryError where it does not return 0."""
    found = library(page, dtype)
    assert found is not None
    if getattr(found, function)(*map(_argument, arguments), ctypes.c_int(torch.get_num_threads())):
        raise MemoryError(f"{function} of vnc/c/{page}.c")


def _argument(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return ctypes.c_void_p(value.data_ptr())
    if isinstance(value, ctypes.Structure):
        return ctypes.byref(value)
    if isinstance(value, float):
        return ctypes.c_float(value)
    if value is None:
        return ctypes.c_void_p(None)
    return ctypes.c_long(value) if isinstance(value, int) else value


def compiler() -> str | None:
    return shutil.which("gcc") or shutil.which("cc")


def load(source: Path, *flags: str) -> ctypes.CDLL | None:
    """The library of that page, compiled with these further flags, or None where there is no compiler, or none that can
    compile it: then a warning says so."""
    command, name = compiler(), f"{source.stem}-{_fingerprint(source, flags)}.so"
    try:
        kept = cache_folder() / name
        if not kept.exists():
            if command is None:
                return None
            kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _compile(command, source, flags, kept)
        return ctypes.CDLL(str(kept))
    except subprocess.CalledProcessError as error:
        first = next((line for line in error.stderr.splitlines() if "error" in line), "no message")
        warnings.warn(f"{command} cannot compile {source}, what it does will be slower: {first}", stacklevel=2)
    except OSError as refused:
        if command is None:
            return None
        try:
            with tempfile.TemporaryDirectory() as folder:
                _compile(command, source, flags, Path(folder, name))
                return ctypes.CDLL(str(Path(folder, name)))
        except (OSError, subprocess.CalledProcessError):
            warnings.warn(f"{source} cannot be used, what it does will be slower: {refused}", stacklevel=2)
    return None


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "vnc")


def _compile(command: str, source: Path, flags: tuple[str, ...], target: Path) -> None:
    """Complete or not at all, whoever else does the same."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        objects, made = Path(folder, "made.o"), Path(folder, "made.so")
        for arguments in ([*FLAGS, *flags, "-c", source, "-o", objects], ["-shared", objects, "-lm", "-o", made]):
            subprocess.run([command, *map(str, arguments)], check=True, capture_output=True, text=True)
        os.replace(made, target)


def _fingerprint(source: Path, flags: tuple[str, ...]) -> str:
    texts = [page.read_text() for page in (source, *sorted(source.parent.glob("*.h")))]
    processor = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("flags", "model name")):
            processor += line
        elif not line:  # the others are alike
            break
    return hashlib.sha256("\n".join((*texts, *FLAGS, *flags, processor)).encode()).hexdigest()[:16]
