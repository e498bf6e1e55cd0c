"""TaskMixture as a data module: shares, order, validation, what is left out, resuming, and its command line."""

import json
import pickle
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonargparse
import numpy as np
import pytest
import yaml

from datamodules.base import RowDataModule
from datamodules.task_mixture import DEFAULT_MIXTURE, SAMPLE_PROMPTS, MixtureWindows, TaskMixture
from datamodules.tasks.spec import FROM_FILES, GENERATED, TaskSpec
from vnc.conversation import parse, render
from vnc.errors import UserError
from vnc.tokenizer import Tokenizer

Attach = Callable[..., Any]


def write(path: Path, conversations: list[Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in conversations))
    return str(path)


def talk(kind: str, number: int, answer: str = "I see.") -> list[dict[str, str]]:
    return [{"role": "user", "content": f"{kind} {number}"}, {"role": "assistant", "content": answer}]


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of 40 and of 15 conversations, each with a validation split of 5."""
    folders = {}
    for kind, count in (("a", 40), ("b", 15)):
        folder = tmp_path_factory.mktemp("talks") / kind
        write(folder / "train.jsonl", [talk(kind, number) for number in range(count)])
        write(folder / "validation.jsonl", [talk(f"val{kind}", number) for number in range(5)])
        folders[kind] = str(folder)
    return folders


@pytest.fixture
def mixture(talks: dict[str, str], tokenizer_folder: Path) -> Callable[..., TaskMixture]:
    """mixture(a={...}, b={...}, ...): the two tasks with these settings."""

    def mixture_(a: Any = None, b: Any = None, **options: Any) -> TaskMixture:
        specs = [TaskSpec("json", path=talks[kind], **(more or {})) for kind, more in (("a", a), ("b", b))]
        return TaskMixture("absent", str(tokenizer_folder), specs, **({"lanes": 4} | options))

    return mixture_


def asked(windows: MixtureWindows, epoch: int, tokenizer: Tokenizer) -> list[str]:
    """What the user says in each conversation of an epoch, in order of windows."""
    questions = []
    for window in range(windows.count):
        documents = windows.documents(epoch, window)
        for number in range(len(documents)):
            tokens = documents[number]
            conversation = parse(np.where(tokens < 0, ~tokens, tokens).tolist(), tokenizer)
            assert (tokens >= 0).tolist() == render(conversation, tokenizer)[1]
            questions.append(conversation.messages[0].segments[0].text)
    return questions


def rows_of(data: Any) -> list[list[int]]:
    return [row for batch in data.train_dataloader() for row in batch.rows.flatten(0, 1).tolist()]


@pytest.mark.parametrize(
    ("options", "shares"),
    [
        (dict(a=dict(epochs=2.0)), {"a": 80, "b": 15}),
        (dict(a=dict(epochs=0.5), b=dict(epochs=1.2)), {"a": 20, "b": 18}),
        (dict(sampling="uniform"), {"a": 28, "b": 27}),
        (dict(sampling="weighted", a=dict(weight=1.0), b=dict(weight=4.0)), {"a": 11, "b": 44}),
        (dict(sampling="weighted", b=dict(weight=1.5)), {"a": 22, "b": 33}),
    ],
)
def test_an_epoch_holds_each_task_in_its_share(
    mixture: Callable[..., TaskMixture], options: Any, shares: dict[str, int]
) -> None:
    data = mixture(**options)
    data.setup("fit")
    for epoch in (0, 1):
        questions = asked(data.train_windows, epoch, data.tokenizer)
        assert Counter(question.split()[0] for question in questions) == shares
        times = Counter(questions)
        for kind, size in (("a", 40), ("b", 15)):
            counts = [times[f"{kind} {number}"] for number in range(size)]
            assert sum(counts) == shares[kind] and max(counts) - min(counts) <= 1
    assert asked(data.train_windows, 0, data.tokenizer) != asked(data.train_windows, 1, data.tokenizer)


def test_validation_is_never_trained_on_and_has_the_shares_of_training(mixture: Callable[..., TaskMixture]) -> None:
    first, other = mixture(a=dict(epochs=3.0), seed=1), mixture(a=dict(epochs=3.0), seed=2)
    for data in (first, other):
        data.setup("validate")
    questions = asked(first.val_windows, 0, first.tokenizer)  # type: ignore[arg-type]
    assert Counter(question.split()[0] for question in questions) == {"vala": 9, "valb": 1}
    assert questions == asked(other.val_windows, 0, other.tokenizer)  # type: ignore[arg-type]
    assert not set(questions) & set(asked(first.train_windows, 0, first.tokenizer))


def test_a_file_without_a_validation_split_gives_up_a_part(tmp_path: Path, tokenizer_folder: Path) -> None:
    path = write(tmp_path / "mine.jsonl", [talk("mine", number) for number in range(60)])
    data = TaskMixture("absent", str(tokenizer_folder), [TaskSpec("json", path=path, epochs=2.0)], lanes=2)
    data.setup("fit")
    training = {question for epoch in range(2) for question in asked(data.train_windows, epoch, data.tokenizer)}
    validation = asked(data.val_windows, 0, data.tokenizer)  # type: ignore[arg-type]
    assert len(validation) == 3 and len(training) == 57
    assert training | set(validation) == {f"mine {number}" for number in range(60)}


def test_rows_are_the_same_on_any_number_of_processes(mixture: Callable[..., TaskMixture], attach: Attach) -> None:
    alone = rows_of(attach(mixture(), sequence_len=64, rows=8, num_steps=6))
    shared = [rows_of(attach(mixture(), rank=rank, world=2, sequence_len=64, rows=8, num_steps=6)) for rank in (0, 1)]
    assert sorted(alone) == sorted(shared[0] + shared[1])
    for step in range(6):
        together = shared[0][step * 4 : step * 4 + 4] + shared[1][step * 4 : step * 4 + 4]
        assert sorted(alone[step * 8 : step * 8 + 8]) == sorted(together)
    assert rows_of(attach(mixture(seed=7), sequence_len=64, rows=8, num_steps=6)) != alone


def test_resume_goes_on_and_refuses_another_mixture(mixture: Callable[..., TaskMixture], attach: Attach) -> None:
    whole = rows_of(attach(mixture(), sequence_len=64, rows=8, num_steps=12))
    first = attach(mixture(), sequence_len=64, rows=8, num_steps=7)
    for batch in first.train_dataloader():
        first.on_after_batch_transfer(batch, 0)
    state = json.loads(json.dumps(first.state_dict()))
    resumed, other, weighted = mixture(), mixture(a=dict(epochs=2.0)), mixture(sampling="uniform")
    for data in (resumed, other, weighted):
        data.load_state_dict(state)
    assert rows_of(attach(resumed, sequence_len=64, rows=8, num_steps=12, global_step=7)) == whole[56:]
    with pytest.raises(UserError, match="task 0 was json: 40 an epoch .* now it is json: 80 an epoch"):
        attach(other, sequence_len=64).train_dataloader()
    with pytest.raises(UserError, match="sampling was proportional"):
        attach(weighted, sequence_len=64).train_dataloader()


def test_conversations_without_an_answer_are_left_out_and_counted(tmp_path: Path, tokenizer_folder: Path) -> None:
    lines = [talk("x", number)[: 1 if number % 3 == 0 else 2] for number in range(30)]
    folder = tmp_path / "mine"
    write(folder / "train.jsonl", lines)
    write(folder / "validation.jsonl", [talk("y", 0)])
    data = TaskMixture("absent", str(tokenizer_folder), [TaskSpec("json", path=str(folder))], lanes=1)
    data.setup("fit")
    windows = [data.train_windows.documents(0, window) for window in range(data.train_windows.count)]
    assert sum(len(window) for window in windows) == 20 and sum(window.left_out for window in windows) == 10


def test_the_estimate_of_an_epoch_is_near_the_truth(mixture: Callable[..., TaskMixture]) -> None:
    """Oracle: all documents of an epoch. With a sample of everything the estimate is exact."""
    data = mixture(a=dict(epochs=2.0))
    data.setup("fit")
    windows = [data.train_windows.documents(0, window) for window in range(data.train_windows.count)]
    truth = sum(len(window.tokens) for window in windows)
    assert data.epoch_tokens(sample=10_000) == truth
    assert data.epoch_tokens(sample=20) == data.epoch_tokens(sample=20) == pytest.approx(truth, rel=0.1)
    longest = int(max(window.lengths.max() for window in windows)) - 1
    assert data.epoch_tokens(10_000, sequence_len=longest - 1) < truth == data.epoch_tokens(10_000, longest)


def test_windows_can_be_sent_to_another_process(mixture: Callable[..., TaskMixture]) -> None:
    data = mixture()
    data.setup("fit")
    copy = pickle.loads(pickle.dumps(data.train_windows))
    assert copy.documents(1, 2).tokens.tolist() == data.train_windows.documents(1, 2).tokens.tolist()


def test_what_cannot_be_mixed(mixture: Callable[..., TaskMixture], tmp_path: Path, tokenizer_folder: Path) -> None:
    with pytest.raises(UserError, match="json: weight=2.0 counts only under --data.sampling weighted"):
        mixture(a=dict(weight=2.0))
    with pytest.raises(UserError, match="sampling='even': one of proportional, uniform, weighted"):
        mixture(sampling="even")
    with pytest.raises(UserError, match="--data.tasks: an empty list"):
        TaskMixture(tasks=[])
    with pytest.raises(UserError, match="55 conversations cannot fill 64 lanes; set --data.lanes to 55 or less"):
        mixture(lanes=64).setup("fit")
    one = [TaskSpec("json", path=write(tmp_path / "one.jsonl", [talk("x", 0)]))]
    with pytest.raises(UserError, match="nothing is left to validate with"):
        TaskMixture("absent", str(tokenizer_folder), one, lanes=1).setup("fit")
    with pytest.raises(UserError, match="smoltalk/train.parquet .*vnc prepare task_mixture"):
        TaskMixture(str(tmp_path), str(tokenizer_folder)).setup("fit")


def test_every_task_has_a_prompt_and_the_default_mixture_is_made_of_tasks() -> None:
    assert set(SAMPLE_PROMPTS) == {*FROM_FILES, *GENERATED}
    default = TaskMixture()
    assert [spec.task for spec in default.specs] == [entry["task"] for entry in DEFAULT_MIXTURE]
    assert default.chat and "How many r are in strawberry?" in default.sample_prompts
    assert len(default.sample_prompts) == len(set(default.sample_prompts))


# --- real data

PLACES = {
    "smoltalk/train.parquet": "smoltalk_like.parquet",
    "mmlu/auxiliary_train.jsonl": "mmlu_test.jsonl",
    "mmlu/validation.jsonl": "mmlu_val.jsonl",
    "gsm8k/train.jsonl": "gsm8k_train.jsonl",
    "gsm8k/test.jsonl": "gsm8k_test.jsonl",
    "arc_easy/train.jsonl": "arc_easy_test.jsonl",
    "arc_easy/validation.jsonl": "arc_easy_val.jsonl",
    "arc_challenge/train.jsonl": "arc_challenge_test.jsonl",
    "arc_challenge/validation.jsonl": "arc_challenge_val.jsonl",
}


def test_the_default_mixture_on_real_data(
    shared_data: Path, tmp_path: Path, tokenizer_folder: Path, attach: Attach
) -> None:
    for place, source in PLACES.items():
        (tmp_path / place).parent.mkdir(exist_ok=True)
        shutil.copy(shared_data / "chat" / source, tmp_path / place)
    data = attach(TaskMixture(str(tmp_path), str(tokenizer_folder), lanes=8, val_tokens=20_000), sequence_len=1024,
                  rows=8, num_steps=2)  # fmt: skip
    assert data.train_windows.picks == (2826, 1940 * 3, 3000 * 4, 1500, 1172, 40_000, 2_000)
    bos = data.tokenizer.bos_id
    rows = rows_of(data)
    assert len(rows) == 16
    assert all(row[0] == ~bos and any(number >= 0 for number in row) for row in rows)  # starts a conversation
    validation = data.validation_rows()
    assert validation.shape == (19, 1025) and (validation >= 0).any()
    assert str(tmp_path) not in json.dumps(data.data_identity)
    assert data.epoch_tokens() == pytest.approx(data.epoch_tokens(20_000), rel=0.05)


# --- the command line


def parse_data(*arguments: str) -> Any:
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(RowDataModule, "data")
    return parser, parser.parse_args([*arguments])


def test_tasks_on_the_command_line(tmp_path: Path) -> None:
    name = "--data=datamodules.task_mixture.TaskMixture"
    parser, config = parse_data(name, "--data.tasks", "[{task: gsm8k, epochs: 4}, {task: spelling, size: 100}]")
    data = parser.instantiate(config).data
    assert data.specs == [TaskSpec("gsm8k", epochs=4.0), TaskSpec("spelling", size=100)]
    # Onto the list of a configuration one more can be added.
    base = {"data": {"class_path": name.removeprefix("--data="), "init_args": {"tasks": DEFAULT_MIXTURE}}}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
    more = ["--data.tasks+", "{task: json, path: mine.jsonl}"]
    parser, config = parse_data("--config", str(tmp_path / "base.yaml"), *more)
    specs = parser.instantiate(config).data.specs
    assert specs == [*(TaskSpec(**entry) for entry in DEFAULT_MIXTURE), TaskSpec("json", path="mine.jsonl")]
    # What a run folder keeps says every setting, and is read back as the same.
    (tmp_path / "config.yaml").write_text(parser.dump(config))
    kept = yaml.safe_load(parser.dump(config))["data"]["init_args"]["tasks"]
    assert [entry["task"] for entry in kept] == [spec.task for spec in specs] and kept[1]["epochs"] == 3.0
    parser, again = parse_data("--config", str(tmp_path / "config.yaml"))
    assert parser.instantiate(again).data.specs == specs


@pytest.mark.parametrize(("wrong", "problem"), [("[{tsk: gsm8k}]", "tsk"), ("[{task: poems}]", "poems")])
def test_a_mistyped_task_is_refused(wrong: str, problem: str) -> None:
    with pytest.raises(jsonargparse.ArgumentError, match=problem):
        parse_data("--data=datamodules.task_mixture.TaskMixture", "--data.tasks", wrong)


def test_the_shipped_configuration_is_the_default_mixture() -> None:
    path = Path(__file__).parents[2] / "configs" / "midtrain.yaml"
    settings = yaml.safe_load(path.read_text())["data"]
    assert settings["class_path"] == "TaskMixture"
    assert TaskMixture(**settings["init_args"]).specs == TaskMixture().specs
