"""Letters by likelihood against one plain forward pass for each question."""

import pytest
import torch

from tests.vnc.evals.chatcore.conftest import LETTERS
from vnc.checkpoint import LoadedModel
from vnc.evals.chatcore.letters import batches, letter_losses, letter_prompt
from vnc.evals.chatcore.tasks import LetterQuestion


def test_losses_are_those_of_one_at_a_time(chat_model: LoadedModel) -> None:
    heard: list[int] = []
    found = letter_losses(chat_model, LETTERS, heard.append)
    assert sum(heard) == len(LETTERS)
    for question, losses in zip(LETTERS, found, strict=True):
        ids = torch.tensor([letter_prompt(question, chat_model.tokenizer)])
        with torch.no_grad():
            logits = chat_model.gpt.logits(chat_model.gpt(ids)[0])[-1]
        expected = [
            float(torch.nn.functional.cross_entropy(logits[None], torch.tensor(chat_model.tokenizer.encode(letter))))
            for letter in "ABCD"[: len(question.choices)]
        ]
        assert losses == pytest.approx(expected, abs=1e-4)


def test_a_question_beyond_the_context_keeps_its_newest_part(chat_model: LoadedModel) -> None:
    question = LetterQuestion("so " * 200 + "which?", ("cat", "owl"), 0)
    with pytest.warns(UserWarning, match="1 of 2 questions were longer than the model's context of 128 tokens"):
        losses = letter_losses(chat_model, [question, LETTERS[0]])
    shorter = LetterQuestion("so " * 150 + "which?", ("cat", "owl"), 0)  # the same newest part
    with pytest.warns(UserWarning):
        assert losses[0] == pytest.approx(letter_losses(chat_model, [shorter])[0], abs=1e-4)
    assert losses[1] == pytest.approx(letter_losses(chat_model, [LETTERS[0]])[0], abs=1e-4)


def test_batches_hold_every_prompt_once_within_the_budget() -> None:
    lengths = [5, 90, 30, 31, 7, 64, 200, 30]
    made = list(batches(lengths, 100))
    assert sorted(place for batch in made for place in batch) == list(range(8))
    assert all(len(batch) == 1 or len(batch) * max(lengths[place] for place in batch) <= 100 for batch in made)
    assert made[0] == [6] and len(made) < 7
    assert list(batches([], 100)) == []
