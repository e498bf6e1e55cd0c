"""What the model writes, while it learns: the same prompts every time, so that progress can be read."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from rich.text import Text

from callbacks.console import CONSOLE
from vnc.errors import UserError

GENERAL_PROMPTS = ["The capital of France is", "Once upon a time", "The opposite of hot is", "If yesterday was Friday,"]


class Samples(Callback):
    """Continues fixed prompts, with a fixed seed, to the console and to TensorBoard.

    Args:
        every_n_steps: Steps between samples; 0 switches them off. They are also written after the last step.
        prompts: Texts to continue; null takes the data's own, or a few general ones.
        max_tokens: Tokens to write for each prompt.
        temperature: 0 takes the likeliest token each time; null takes 0 for chat and 0.8 for plain text, which goes in
            circles otherwise.
    """

    def __init__(
        self,
        every_n_steps: int = 250,
        prompts: list[str] | None = None,
        max_tokens: int = 64,
        temperature: float | None = None,
    ) -> None:
        if every_n_steps < 0 or max_tokens < 1:
            raise UserError(
                f"samples: every_n_steps={every_n_steps} must be 0 or more, max_tokens={max_tokens} at least 1"
            )
        self.every_n_steps, self.prompts = every_n_steps, prompts
        self.max_tokens, self.temperature = max_tokens, temperature

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module: Any = pl_module
        done = trainer.global_step
        if (
            not self.every_n_steps
            or not trainer.is_global_zero
            or (done % self.every_n_steps and done < module.last_step)
        ):
            return
        started = time.perf_counter()
        texts = self.write(trainer, pl_module)
        CONSOLE.print(Text(f"step {done}: samples ({time.perf_counter() - started:.1f} s)"))
        for text in texts:
            CONSOLE.print(Text(f"  {text}"), soft_wrap=True)
        if isinstance(trainer.logger, TensorBoardLogger):
            trainer.logger.experiment.add_text("samples", "\n\n".join(texts), done)

    def write(self, trainer: Trainer, pl_module: LightningModule) -> list[str]:
        """Each prompt with the model's continuation; a chat model answers."""
        from vnc.conversation import Conversation, render_prompt
        from vnc.engine import Engine, transcript
        from vnc.sampling import Sampling

        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        gpt: Any = pl_module.gpt
        tokenizer = datamodule.tokenizer
        prompts = self.prompts if self.prompts is not None else getattr(datamodule, "sample_prompts", GENERAL_PROMPTS)
        if datamodule.chat:
            ids = [
                render_prompt(Conversation.from_dicts([{"role": "user", "content": prompt}]), tokenizer)
                for prompt in prompts
            ]
        else:
            ids = [[tokenizer.bos_id, *tokenizer.encode(prompt)] for prompt in prompts]
        temperature = self.temperature if self.temperature is not None else (0.0 if datamodule.chat else 0.8)
        events = list(Engine(gpt, tokenizer).stream(ids, Sampling(temperature=temperature), self.max_tokens))
        joint = "  →  " if datamodule.chat else ""
        return [
            prompt + joint + transcript(event for event in events if event.row == row).replace("\n", " ⏎ ")
            for row, prompt in enumerate(prompts)
        ]
