"""Each of IFEval's 25 types of instruction against answers that follow it and answers that break it."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vnc.evals.ifeval.prompts import parse_instruction
from vnc.evals.ifeval.registry import KINDS

PARAGRAPHS = "Rain fell all night.\n***\nThe river rose.\n***\nWe left at dawn."

FOUR_WEEKENDS = "Weekend, at last!\n\nSecond part.\n\nThird part.\n\nFourth part."

CASES: dict[str, list[tuple[dict[str, Any], list[str], list[str]]]] = {
    "change_case:capital_word_frequency": [
        (
            {"capital_frequency": 3, "capital_relation": "at least"},
            ["GO to the BIG house NOW", "A I O", "I DON'T go", "**ONE** (TWO) THREE-FOUR", "B2B, B2C and 4K"],
            ["Go to the Big house", "GO NOW", "UP-TO-DATE A/B", "1 2 3 ! ? ..."],
        ),
        (
            {"capital_frequency": 2, "capital_relation": "less than"},
            ["nothing loud here", "ONLY one", "Ärger mit ÖL", "1984 2001 3000"],
            ["NOT One BUT two", "I think I know", "WAIT...WHAT"],
        ),
    ],
    "change_case:english_capital": [
        (
            {},
            ["THE RIVER RUNS PAST THE OLD MILL AND DOWN TO THE SEA.", "42 APPLES, 7 PEARS AND THE THREE OF US!"],
            ["THE RIVER RUNS PAST THE OLD MILL and down to the sea.", "12345", "the river runs past the old mill."],
        )
    ],
    "change_case:english_lowercase": [
        (
            {},
            [
                "the river runs past the old mill and down to the sea.",
                "she said: we have 3 boats, and they are leaking",
            ],
            [
                "The river runs past the old mill and down to the sea.",
                "der fluss fließt an der alten mühle vorbei und weiter zum meer.",
                "12345",
                "the river runs past the old mill and down to the sea, said I.",
            ],
        )
    ],
    "combination:repeat_prompt": [
        (
            {"prompt_to_repeat": "Name two birds, please."},
            [
                "Name two birds, please. Owl and wren.",
                " \nname TWO birds, please.\n\nOwl, wren.",
                "Name two birds, please.",
            ],
            [
                "Owl and wren.",
                "Sure! Name two birds, please. Owl.",
                "Name two birds please. Owl.",
                '"Name two birds, please."',
            ],
        )
    ],
    "combination:two_responses": [
        (
            {},
            ["Owl.\n******\nWren.", "******\nOwl.\n******\nWren.\n******", "Owl****** Wren", "Owl ******** Wren"],
            ["Owl.\n***\nWren.", "Owl. ****** Owl. ", "Owl.\n******\n", "a******b******c", "a****** ******b", "******"],
        )
    ],
    "detectable_content:number_placeholders": [
        (
            {"num_placeholders": 2},
            ["Dear [name], come to [place].", "[a][b]", "[a] [b] [c]", "[[a] and [b]]", "[]\n[]"],
            ["Dear [name], come.", "(name) <place>", "[na\nme] [place]", "[name", "]a[ b ["],
        )
    ],
    "detectable_content:postscript": [
        (
            {"postscript_marker": "P.S."},
            ["Bye.\nP.S. Bring tea.", "p.s. bring tea", "P. S. Bring tea.", "Bye. P.P.S. More tea."],
            ["Bye.", "PS: Bring tea.", "P.S Bring tea", "P.  S. Bring tea."],
        ),
        (
            {"postscript_marker": "P.P.S"},
            ["Bye.\nP.P.S Bring tea.", "p.p.s. bring tea", "P. P. S: Bring tea."],
            ["Bye. P.S. Bring tea.", "PPS tea", "P.P. tea"],
        ),
        ({"postscript_marker": "N.B. "}, ["And n.b. tea."], ["nxbx tea", "P.S. tea"]),
    ],
    "detectable_format:constrained_response": [
        (
            {},
            ["My answer is yes.", "Well.\nMy answer is maybe. Sorry.", "**My answer is no.**"],
            ["My answer is yes", "my answer is no.", "Yes.", "My answer is: maybe."],
        )
    ],
    "detectable_format:json_format": [
        (
            {},
            ['{"a": [1, 2]}', '```json\n{"a": 1}\n```', '```\n["a"]\n```', ' \n"text" ', "```JSON [1] ```", "7"],
            [
                "{a: 1}",
                "{'a': 1}",
                'Sure: {"a": 1}',
                '{"a": 1} {"b": 2}',
                "```python\n{}\n```",
                "``````",
                "[" * 100_000,
            ],
        )
    ],
    "detectable_format:multiple_sections": [
        (
            {"section_spliter": "Section", "num_sections": 2},
            [
                "Section 1\nOwls.\nSection 2\nWrens.",
                "Section 7: a\nSection 9: b\nSection 10: c",
                "**Section1** **Section\n2**",
            ],
            ["Section 1\nOwls.", "SECTION 1 SECTION 2", "Section One, Section Two", "Section  1 Section  2"],
        ),
        ({"section_spliter": "Q&A (", "num_sections": 1}, ["Q&A (1)"], ["Q&A 1"]),
    ],
    "detectable_format:number_bullet_lists": [
        (
            {"num_bullets": 2},
            [
                "* owl\n* wren",
                "Birds:\n- owl\n  - wren\nDone.",
                "* owl\n- wren",
                "\n\n *owl\n\n\t-wren\n",
                "**x** y\n- a\n- b",
            ],
            ["* owl", "* a\n* b\n* c", "1. owl\n2. wren", "• owl\n• wren", "** owl\n** wren", "- a\n- b\n---", "*\n*"],
        )
    ],
    "detectable_format:number_highlighted_sections": [
        (
            {"num_highlights": 2},
            ["*owl* and *wren*", "**owl** and *wren*", "***owl***", "- *owl*\n- *wren*", "*a* *b* *c*"],
            [
                "*owl*",
                "**owl**",
                "* owl\n* wren",
                "** ** **",
                "*ow\nl* *wr\nen",
                "_owl_ _wren_",
                "******",
                "* *owl* * *wren*",
            ],
        )
    ],
    "detectable_format:title": [
        (
            {},
            ["<<Owls>>\nThey fly.", "Here: <<the <b> owl>>", "<<<owl>>>", "<<>>\n<<owl>>", "a << b and c >> d"],
            ["<Owls>", "<<>>", "<< >>", "<<Ow\nls>>", ">>Owls<<", "# Owls", "<<>>>>", "<<Owls"],
        )
    ],
    "keywords:existence": [
        (
            {"keywords": ["owl", "night"]},
            ["Owls fly at NIGHT.", "the fowl slept tonight", "night owl"],
            ["Owls fly.", "n i g h t owl", "Wrens at noon."],
        ),
        ({"keywords": ["3.5"]}, ["It is 3.5 kg."], ["It is 345 kg."]),
    ],
    "keywords:forbidden_words": [
        (
            {"forbidden_words": ["owl", "can"]},
            ["A fowl in a canoe.", "owls, cans", "Wrens."],
            ["An Owl.", "Yes, we CAN!", "night-owl", "owl"],
        ),
        ({"forbidden_words": ["c++"]}, ["c and +", "abc++"], ["Try C++.", "(c++)"]),
    ],
    "keywords:frequency": [
        (
            {"keyword": "owl", "frequency": 2, "relation": "at least"},
            ["Owl and owl.", "fowl, owls, OWL"],
            ["One owl.", "o w l owl", "Wrens."],
        ),
        (
            {"keyword": " owl ", "frequency": 2, "relation": "less than"},
            ["One owl.", "None."],
            ["owl owl", "Owl, growl"],
        ),
        ({"keyword": "a.a", "frequency": 1, "relation": "at least"}, ["a.a"], ["aba"]),
    ],
    "keywords:letter_frequency": [
        ({"letter": "q", "let_frequency": 2, "let_relation": "at least"}, ["Quick quest", "QQQ"], ["Quick", "none"]),
        ({"letter": "Q", "let_frequency": 1, "let_relation": "less than"}, ["none"], ["Quick", "quick"]),
        ({"letter": "!", "let_frequency": 2, "let_relation": "at least"}, ["Go! Now!", "!!"], ["Go!", "zzz eee"]),
        ({"letter": "#", "let_frequency": 4, "let_relation": "at least"}, ["#a #b #c #d"], ["#a #b #c d", "eeee"]),
    ],
    "language:response_language": [
        (
            {"language": "de"},
            ["Der Fluss fließt an der alten Mühle vorbei und weiter bis zum Meer.", "12345"],
            ["The river runs past the old mill and down to the sea.", "Река течёт мимо старой мельницы к морю."],
        ),
        (
            {"language": "hi"},
            ["नदी पुरानी चक्की के पास से बहती हुई समुद्र तक जाती है।"],
            ["The river runs past the old mill and down to the sea."],
        ),
        (
            {"language": "ko"},
            ["강은 오래된 방앗간을 지나 바다로 흘러갑니다."],
            ["川は古い水車小屋のそばを流れて海へ向かいます。"],
        ),
    ],
    "length_constraints:nth_paragraph_first_word": [
        (
            {"num_paragraphs": 4, "nth_paragraph": 1, "first_word": "weekend"},
            [
                FOUR_WEEKENDS,
                FOUR_WEEKENDS.upper(),
                f'"{FOUR_WEEKENDS}"',
                "weekend's\n\nb\n\nc\n\nd",
                f"{FOUR_WEEKENDS}\n\n",
            ],
            [
                "Weekend.\n\nb\n\nc",
                "The weekend\n\nb\n\nc\n\nd",
                "Weekends\n\nb\n\nc\n\nd",
                f"\n\n{FOUR_WEEKENDS}",
                "weekend",
            ],
        ),
        (
            {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Owl"},
            ["One.\n\nOwl two.", "One\nline more.\n\n  'OWL, two"],
            ["Owl.\n\nTwo.", "One.\n\n\n\nOwl.", "One.\nOwl.", "One.\n\n*Owl* two."],
        ),
    ],
    "length_constraints:number_paragraphs": [
        (
            {"num_paragraphs": 3},
            [PARAGRAPHS, f"***\n{PARAGRAPHS}\n***", "a***b *** c"],
            ["a\n\nb\n\nc", "a\n***\nb", f"{PARAGRAPHS}\n***\nFour.", "a***b******c", "***"],
        )
    ],
    "length_constraints:number_sentences": [
        (
            {"num_sentences": 3, "relation": "at least"},
            ["One. Two! Three?", "Dr. Owl came. He sat. Then", '"Go!" he said. And we went.'],
            ["One. Two.", "Dr. Owl met Mr. Wren at 3.30 p.m. today.", "no end at all", "One, e.g. this. Two..."],
        ),
        ({"num_sentences": 2, "relation": "less than"}, ["One", "One.", "It is 2.5 km."], ["One. Two.", "Why? No."]),
    ],
    "length_constraints:number_words": [
        (
            {"num_words": 3, "relation": "at least"},
            ["one two three", "it's so", "3.5 km"],
            ["one two", "- * !", "one-two"],
        ),
        ({"num_words": 3, "relation": "less than"}, ["one two", "!"], ["one two three", "it's so"]),
    ],
    "punctuation:no_comma": [({}, ["No commas; none.", "一、二", "نعم، لا"], ["Yes, one", ",", "1,000"])],
    "startend:end_checker": [
        (
            {"end_phrase": "Any questions?"},
            ["Bye. Any questions?", "any QUESTIONS? \n", '"Bye. Any questions?"'],
            ["Any questions? Bye.", "Any questions", "Any questions? :)", "**Any questions?**"],
        )
    ],
    "startend:quotation": [
        (
            {},
            ['"Owls fly."', ' "Owls" and "wrens"\n', '""'],
            ['"Owls', "'Owls'", '"', "“Owls”", 'He said "owls".', 'Owls"'],
        )
    ],
}

JUDGEMENTS = [
    (name, arguments, response, expected)
    for name, groups in CASES.items()
    for arguments, following, breaking in groups
    for expected, responses in ((True, following), (False, breaking))
    for response in responses
]


def is_followed(name: str, arguments: dict[str, Any], response: str) -> bool:
    instruction = parse_instruction(name, arguments)
    if instruction.language is not None:
        pytest.importorskip("langdetect", reason="the extra vnc[ifeval] is not installed")
    return instruction.is_followed(response)


def test_every_type_has_answers_that_follow_and_break_it() -> None:
    assert CASES.keys() == KINDS.keys()
    assert len(KINDS) == 25
    for groups in CASES.values():
        assert sum(len(following) for _, following, _ in groups) >= 2
        assert sum(len(breaking) for _, _, breaking in groups) >= 3


@pytest.mark.parametrize(("name", "arguments", "response", "expected"), JUDGEMENTS)
def test_judgement(name: str, arguments: dict[str, Any], response: str, expected: bool) -> None:
    assert is_followed(name, arguments, response) is expected


@pytest.mark.parametrize("blank", ["", " ", "\n\t\n"])
@pytest.mark.parametrize("name", KINDS)
def test_a_blank_response_follows_nothing(name: str, blank: str) -> None:
    assert not is_followed(name, CASES[name][0][0], blank)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=8), st.booleans())
def test_any_json_is_json_with_or_without_a_fence(value: Any, fenced: bool) -> None:
    text = json.dumps(value)
    assert is_followed("detectable_format:json_format", {}, f"```json\n{text}\n```" if fenced else text)


@given(st.lists(st.sampled_from(["[a]", "[b", "c]", " ", "\n", "[", "]"]), max_size=12).map("".join))
def test_placeholders_are_as_many_as_a_pattern_finds(text: str) -> None:
    """Against the obvious (and, on long runs of brackets, slow) way."""
    found = len(re.findall(r"\[[^\n]*?\]", text))
    counts = [
        is_followed("detectable_content:number_placeholders", {"num_placeholders": n}, f"x{text}") for n in range(14)
    ]
    assert counts == [n <= found for n in range(14)]


@given(st.lists(st.sampled_from(["<<", ">>", "<", ">", "a", " ", "\n"]), max_size=10).map("".join))
def test_titles_are_what_a_pattern_finds(text: str) -> None:
    found = any(t.lstrip("<").rstrip(">").strip() for t in re.findall(r"<<[^\n]+>>", text))
    assert is_followed("detectable_format:title", {}, f"x{text}") is found
