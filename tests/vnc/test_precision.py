"""Which dtype is chosen, and why."""

import pytest
import torch

from vnc import precision
from vnc.errors import UserError


def test_asked_for_is_given():
    assert precision.choose_compute_dtype("float32", "cpu")[0] == torch.float32
    assert precision.choose_compute_dtype("bfloat16", "cpu")[0] == torch.bfloat16
    with pytest.raises(UserError, match="compute_dtype='half'"):
        precision.choose_compute_dtype("half", "cpu")


@pytest.mark.parametrize("feature", ["AMX-BF16", ""])
def test_bf16_that_must_be_emulated_is_given_with_a_word_of_warning(monkeypatch, feature):
    monkeypatch.setattr(precision, "cpu_bf16_feature", lambda: feature)
    chosen, reason = precision.choose_compute_dtype("bfloat16", "cpu")
    assert chosen == torch.bfloat16 and ("emulate" in reason) == (not feature)
    assert "emulate" not in precision.choose_compute_dtype("float32", "cpu")[1]


def test_a_device_that_is_not_there_is_named():
    assert precision.choose_device("auto").type in ("cpu", "cuda")
    assert precision.choose_device("cpu").type == "cpu"
    with pytest.raises(UserError, match="device=abacus"):
        precision.choose_device("abacus")


@pytest.mark.parametrize(("feature", "dtype"), [("AMX-BF16", torch.bfloat16), ("", torch.float32)])
def test_auto_follows_the_processor_and_says_so(monkeypatch, feature, dtype):
    monkeypatch.setattr(precision, "cpu_bf16_feature", lambda: feature)
    chosen, reason = precision.choose_compute_dtype("auto", "cpu")
    assert chosen == dtype and (feature or "no native") in reason
