"""A small chat model that has learnt to answer some questions, so that some answers are right and rows end on their
own."""

from pathlib import Path

import pytest
import torch

from datamodules.tasks.spelling import answered
from vnc.checkpoint import LoadedModel
from vnc.config import GPTConfig
from vnc.conversation import Conversation, render
from vnc.evals.chatcore.tasks import ChatTasks, LetterQuestion, LetterTask, SpellingTask, Sum, SumTask
from vnc.gpt import GPT
from vnc.multiple_choice import multiple_choice
from vnc.spelling import SpellingQuestion
from vnc.tokenizer import Tokenizer

CONTEXT = 128
WORDS = ("cat", "owl", "goat", "newt", "pig")
LETTERS = tuple(
    LetterQuestion(
        f"Which is the {word}?", tuple(WORDS[(place + step) % 5] for step in range(3 + place % 2)), place % 3
    )
    for place, word in enumerate(WORDS * 2)
)
SUMS = tuple(Sum(f"{a} and {b}?", str(a + b)) for a, b in ((1, 2), (3, 4), (2, 2), (5, 3), (9, 8), (7, 6)))
SPELLING = tuple(SpellingQuestion(f"Spell {word}.", word, None) for word in WORDS)


def sum_conversation(question: Sum) -> Conversation:
    """With a call of the calculator, as training writes it."""
    a, b = (int(part.strip("?")) for part in question.question.split(" and "))
    parts = [("text", "It is "), ("tool", f"{a}+{b}"), ("output", str(a + b)), ("text", f"{a + b}.\n#### {a + b}")]
    content = [{"type": kind, "text": text} for kind, text in parts]
    messages = [{"role": "user", "content": question.question}, {"role": "assistant", "content": content}]
    return Conversation.from_dicts(messages)


def letter_conversation(question: LetterQuestion) -> Conversation:
    letters = "ABCD"[: len(question.choices)]
    asked = multiple_choice(question.question, letters, question.choices)
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": letters[question.gold]}]
    return Conversation.from_dicts(messages)


@pytest.fixture(scope="session")
def chat_tasks() -> ChatTasks:
    return ChatTasks((LetterTask("mmlu", LETTERS), SumTask("gsm8k", SUMS), SpellingTask("spelling", SPELLING)))


@pytest.fixture(scope="session")
def chat_model() -> LoadedModel:
    """Trained on the first few questions of each kind."""
    taught = [
        *map(sum_conversation, SUMS[:4]),
        *map(letter_conversation, LETTERS[:6]),
        *map(answered, SPELLING[:3]),
    ]
    text = " ".join(segment.text for each in taught for message in each.messages for segment in message.segments)
    tokenizer = Tokenizer.train([f"user\nassistant\n{text}".replace("=", " ")], 310)  # "=A" must stay two tokens
    torch_state = torch.random.get_rng_state()
    gpt = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, sequence_len=CONTEXT, n_layer=2, n_head=2, n_embd=64))
    gpt.init_weights(torch.Generator().manual_seed(3))
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=0.01)
    rendered = [render(conversation, tokenizer) for conversation in taught]
    width = max(len(ids) for ids, _ in rendered)
    inputs, targets = torch.zeros(len(taught), width, dtype=torch.long), torch.full((len(taught), width), -1)
    for row, (ids, learn) in enumerate(rendered):
        inputs[row, : len(ids)] = torch.tensor(ids)
        targets[row, : len(ids)] = torch.where(torch.tensor(learn), torch.tensor(ids), -1)
    for _ in range(80):
        gpt.summed_loss(inputs[:, :-1], targets[:, 1:]).backward()
        torch.nn.utils.clip_grad_norm_(gpt.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    torch.random.set_rng_state(torch_state)
    return LoadedModel(gpt.eval().requires_grad_(False), tokenizer, True, Path("runs/chat"))
