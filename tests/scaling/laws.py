"""Laws and studies without noise for the tests of the fits."""

from __future__ import annotations

import numpy as np

from scaling.recovery import Design, Law, synthetic_study
from scaling.study import Study

LAW = Law(E=1.7, A=400.0, B=600.0, alpha=0.34, beta=0.29)
SKEWED = Law(E=1.7, A=120.0, B=8000.0, alpha=0.28, beta=0.44)
"""One whose losses are far from symmetric in ln N."""
DESIGN = Design((1e18, 3e18, 1e19), sizes=9, seeds=1)


def exact_study(law: Law = LAW, design: Design = DESIGN, noise: float = 0.0) -> Study:
    return synthetic_study(law, design, "centred", noise, np.random.default_rng(3))
