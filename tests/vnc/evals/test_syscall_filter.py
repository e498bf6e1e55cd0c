"""The numbers of the system calls that are refused."""

import re
from pathlib import Path

import pytest

from vnc.evals.syscall_filter import CLONE, CLONE3, DENIED, MACHINES, PRLIMIT64, filter_program

HEADERS = {"x86_64": ("x86_64-linux-gnu/asm/unistd_64.h", "asm/unistd_64.h"), "aarch64": ("asm-generic/unistd.h",)}


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_are_the_kernels(machine: str) -> None:
    header = next((file for name in HEADERS[machine] if (file := Path("/usr/include", name)).exists()), None)
    if header is None:
        pytest.skip("the kernel's headers are not installed")
    numbers = dict(re.findall(r"^#define __NR(?:3264)?_(\w+) (\d+)$", header.read_text(), re.MULTILINE))
    ours = {**DENIED, "clone": CLONE, "clone3": CLONE3, "prlimit64": PRLIMIT64}
    column = MACHINES.index(machine)
    for name, ours_here in ours.items():
        if ours_here[column] is None:
            assert name not in numbers
        elif name in numbers:  # older headers lack the newest
            assert int(numbers[name]) == ours_here[column], name


def test_a_machine_without_a_table() -> None:
    with pytest.raises(ValueError, match="riscv64"):
        filter_program("riscv64")
