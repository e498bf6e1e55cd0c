"""A model that judges: many prompts to one endpoint, several at a time, each verdict read from the judge's words.

Judging is at temperature 0 with a seed, and every judgement goes into a cache (see judge_cache.py). A judgement
without a verdict in the form that was asked for is asked for once more with another seed; if there is none again, it
counts as no verdict, never as a bad one.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from vnc.errors import UserError
from vnc.evals.chat_completions import KEY_VARIABLE, Endpoint, Pause
from vnc.evals.judge_cache import JudgeCache, request_key

MAX_TOKENS = 2048  # as FastChat's llm_judge allows its judges
SEEDS = (0, 1)

NotJudged = Literal["not judged", "no verdict"]
"""In place of a score: no judge was there, or it never gave a verdict."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Prompt:
    """What a judge is asked."""

    system: str
    user: str


@dataclass(frozen=True)
class Verdict(Generic[Value]):
    value: Value | None
    """None: the judge gave none in the form that was asked for, twice."""
    judgment: str
    """All that the judge said, the last time it was asked."""


class Judge:
    def __init__(
        self,
        url: str,
        model: str,
        key: str | None = None,
        cache: Path | None = None,
        workers: int = 4,
        timeout_seconds: float = 120.0,
        retries: int = 6,
        pause: Pause | None = None,
    ) -> None:
        """Nothing is asked yet. Raises UserError for values that cannot be right.

        Args:
            url: Address before /chat/completions, with or without /v1 (see Endpoint).
            model: The name by which the endpoint knows the judge.
            key: None for the one in the environment (OPENAI_API_KEY), if any. It is never shown or written.
            cache: File of past judgements; None keeps them in memory only.
            workers: Requests on their way at the same time.
            timeout_seconds: Silence after which an attempt is given up.
            retries: Further attempts after faults that may pass, 1, 2, 4 ... seconds apart.
            pause: Waits between attempts; None for a wait that ends early when the run fails for another reason.
        """
        if not model.strip():
            raise UserError("judge model: give the name by which the endpoint knows it")
        for name, value, least in (("workers", workers, 1), ("retries", retries, 0)):
            if value < least:
                raise UserError(f"judge {name}={value}: must be at least {least}")
        if not timeout_seconds > 0:
            raise UserError(f"judge timeout_seconds={timeout_seconds}: must be more than 0")
        self.model = model
        self._workers = workers
        self._pause = pause
        self._endpoint = Endpoint(url, os.environ.get(KEY_VARIABLE) if key is None else key, timeout_seconds, retries)
        self._cache = JudgeCache(cache)

    def verdicts(
        self,
        prompts: Sequence[Prompt],
        parse: Callable[[str], Value | None],
        done: Callable[[int], None] | None = None,
    ) -> list[Verdict[Value]]:
        """One verdict for each prompt, in their order. `parse` finds the verdict in the judge's words, or None."""
        verdicts = [Verdict(parse(words), words) for words in self.ask(prompts, SEEDS[0], done)]
        again = [place for place, verdict in enumerate(verdicts) if verdict.value is None]
        for place, words in zip(again, self.ask([prompts[place] for place in again], SEEDS[1]), strict=True):
            verdicts[place] = Verdict(parse(words), words)
        return verdicts

    def ask(self, prompts: Sequence[Prompt], seed: int, done: Callable[[int], None] | None = None) -> list[str]:
        """What the judge says to each prompt, in their order. `done` hears how many prompts were just settled.

        Equal prompts are asked once. Raises UserError when one cannot be settled; what was answered until then is in
        the cache.
        """
        bodies = [self._body(prompt, seed) for prompt in prompts]
        keys = [request_key(body) for body in bodies]
        uses = Counter(keys)
        open_ones = {key: body for key, body in zip(keys, bodies, strict=True) if key not in self._cache}
        if done is not None and (known := len(keys) - sum(uses[key] for key in open_ones)):
            done(known)
        failed = threading.Event()
        pause = self._pause or failed.wait
        with ThreadPoolExecutor(self._workers) as pool:
            running = {pool.submit(self._settle, key, body, pause): key for key, body in open_ones.items()}
            try:
                for future in as_completed(running):
                    future.result()
                    if done is not None:
                        done(uses[running[future]])
            except BaseException:
                failed.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [self._cache[key] for key in keys]

    def _body(self, prompt: Prompt, seed: int) -> dict[str, Any]:
        messages = [{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.user}]
        return {
            "model": self.model,
            "messages": messages,
            "temperature": 0,
            "max_tokens": MAX_TOKENS,
            "seed": seed,
        }

    def _settle(self, key: str, body: dict[str, Any], pause: Pause) -> None:
        self._cache.add(key, self.model, self._endpoint.complete(body, pause))
