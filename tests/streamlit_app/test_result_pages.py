"""The Runs, Evals, Plan and Scaling pages: with real runs, with nothing, and with hostile files."""

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("streamlit", reason="the app needs Streamlit: pip install 'vnc[app]'")

from streamlit.testing.v1 import AppTest

from streamlit_app import row_browser
from streamlit_app.runs_folder import VARIABLE
from tests.streamlit_app.test_study_finder import write_csv, write_run
from tests.streamlit_app.training import train
from tests.vnc.evals.conftest import choices

PAGES = Path(__file__).parents[2] / "streamlit_app" / "views"
TRICK = "<img src=x onerror=alert(1)> **bold** [link](http://example.invalid) $x$ :red[x]"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("pages"), "one", "two")


@pytest.fixture
def runs(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = Path(shutil.copytree(trained, tmp_path / "runs", symlinks=True))
    monkeypatch.chdir(trained.parent)  # bundles are named relative to where training was started
    monkeypatch.setenv(VARIABLE, str(folder))
    return folder


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The app as it is by default, which AppTest has no server for."""
    monkeypatch.setattr(row_browser, "only_this_machine", lambda: True)


@pytest.fixture
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "absent"))
    return tmp_path / "absent"


def shown(page: str) -> AppTest:
    test = AppTest.from_file(str(PAGES / f"{page}.py"), default_timeout=60).run()
    assert not test.exception
    return test


def charts(test: AppTest) -> list[str]:
    return [str(each.proto.spec) for each in test.get("vega_lite_chart")]


def texts(test: AppTest) -> str:
    return "\n".join(each.value for each in test.text)


@pytest.mark.parametrize(
    ("page", "command"),
    [("runs", "make train"), ("evals", "vnc evaluate --suite core"), ("scaling", "vnc scaling sweep")],
)
def test_a_newcomer_is_told_what_to_type(nothing: Path, page: str, command: str) -> None:
    test = shown(page)
    assert any(each.value.startswith(command) for each in test.code)
    assert str(nothing) in texts(test) and not nothing.exists()


def test_two_runs_are_drawn_over_each_axis(runs: Path) -> None:
    test = shown("runs")
    assert set(test.multiselect[0].value) == {"one", "two"}
    steps = charts(test)
    assert len(steps) == 8 and all('"one"' in spec and '"two"' in spec for spec in steps)
    for axis in ("tokens", "FLOPs", "hours"):
        test.segmented_control[0].set_value(axis).run()
        assert not test.exception
        assert len(charts(test)) == 8 and all(f'"title": "{axis}"' in spec for spec in charts(test))
    test.multiselect[0].set_value(["two"]).run()
    assert not any('"one"' in spec for spec in charts(test))
    table = test.dataframe[0].value
    assert table["run"].tolist() == ["two"] and table["done"].tolist() == [1.0]
    assert any("aspect_ratio: 32" in each.value for each in test.code)


def test_what_is_written_while_the_page_is_open_is_drawn_at_its_next_turn(runs: Path) -> None:
    test = shown("runs")
    assert test.dataframe[0].value["step"].tolist() == [10, 10]
    with (runs / "one/metrics.csv").open("a") as file:
        columns = (runs / "one/metrics.csv").read_text().split("\n", 1)[0].split(",")
        file.write(",".join({"step": "41", "train/loss": "1.5"}.get(name, "") for name in columns) + "\n")
    test.run()
    assert sorted(test.dataframe[0].value["step"]) == [10, 42]


def test_a_run_that_is_removed_while_it_is_shown_is_gone(runs: Path) -> None:
    test = shown("runs")
    shutil.rmtree(runs / "one")
    test.run()
    assert not test.exception and test.multiselect[0].value == ["two"]


def test_nothing_of_a_file_becomes_markdown_or_html(runs: Path) -> None:
    record = json.loads((runs / "one/run.json").read_text())
    record |= {"status": "failed", "reason": TRICK, "device": TRICK}
    (runs / "one/run.json").write_text(json.dumps(record))
    (runs / "two/metrics.csv").write_text(f"{TRICK}\n")
    for path in (runs / "one/evals").glob("core_*.json"):
        values = json.loads(path.read_text())
        values["tasks"][0]["label"] = TRICK
        values["left_out"] = [{"label": TRICK, "reason": TRICK}]
        path.write_text(json.dumps(values))
    (runs / "broken.json").write_text(json.dumps({"suite": "core", "tasks": [{"label": TRICK}]}))
    for name in ("a", "b", TRICK.split("/")[0]):
        write_run(runs / "sweep" / name, 100, TRICK)
    (runs / "trick.csv").write_text(f"{TRICK}\n1\n")
    for page in ("runs", "evals", "scaling"):
        test = shown(page)
        if page == "runs":
            test.multiselect[0].set_value(["one", "two", "sweep/a"]).run()
        for kind in ("markdown", "caption", "info", "warning", "error", "success", "header", "subheader"):
            assert not any("onerror" in str(each.value) for each in test.get(kind)), (page, kind)
        assert "onerror" in texts(test), page


def test_results_by_task_and_the_difference_between_two(runs: Path) -> None:
    test = shown("evals")
    assert set(test.multiselect[0].value) == {"one · step 10", "two · step 10"}
    drawn = charts(test)
    assert len(drawn) == 3  # by task, radar, difference
    values = json.loads((runs / "one/evals/core_step_00000010.json").read_text())
    table = test.dataframe[0].value.set_index("result")
    assert table.loc["one · step 10", "CORE"] == values["core"]
    assert table.loc["one · step 10", "95% from"] == values["core_interval"][0]
    assert any("95% interval" in each.value for each in test.markdown)
    test.multiselect[0].set_value(["one · step 5"]).run()
    assert not test.exception and len(charts(test)) == 2


def test_a_row_is_shown_with_its_question_and_reason(runs: Path) -> None:
    test = shown("evals")
    test.selectbox(key="rows_result").set_value("one · step 10").run()
    test.selectbox(key="rows_task").set_value("multiple_choice").run()
    values = json.loads((runs / "one/evals/core_step_00000010.json").read_text())
    outcomes = values["tasks"][0]["outcomes"]
    row = outcomes[0]
    example = choices()[row["row"]]
    assert example["query"] in [each.value for each in test.code]
    assert set(example["choices"]) <= {each.value for each in test.text}
    assert any("nats per token" in each.value for each in test.markdown)
    told = test.success if row["correct"] else test.warning
    assert told[0].value.startswith("Right" if row["correct"] else "Wrong")
    test.segmented_control(key="rows_which").set_value("wrong").run()
    wrong = sum(not outcome["correct"] for outcome in outcomes)
    assert test.number_input[0].label == f"Row (1 to {wrong})"


def test_without_its_folder_the_outcome_alone_is_shown(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)
    test = shown("evals")
    assert "no such folder" in texts(test)
    assert any("nats per token" in each.value for each in test.markdown)


def test_where_others_can_reach_the_app_no_folder_outside_the_runs_is_opened(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_browser, "only_this_machine", lambda: False)
    test = shown("evals")
    assert not test.text_input and not test.code
    assert "outside the runs folder" in texts(test)
    (runs / "link").symlink_to(runs.parent)
    shutil.copytree(Path("bundle"), runs / "bundle")
    for path in runs.glob("*/evals/core_*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"bundle": str(runs / "bundle")}))
    test = shown("evals")
    assert test.code and "outside the runs folder" not in texts(test)
    for path in runs.glob("*/evals/core_*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"bundle": str(runs / "link")}))
    assert "outside the runs folder" in texts(shown("evals"))


def test_rows_on_which_two_results_differ_are_shown_beside_each_other(runs: Path) -> None:
    path = runs / "two/evals/core_step_00000010.json"
    one, two = (json.loads((runs / f"{name}/evals/core_step_00000010.json").read_text()) for name in ("one", "two"))
    outcomes = two["tasks"][0]["outcomes"]
    for here, there in zip(one["tasks"][0]["outcomes"], outcomes, strict=True):
        there["correct"] = here["correct"]
    test = shown_rows(path, two)
    assert any("both are right or both are wrong" in each.value for each in test.info)
    last = two["tasks"][-1]
    for here, there in zip(one["tasks"][-1]["outcomes"], last["outcomes"], strict=True):
        there["correct"] = not here["correct"]
    assert f"{last['label']}: {len(last['outcomes'])}" in texts(shown_rows(path, two)).split("\n")
    outcomes[3]["correct"] = not outcomes[3]["correct"]
    test = shown_rows(path, two)
    assert test.number_input[0].label == "Row (1 to 1)"
    assert any(f"Row {outcomes[3]['row']:,} of the task's file" in each.value for each in test.caption)
    assert len(test.success) == len(test.warning) == 1 and {"one · step 10", "two · step 10"} <= set(
        texts(test).split("\n")
    )
    test.multiselect[0].set_value(["one · step 10"]).run()
    assert any("Choose another result" in each.value for each in test.info)


def shown_rows(path: Path, values: object) -> AppTest:
    path.write_text(json.dumps(values))
    test = shown("evals")
    test.selectbox(key="rows_result").set_value("one · step 10").run()
    test.segmented_control(key="rows_which").set_value("different").run()
    assert not test.exception
    return test


def test_a_gauntlets_categories_are_drawn_and_its_averages_told(
    gauntlet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(gauntlet))
    test = shown("evals")
    values = json.loads((gauntlet / "result.json").read_text())
    assert test.tabs[0].label == "By category" and '"knowledge"' in charts(test)[0]
    row = test.dataframe[0].value.iloc[0]
    assert row["all"] == values["averages"]["all"] and "Gauntlet" not in row
    table = test.dataframe[1].value.set_index("category")
    assert table.loc["knowledge", "centred"] == values["categories"][0]["score"]
    assert table.loc["lost", "missing"] == "gone"


def test_a_damaged_event_file_is_told_and_the_page_goes_on(runs: Path) -> None:
    for name in ("run.json", "metrics.csv"):
        (runs / "one" / name).unlink()
    (events,) = (runs / "one").glob("events.out.tfevents.*")
    whole = bytearray(events.read_bytes())
    whole[len(whole) // 2] ^= 0x40
    events.write_bytes(whole)
    test = shown("runs")
    test.multiselect[0].set_value(["one", "two"]).run()
    assert not test.exception and charts(test)
    assert f"{events.name}: damaged at byte" in texts(test)


def test_chat_results_show_what_the_model_wrote(runs: Path) -> None:
    test = shown("evals")
    test.segmented_control[0].set_value("chatcore").run()
    assert not test.exception
    values = json.loads((runs / "one/evals/chatcore_step_00000010.json").read_text())
    expected = values["tasks"][0]["outcomes"][0]["expected"]
    assert expected in [each.value for each in test.code]


def test_moving_the_depth_moves_every_figure() -> None:
    test = shown("plan")
    before = {each.label: each.value for each in test.metric}
    assert before["Parameters"] == "286M" and before["Tokens"] == "1.32B"
    test.slider[0].set_value(24).run()
    assert not test.exception
    after = {each.label: each.value for each in test.metric}
    assert all(before[label] != after[label] for label in before)
    assert all(each.delta for each in test.metric)
    assert any("--model.depth 24" in each.value for each in test.code)
    assert len(charts(test)) == 4


def test_a_plan_that_cannot_be_is_explained() -> None:
    test = shown("plan")
    test.segmented_control[1].set_value("FLOPs").run()
    test.slider[1].set_value(14.0).run()
    assert not test.exception
    assert "less than half of one step" in texts(test)


def test_too_little_memory_is_said_with_the_way_out() -> None:
    test = shown("plan")
    test.slider[0].set_value(26).run()
    assert "do not fit" in test.warning[0].value
    assert any("--model.device_batch_size" in each.value for each in test.code)


def test_a_study_is_drawn_and_answers_for_the_compute_at_hand(nothing: Path) -> None:
    write_csv(nothing / "study.csv")
    test = shown("scaling")
    assert len(charts(test)) == 3
    assert [each.label.split(" (")[0] for each in test.metric] == ["Parameters", "Tokens", "Loss"]
    first = test.metric[0].value
    test.slider[0].set_value(24.0).run()
    assert not test.exception and test.metric[0].value != first


def test_too_few_runs_are_told_what_is_missing(nothing: Path) -> None:
    for size in (100, 200, 400):
        write_run(nothing / "sweep" / f"d{size}", size)
    test = shown("scaling")
    assert not test.metric and "isoFLOP, parabola" in texts(test)
