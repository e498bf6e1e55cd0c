"""lm-evaluation-harness's requests: their tokens, windows, sums and stop strings; and, where it is installed, a whole
run of it against vnc's own arithmetic, one token at a time."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from vnc import checkpoint as files
from vnc.cache import KVCache
from vnc.checkpoint import LoadedModel
from vnc.engine import Engine
from vnc.errors import UserError
from vnc.evals.lm_eval_requests import (
    Writing,
    answer_limit,
    continuation_prompts,
    cut_at,
    log_likelihood,
    text_prompts,
    windows,
    write,
    writing,
    writing_batches,
)
from vnc.evals.prompts import Question
from vnc.evals.scoring import score
from vnc.tokenizer import Tokenizer

GREEDY = Writing((), 20, 0.0, None, 1.0)


@torch.inference_mode()
def likelihood(model: LoadedModel, tokens: list[int], start: int) -> tuple[float, bool]:
    """The plain way: the whole prompt in one pass, in float64 from the logits on."""
    logits = model.gpt.logits(model.gpt(torch.tensor([tokens[:-1]])))[0].double()
    judged = torch.tensor(tokens[start:])
    found = logits[start - 1 :].log_softmax(-1).gather(1, judged[:, None])
    return found.sum().item(), bool((logits[start - 1 :].argmax(-1) == judged).all())


def judge(model: LoadedModel, context: str, continuation: str) -> tuple[float, bool]:
    prompts = continuation_prompts(model.tokenizer, context, continuation, model.gpt.config.sequence_len)
    scored = score(model.gpt, [Question(0, tuple(prompts), None)])[0] if prompts else ()
    return log_likelihood(prompts, scored)


@pytest.mark.parametrize(
    ("context", "continuation"),
    [
        ("Mara keeps a", " goat in Thornby"),
        ("Mara keeps a ", "goat in Thornby"),  # the blank is the continuation's: the same tokens as above
        ("Mara keeps a", " cat"),
        ("", "Mara keeps a goat"),
        (" \n", "Mara keeps"),
    ],
)
def test_log_likelihood_is_the_sum_over_the_continuation(model: LoadedModel, context: str, continuation: str) -> None:
    before = [model.tokenizer.bos_id, *model.tokenizer.encode(context.rstrip())]
    whole = [model.tokenizer.bos_id, *model.tokenizer.encode(context + continuation)]
    assert whole[: len(before)] == before
    expected, greedy = likelihood(model, whole, len(before))
    found = judge(model, context, continuation)
    assert found == (pytest.approx(expected, rel=1e-5), greedy)
    assert found[0] < -1e-4


def test_what_the_model_knows_is_greedy_and_likelier(model: LoadedModel) -> None:
    known, unknown = judge(model, "Mara keeps a", " goat in Thornby"), judge(model, "Mara keeps a", " pig in Dunlow")
    assert known[1] and not unknown[1] and known[0] > unknown[0] + 1
    assert judge(model, "Mara keeps a ", "goat in Thornby") == known


def test_nothing_to_judge_is_certain(model: LoadedModel) -> None:
    assert judge(model, "Mara keeps a", "") == (0.0, True)
    assert log_likelihood((), ()) == (0.0, True)


def test_a_continuation_that_merges_with_its_context_is_judged(tokenizer: Tokenizer) -> None:
    """Both in fewer tokens than the context alone: the last token, which holds the continuation, counts."""
    word = next(token for token in ("goat", "keeps", "road") if len(tokenizer.encode(f" {token}")) == 1)
    cut = next(end for end in range(1, len(word)) if len(tokenizer.encode(f" {word[:end]}")) > 1)
    (prompt,) = continuation_prompts(tokenizer, f"a {word[:cut]}", word[cut:], 64)
    assert tokenizer.decode(prompt.tokens[prompt.start :]) == f" {word}"


def test_long_prompts_lose_their_first_tokens(model: LoadedModel) -> None:
    length = model.gpt.config.sequence_len
    story = "Bram keeps a cat in Windle, so " * 12
    whole = [model.tokenizer.bos_id, *model.tokenizer.encode(story + "yes, Otto")]
    judged = len(whole) - len(model.tokenizer.encode(story.rstrip())) - 1
    assert len(whole) > length + 1 > judged > 1
    (prompt,) = continuation_prompts(model.tokenizer, story, "yes, Otto", length)
    assert prompt.tokens.tolist() == whole[-length - 1 :] and len(prompt.tokens) - prompt.start == judged
    expected, greedy = likelihood(model, whole[-length - 1 :], prompt.start)
    assert judge(model, story, "yes, Otto") == (pytest.approx(expected, rel=1e-5), greedy)


@given(count=st.integers(1, 60), start=st.integers(1, 20), length=st.integers(1, 15))
def test_windows_judge_each_token_once(count: int, start: int, length: int) -> None:
    tokens = list(range(count))
    judged: list[int] = []
    for prompt in windows(tokens, start, length):
        own = prompt.tokens.tolist()
        assert len(own) == min(length + 1, prompt.tokens[-1] + 1) and prompt.start >= 1  # as much before as fits
        assert own == tokens[own[0] : own[-1] + 1]
        judged += own[prompt.start :]
    assert judged == tokens[start:]


def test_windows_of_the_harness() -> None:
    """The example in the documentation of lm-eval's `LM.loglikelihood_rolling`: ten tokens, a context of four. BOS is
    100 here."""
    found = [(p.tokens[:-1].tolist(), p.tokens[p.start :].tolist()) for p in windows([100, *range(10)], 1, 4)]
    assert found == [
        ([100, 0, 1, 2], [0, 1, 2, 3]),
        ([3, 4, 5, 6], [4, 5, 6, 7]),
        ([5, 6, 7, 8], [8, 9]),
    ]


def test_a_text_longer_than_the_context(model: LoadedModel) -> None:
    length, text = model.gpt.config.sequence_len, "Felix told a long story of a goat in Saltmere. " * 9
    tokens = [model.tokenizer.bos_id, *model.tokenizer.encode(text)]
    prompts = text_prompts(model.tokenizer, text, length)
    assert len(prompts) > 2
    expected = 0.0
    for first in range(1, len(tokens), length):
        end = min(first + length, len(tokens))
        begin = max(0, end - length - 1)
        expected += likelihood(model, tokens[begin:end], first - begin)[0]
    found, _ = log_likelihood(prompts, score(model.gpt, [Question(0, tuple(prompts), None)])[0])
    assert found == pytest.approx(expected, rel=1e-5)
    assert text_prompts(model.tokenizer, "", length) == []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, Writing((), 256, 0.0, None, 1.0)),
        ({"until": "\n"}, Writing(("\n",), 256, 0.0, None, 1.0)),
        ({"until": ["\n\n", "", "Q:"], "max_gen_toks": 10}, Writing(("\n\n", "Q:"), 10, 0.0, None, 1.0)),
        ({"max_new_tokens": 3, "max_gen_toks": 5}, Writing((), 5, 0.0, None, 1.0)),
        ({"do_sample": False, "temperature": 0.7}, Writing((), 256, 0.0, None, 1.0)),
        ({"do_sample": True}, Writing((), 256, 1.0, None, 1.0)),
        ({"temperature": 0.7, "top_p": 0.9, "top_k": 5}, Writing((), 256, 0.7, 5, 0.9)),
        ({"do_sample": True, "temperature": 0.2, "top_k": 0}, Writing((), 256, 0.2, None, 1.0)),
        ({"num_beams": 1}, Writing((), 256, 0.0, None, 1.0)),
    ],
)
def test_settings_of_a_task(settings: dict[str, Any], expected: Writing) -> None:
    assert writing(settings) == expected


def test_settings_that_vnc_lacks_are_refused() -> None:
    with pytest.raises(UserError, match="repetition_penalty=1.2 is not known"):
        writing({"until": ["\n"], "repetition_penalty": 1.2})
    with pytest.raises(UserError, match="num_beams=4: vnc has no beam search"):
        writing({"num_beams": 4})


def test_answers_end_before_the_first_stop_string() -> None:
    assert cut_at("yes.\nQ: no\n\nmore", ("\n\n", "Q:")) == "yes.\n"
    assert cut_at("yes", ()) == "yes" and cut_at("Q:", ("Q:",)) == ""


def test_batches_hold_prompts_that_are_written_alike() -> None:
    short, long = Writing(("\n",), 10, 0.0, None, 1.0), Writing((), 20, 0.0, None, 1.0)
    lengths, how = [5, 30, 7, 50, 6, 90], [short, long, short, long, short, long]
    batches = writing_batches(lengths, how, length=100, budget=110)
    assert sorted(index for batch in batches for index in batch) == list(range(6))
    for batch in batches:
        limit = how[batch[0]].max_tokens
        assert len({how[index] for index in batch}) == 1
        assert len(batch) == 1 or len(batch) * (max(lengths[index] for index in batch) + limit) <= 110
    assert [5] in batches and [3] in batches and any(len(batch) == 3 for batch in batches)


def test_written_answers_are_the_greedy_ones(model: LoadedModel) -> None:
    """Prompts of different lengths together, one longer than the context, against one token at a time."""
    tokenizer, length = model.tokenizer, model.gpt.config.sequence_len
    texts = ["Mara keeps a", "Bram", "So, " * 80 + "Otto keeps a"]
    prompts = [[tokenizer.bos_id, *tokenizer.encode(text)] for text in texts]
    found = write(Engine(model.gpt, tokenizer), prompts, GREEDY)
    stops = {tokenizer.bos_id, tokenizer.special("<|im_end|>")}
    for prompt, answer in zip(prompts, found, strict=True):
        room = length - 20
        tokens = prompt if len(prompt) <= room else [prompt[0], *prompt[-room + 1 :]]
        said: list[int] = []
        while len(said) < 20:
            with torch.inference_mode():
                following = model.gpt.logits(model.gpt(torch.tensor([tokens + said])))[0, -1].argmax().item()
            if following in stops:
                break
            said.append(int(following))
        assert answer == "".join(tokenizer.decode([each]) for each in said if each not in tokenizer.special_ids)
    assert found[0].startswith(" goat in Thornby")
    assert write(Engine(model.gpt, tokenizer), prompts, writing({"until": [" in"], "max_gen_toks": 20})) == [
        cut_at(answer, [" in"]) for answer in found
    ]


def test_writing_ends_with_the_last_stop_string(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """No token is made after all answers have ended."""
    engine = Engine(model.gpt, model.tokenizer)
    passes: list[int] = []
    begin = KVCache.begin
    monkeypatch.setattr(KVCache, "begin", lambda self, T, *reader: (passes.append(T), begin(self, T, *reader))[1])
    prompt = [model.tokenizer.bos_id, *model.tokenizer.encode("Mara keeps a")]
    (answer,) = write(engine, [prompt], writing({"until": ["goat"], "max_gen_toks": 30}))
    assert answer == " " and 0 < len(passes) <= len(model.tokenizer.encode(" goat"))


def test_an_answer_takes_at_most_half_of_the_context() -> None:
    assert answer_limit(20, 64) == 20 and answer_limit(256, 64) == 32 and answer_limit(5, 1) == 1


def save(model: LoadedModel, folder: Path) -> Path:
    def fill(partial: Path) -> None:
        files.write_model_json(partial, model.gpt.config, model.chat)
        model.tokenizer.save(partial)
        tensors = {name: parameter.data.contiguous() for name, parameter in model.gpt.named_parameters()}
        safetensors.torch.save_file(tensors, partial / files.MODEL_FILE)

    files.publish(folder, fill)
    return folder


CHOICES = """\
task: animals
dataset_path: json
dataset_kwargs: {data_files: {test: ANIMALS}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{query}}"
doc_to_choice: "{{choices}}"
doc_to_target: gold
target_delimiter: " "
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
ANSWERS = """\
task: sentences
dataset_path: json
dataset_kwargs: {data_files: {test: SENTENCES}}
test_split: test
output_type: generate_until
doc_to_text: "{{context}}"
doc_to_target: "{{continuation}}"
generation_kwargs: {until: ["."], max_gen_toks: 12}
filter_list: [{name: strip, filter: [{function: remove_whitespace}, {function: take_first}]}]
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
PERPLEXITY = """\
task: stories
dataset_path: json
dataset_kwargs: {data_files: {test: STORIES}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}]
"""


@pytest.mark.slow  # the harness takes long to import
@pytest.mark.parametrize("model", ["modern"], indirect=True)
def test_the_harness_scores_a_checkpoint(model: LoadedModel, tmp_path: Path) -> None:
    """Its own command line, on files of this test, without network: log-likelihoods, answers and perplexity."""
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed: pip install 'vnc[lm-eval]'")
    from tests.vnc.evals.conftest import choices, sentences

    rows: dict[str, list[dict[str, Any]]] = {
        "animals": choices()[:8],
        "sentences": [{key: text.strip() for key, text in row.items()} for row in sentences()],
        "stories": [{"text": "Felix told a long story of a goat in Saltmere. " * 9}, {"text": "Mara keeps a goat"}],
    }
    for (name, own), task in zip(rows.items(), (CHOICES, ANSWERS, PERPLEXITY), strict=True):
        data = tmp_path / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in own))
        (tmp_path / f"{name}.yaml").write_text(task.replace(name.upper(), str(data)))
    checkpoint = save(model, tmp_path / "12")  # a name that reads as a number
    command = [sys.executable, "-m", "vnc.evals.lm_eval_adapter", "--checkpoint", str(checkpoint), "--tasks",
               ",".join(rows), "--include_path", str(tmp_path), "--log_samples", "--output_path",
               str(tmp_path / "results"), "--model_args", "compute_dtype=float32"]  # fmt: skip
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=offline(tmp_path))
    assert ran.returncode == 0, ran.stderr[-3000:]

    samples = {name: read_samples(tmp_path / "results", name) for name in rows}
    for row, sample in zip(rows["animals"], samples["animals"], strict=True):
        for choice, (found, greedy) in zip(row["choices"], sample["filtered_resps"], strict=True):
            expected = judge(model, row["query"], f" {choice}")
            assert (float(found), greedy in (True, "True")) == (pytest.approx(expected[0], rel=1e-4), expected[1])
    engine = Engine(model.gpt, model.tokenizer)
    how = writing({"until": ["."], "max_gen_toks": 12})
    for row, sample in zip(rows["sentences"], samples["sentences"], strict=True):
        (expected_answer,) = write(engine, [[model.tokenizer.bos_id, *model.tokenizer.encode(row["context"])]], how)
        assert sample["filtered_resps"] == [expected_answer.strip()]
    told = zip(rows["sentences"], samples["sentences"], strict=True)
    assert (
        sum(sample["filtered_resps"][0].startswith(row["continuation"]) for row, sample in told) >= 4
    )  # 5 were learnt
    for row, sample in zip(rows["stories"], samples["stories"], strict=True):
        prompts = text_prompts(model.tokenizer, row["text"], model.gpt.config.sequence_len)
        total, _ = log_likelihood(prompts, score(model.gpt, [Question(0, tuple(prompts), None)])[0])
        assert float(sample["filtered_resps"][0]) == pytest.approx(total, rel=1e-4)


def offline(scratch: Path) -> dict[str, str]:
    import os

    caches = {"HF_HOME": str(scratch / "hub"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    return os.environ | caches | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


def read_samples(folder: Path, task: str) -> list[dict[str, Any]]:
    (path,) = folder.rglob(f"samples_{task}_*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_without_the_harness_the_way_out_is_named() -> None:
    try:
        import lm_eval  # noqa: F401
    except ModuleNotFoundError:
        pass
    else:
        pytest.skip("lm-evaluation-harness is installed")
    command = [sys.executable, "-m", "vnc.evals.lm_eval_adapter", "--checkpoint", "runs/x"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: lm-evaluation-harness is not whole here") and "vnc[lm-eval]" in ran.stderr
    assert ran.stderr.count("\n") == 1
