"""A small chat model that has learnt a few answers by heart, written as a checkpoint: what it will say is known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch

from vnc.checkpoint import MODEL_FILE, write_model_json
from vnc.config import GPTConfig
from vnc.conversation import Conversation, Message, Segment, render
from vnc.gpt import GPT
from vnc.tokenizer import Tokenizer

CONTEXT = 1024
LESSON = 160  # tokens
HOSTILE = "<b>bold</b><script>document.title='x'</script> **stars** $x^2$ :red[r]\n# head [a](b)"
ANSWERS: dict[str, tuple[Segment, ...]] = {
    "Say it.": (Segment("text", HOSTILE),),
    "What is 12*7?": (
        Segment("text", "It is "), Segment("tool", "12*7"), Segment("output", "84"), Segment("text", "84."),
    ),
    "Who are you?": (Segment("text", "A parrot."),),
    "Sing.": (Segment("text", "la " * LESSON),),
}  # fmt: skip


def tokenizer() -> Tokenizer:
    text = [*ANSWERS, *(segment.text for answer in ANSWERS.values() for segment in answer), "user\nassistant\n" * 9]
    return Tokenizer.train(text, 285)


def write_parrot(folder: Path, answers: Mapping[str, tuple[Segment, ...]] = ANSWERS, chat: bool = True) -> Path:
    """A checkpoint of a model that has learnt these answers, and sings until it is cut."""
    words = tokenizer()
    gpt = GPT(GPTConfig(vocab_size=words.vocab_size, sequence_len=CONTEXT, n_layer=2, n_head=2, n_embd=64))
    generator = torch.Generator().manual_seed(0)
    for parameter in gpt.parameters():
        parameter.data.normal_(0.0 if parameter.dim() > 1 else 0.5, 0.1, generator=generator)
    lessons = []
    for question, answer in answers.items():
        messages = Message("user", (Segment("text", question),)), Message("assistant", answer)
        ids, learn = (each[: LESSON + 1] for each in render(Conversation(messages), words))
        targets = [token if learnt else -1 for token, learnt in zip(ids, learn, strict=True)][1:]
        lessons.append((torch.tensor([ids[:-1]]), torch.tensor([targets])))
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=0.01)
    for _ in range(300):
        loss = torch.zeros(())
        for inputs, targets in lessons:
            loss = loss + gpt.summed_loss(inputs, targets) / targets.ge(0).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss < 0.01 * len(lessons):
            break
    else:
        raise AssertionError(f"the parrot did not learn: loss {float(loss)}")
    folder.mkdir(parents=True)
    write_model_json(folder, gpt.config, chat)
    words.save(folder)
    tensors = {name: parameter.data.contiguous() for name, parameter in gpt.named_parameters()}
    safetensors.torch.save_file(tensors, folder / MODEL_FILE)
    return folder


CUCKOO = {"Who are you?": (Segment("text", "A cuckoo."),)}


def written(answer: tuple[Segment, ...]) -> str:
    """As a reader sees it."""
    return "".join({"text": "{}", "tool": "[{}", "output": "={}]"}[each.kind].format(each.text) for each in answer)
