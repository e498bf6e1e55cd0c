"""Fixtures of tests that run twice, or alone with the processor."""

from collections.abc import Iterator

import pytest
import torch

from vnc.c import muon as c_muon
from vnc.c import training as c_training


@pytest.fixture(params=["c", "torch"])
def route(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How training's work between products is done: in C, where that is possible, and by torch's operations."""
    if request.param == "torch":
        for user in (c_training, c_muon):
            monkeypatch.setattr(user, "library", lambda *page: None)
    elif c_training.library("training", torch.float32) is None:
        pytest.skip("no C compiler here, or a CPU without AVX2")
    return request.param


@pytest.fixture(params=["modern", "modern, with biases", "gpt2"])
def decoded_preset(request: pytest.FixtureRequest) -> str:
    """A kind of `random_models.random_model`."""
    return request.param


@pytest.fixture
def inference_on_one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(before)
