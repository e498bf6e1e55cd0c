"""The FLOPs of one model by every reckoning: the plan's formula (vnc/flops.py), torch's count (measured_flops.py), and
6N by every convention of counting parameters."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from scaling.study import CONVENTIONS, Convention, count
from vnc.config import GPTConfig
from vnc.depth import Preset
from vnc.flops import count_parameters, flops_per_token


@dataclass(frozen=True)
class FlopCheck:
    """FLOPs for each token of one model, counted in every way."""

    preset: Preset
    depth: int
    n_embd: int
    formula: int
    """Of the plan: `vnc.flops.flops_per_token`."""
    forward: float
    backward: float
    """Counted on the model, each query against `window` keys, as the formula has it."""
    unused_head: int
    """What the formula holds for rows of the head that only pad the vocabulary: no product touches them."""
    cpu_route: float
    """Counted with the attention that runs on a CPU, which leaves out blocks of keys that a query cannot see."""
    six_n: dict[Convention, int]
    """6N by each convention of N."""

    @property
    def counted(self) -> float:
        return self.forward + self.backward

    @property
    def unexplained(self) -> float:
        """FLOPs by which formula and count differ beyond the padded rows."""
        return self.formula - self.unused_head - self.counted

    def as_dict(self) -> dict[str, Any]:
        ratios = {"counted": self.counted, "cpu_route": self.cpu_route} | {f"6N_{k}": v for k, v in self.six_n.items()}
        return dataclasses.asdict(self) | {
            "counted": self.counted,
            "unexplained": self.unexplained,
            "of_formula": {name: value / self.formula for name, value in ratios.items()},
        }


def check_model(preset: Preset, depth: int, config: GPTConfig) -> FlopCheck:
    """Counts the FLOPs of a model in every way. Takes about two seconds at depth 12."""
    from scaling.measured_flops import block_causal_attention, count_flops  # torch takes seconds to load

    counts = count_parameters(config)
    params = dataclasses.asdict(counts) | {"total": counts.total, "scaling": counts.scaling(config)}
    counted = count_flops(config)
    return FlopCheck(
        preset=preset,
        depth=depth,
        n_embd=config.n_embd,
        formula=flops_per_token(config),
        forward=counted.forward,
        backward=counted.backward,
        unused_head=6 * (config.padded_vocab_size - config.vocab_size) * config.n_embd,
        cpu_route=count_flops(config, block_causal_attention).total,
        six_n={convention: 6 * count(params, convention) for convention in CONVENTIONS},
    )
