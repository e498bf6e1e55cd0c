"""vnc's models in lm-evaluation-harness (extra `vnc[lm-eval]`), as the model "vnc":

    python -m vnc.evals.lm_eval_adapter --checkpoint runs/NAME --tasks arc_easy,lambada_openai --output_path results

All options but --checkpoint are the harness's own. From Python, give `VNCModel(checkpoint=...)` to its simple_evaluate.
Prompts are plain text, so chat templates are refused: ChatCORE (`vnc evaluate --suite chatcore`) asks chat models in
their own tokens.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from vnc.engine import Engine
from vnc.errors import UserError
from vnc.evals.evaluate import open_model
from vnc.evals.lm_eval_requests import (
    continuation_prompts,
    log_likelihood,
    text_prompts,
    write,
    writing,
    writing_batches,
)
from vnc.evals.prompts import Prompt, Question
from vnc.evals.scoring import BATCH_TOKENS, Scored, score

try:
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model
except ModuleNotFoundError as error:
    missing = f"lm-evaluation-harness is not whole here (no module {error.name}): pip install 'vnc[lm-eval]'"
    if __name__ == "__main__":
        print(f"error: {missing}", file=sys.stderr)
        sys.exit(2)
    raise UserError(missing) from error

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance


class VNCModel(LM):
    """A checkpoint as the harness sees it: three kinds of requests, answered in the order in which they come."""

    def __init__(
        self,
        checkpoint: str,
        device: str = "auto",
        compute_dtype: str = "auto",
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
    ) -> None:
        """checkpoint, device, compute_dtype: as in `vnc evaluate`. The two batch sizes are what the harness passes to
        every model; vnc batches by a budget of tokens and needs neither."""
        super().__init__()
        loaded, _ = open_model(checkpoint, device, compute_dtype)
        self._device = loaded.gpt.wte.weight.device
        self._gpt, self._tokenizer = loaded.gpt, loaded.tokenizer
        self._length = loaded.gpt.config.sequence_len

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Args (context, continuation) -> (sum of log-probabilities in nats, is the continuation what greedy decoding
        says?) each."""
        pairs: list[tuple[str, str]] = [request.args for request in requests]
        prompts = [continuation_prompts(self._tokenizer, *pair, length=self._length) for pair in pairs]
        # Continuations of one context are one question, so that the scorer reads what they share once.
        same = [len(list(group)) for _, group in groupby(pairs, key=lambda pair: pair[0])]
        found = self._judge(prompts, same)
        for pair, result in zip(pairs, found, strict=True):
            self.cache_hook.add_partial("loglikelihood", pair, result)
        return found

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Args (text,) -> the sum of the log-probabilities of all its tokens in nats, each."""
        texts: list[str] = [request.args[0] for request in requests]
        prompts = [text_prompts(self._tokenizer, text, self._length) for text in texts]
        found = [total for total, _ in self._judge(prompts, [1] * len(texts))]
        for text, total in zip(texts, found, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), total)
        return found

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Args (context, generation_kwargs) -> what the model writes, each."""
        pairs: list[tuple[str, dict[str, Any]]] = [request.args for request in requests]
        prompts = [[self._tokenizer.bos_id, *self._tokenizer.encode(context)] for context, _ in pairs]
        how = [writing(settings) for _, settings in pairs]
        engine = Engine(self._gpt, self._tokenizer)
        answers = [""] * len(pairs)
        budget = BATCH_TOKENS.get(self._device.type, BATCH_TOKENS["cpu"])
        for batch in writing_batches(list(map(len, prompts)), how, self._length, budget):
            texts = write(engine, [prompts[index] for index in batch], how[batch[0]], seed=batch[0])
            for index, text in zip(batch, texts, strict=True):
                answers[index] = text
                self.cache_hook.add_partial("generate_until", pairs[index], text)
        return answers

    def _judge(self, requests: Sequence[Sequence[Prompt]], same: Sequence[int]) -> list[tuple[float, bool]]:
        """Log-likelihood of each request. same: how many requests, from the first on, make one question."""
        questions, first = [], 0
        for count in same:
            together = tuple(prompt for prompts in requests[first : first + count] for prompt in prompts)
            questions.append(Question(first, together, None))
            first += count
        scored = iter([each for options in score(self._gpt, questions) for each in options])
        results: list[tuple[float, bool]] = []
        for prompts in requests:
            own: list[Scored] = [next(scored) for _ in prompts]
            results.append(log_likelihood(prompts, own))
        return results


register_model("vnc")(VNCModel)


def main() -> None:
    """The harness's command line with vnc's model in it."""
    parser = argparse.ArgumentParser(prog="python -m vnc.evals.lm_eval_adapter", allow_abbrev=False,
                                     epilog="All other options are those of lm-eval run.")  # fmt: skip
    parser.add_argument("--checkpoint", required=True, help="checkpoint directory, run folder, export or import")
    own, others = parser.parse_known_args()
    from lm_eval.__main__ import cli_evaluate

    model_args = json.dumps({"checkpoint": own.checkpoint})  # as JSON, a path stays text whatever it looks like
    # The harness's own default is a GPU, also where there is none. What stands in `others` overrides this one.
    sys.argv[1:] = ["run", "--model", "vnc", "--model_args", model_args, "--device", "auto", *others]
    try:
        cli_evaluate()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
