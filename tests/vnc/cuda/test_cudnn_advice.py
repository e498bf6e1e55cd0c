"""Whoever trains on a GPU that could be faster is told how."""

import pytest
import torch

from vnc.cuda import cudnn_attention
from vnc.depth import model_config


@pytest.mark.parametrize(
    "installed, capability, pattern, told",
    [
        (False, (9, 0), "SSSL", True),
        (True, (9, 0), "SSSL", False),
        (False, (8, 9), "SSSL", False),
        (False, (9, 0), "L", False),
    ],
)
def test_the_package_is_named_where_it_helps(monkeypatch, installed, capability, pattern, told):
    monkeypatch.setattr(cudnn_attention, "INSTALLED", installed)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    config = model_config(4, window_pattern=pattern)
    said = cudnn_attention.advice(torch.device("cuda"), config)
    assert (said is not None and "vnc[cudnn]" in said) == told
    assert cudnn_attention.advice(torch.device("cpu"), config) is None
