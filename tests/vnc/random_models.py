"""Models of random weights for tests of generation, and what they read."""

from dataclasses import dataclass

import torch

from vnc.config import GPTConfig
from vnc.engine import freeze
from vnc.gpt import GPT
from vnc.tokenizer import Tokenizer


@dataclass(frozen=True)
class Windowed(GPTConfig):
    """Windows much shorter than the tests' prompts; the last layer sees everything."""

    @property
    def windows(self) -> tuple[int, ...]:
        return (5, 12, 5, self.sequence_len)


def random_model(
    preset: str,
    dtype: torch.dtype = torch.float32,
    vocab_size: int = 97,
    kind: type[GPTConfig] = Windowed,
    **sizes: int,
) -> GPT:
    """Frozen; every parameter random, those that training starts at zero too, so that each part matters."""
    sizes = dict(vocab_size=vocab_size, sequence_len=64, n_layer=4, n_head=2, n_embd=64) | sizes
    made = kind.gpt2(**sizes) if preset == "gpt2" else kind(**sizes, bias=preset == "modern, with biases")
    gpt = GPT(made, dtype)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in gpt.named_parameters():
        mean = 0.0 if parameter.dim() > 1 or "bias" in name else 0.5
        parameter.data.normal_(mean, 0.2, generator=generator)
    return freeze(gpt)


def random_ids(rows: int, length: int) -> torch.Tensor:
    return torch.randint(0, 97, (rows, length), generator=torch.Generator().manual_seed(0))


def small_tokenizer() -> Tokenizer:
    return Tokenizer.train(["The clockmaker of Ashford has 12 cats, 7 clocks and a grey umbrella. " * 3], 290)
