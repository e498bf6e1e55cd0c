import random
import sys

import pytest

from vnc.errors import UserError
from vnc.evals.ifeval import language
from vnc.evals.ifeval.prompts import Prompt, parse_instruction
from vnc.evals.ifeval.scoring import check_prompts, judge, score

ENGLISH = "The river runs past the old mill and down to the sea."
MIXED = "yes ja oui si da no nein non"
LOWERCASE = Prompt(1, "Whisper.", (parse_instruction("change_case:english_lowercase", {}),))
NO_COMMA = Prompt(2, "Pause not.", (parse_instruction("punctuation:no_comma", {}),))


@pytest.fixture
def langdetect() -> None:
    pytest.importorskip("langdetect", reason="the extra vnc[ifeval] is not installed")


@pytest.mark.usefixtures("langdetect")
def test_the_same_text_has_the_same_language_each_time() -> None:
    def told() -> list[str]:
        return [code for code in language.detectors().get_lang_list() if language.is_in(MIXED, code)]

    first = told()
    assert len(first) == 1
    assert all(told() == first for _ in range(5))


@pytest.mark.usefixtures("langdetect")
def test_no_random_state_moves_and_langdetect_itself_keeps_its_seed() -> None:
    from langdetect import DetectorFactory

    random.seed(3)
    state = random.getstate()
    assert language.is_in(ENGLISH, "en")
    assert random.getstate() == state
    assert DetectorFactory.seed is None


@pytest.mark.usefixtures("langdetect")
def test_an_unknown_language_is_named() -> None:
    prompt = Prompt(3, "Speak.", (parse_instruction("language:response_language", {"language": "xx"}),))
    with pytest.raises(UserError, match="'xx': langdetect knows af, ar"):
        check_prompts([NO_COMMA, prompt])


def test_without_langdetect_only_prompts_that_need_it_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langdetect", None)
    language.detectors.cache_clear()
    try:
        with pytest.raises(UserError, match=r"pip install 'vnc\[ifeval\]'"):
            check_prompts([NO_COMMA, LOWERCASE])
        with pytest.raises(UserError, match="needs langdetect"):
            score([LOWERCASE], ["a quiet answer in small letters"])
        with pytest.raises(UserError, match="needs langdetect"):
            judge(LOWERCASE, "a quiet answer in small letters")
        assert score([NO_COMMA], ["No pause"]).prompt_strict == 1.0
    finally:
        language.detectors.cache_clear()
