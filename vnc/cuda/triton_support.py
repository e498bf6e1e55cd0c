"""Where kernels in Triton run: on GPUs for which the installed torch has brought it along."""

from __future__ import annotations

import importlib.util

import torch

INSTALLED = importlib.util.find_spec("triton") is not None
CAPABILITY = 8  # of NVIDIA's: Triton has given up what is older than Ampere


def runs_triton(device: torch.device) -> bool:
    return INSTALLED and device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= CAPABILITY
