"""The terminal chat, with a random model in place of a trained one: what it reads, keeps, prints, and where."""

import contextlib
import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from vnc import checkpoint
from vnc.cache import KVCache, LayerCache
from vnc.chat import Dialogue, Screen, chat
from vnc.checkpoint import LoadedModel
from vnc.config import GPTConfig
from vnc.conversation import Conversation, Message, Segment, render_prompt
from vnc.decoding import c_decoder
from vnc.engine import Engine, Event
from vnc.errors import UserError
from vnc.gpt import GPT
from vnc.sampling import GREEDY, Sampling
from vnc.tokenizer import Tokenizer

TEXT = "Where does Ines live? Ines lives in Ashford by the river and has a grey cat.\nuser\nassistant\n" * 3
CONTEXT = 96


@dataclass(frozen=True)
class Windowed(GPTConfig):
    @property
    def windows(self) -> tuple[int, ...]:
        return (5, self.sequence_len)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([TEXT], 300)


def open_random(tokenizer: Tokenizer, is_chat: bool) -> LoadedModel:
    gpt = GPT(Windowed(vocab_size=tokenizer.vocab_size, sequence_len=CONTEXT, n_layer=2, n_head=2, n_embd=64))
    generator = torch.Generator().manual_seed(2)
    for parameter in gpt.parameters():
        parameter.data.normal_(0.0 if parameter.dim() > 1 else 0.5, 0.2, generator=generator)
    return LoadedModel(gpt, tokenizer, is_chat, Path("runs/random"))


@pytest.fixture(scope="module")
def chat_model(tokenizer: Tokenizer) -> LoadedModel:
    return open_random(tokenizer, True)


@pytest.fixture(scope="module")
def base_model(tokenizer: Tokenizer) -> LoadedModel:
    return open_random(tokenizer, False)


@pytest.fixture
def opens(monkeypatch: pytest.MonkeyPatch) -> Callable[[LoadedModel], None]:
    """Makes every checkpoint open as this model."""
    return lambda loaded: monkeypatch.setattr(checkpoint, "load_model", lambda *_: loaded)


@pytest.fixture
def types(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts lines into standard input."""
    return lambda *lines: monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))


def user(text: str) -> Message:
    return Message("user", (Segment("text", text),))


def tokens(events: Iterator[Event]) -> list[int]:
    return [event.token for event in events if event.token is not None]


def spoken(loaded: LoadedModel, ids: list[int], max_tokens: int, sampling: Sampling = GREEDY) -> str:
    events = Engine(loaded.gpt, loaded.tokenizer).stream([ids], sampling, max_tokens)
    return "".join(event.text for event in events if event.kind == "text")


def test_one_shot_prints_the_answer_and_nothing_else(chat_model: LoadedModel, opens, capfd) -> None:
    opens(chat_model)
    chat("somewhere", prompt="Where does Ines live?", max_tokens=20)
    out, err = capfd.readouterr()
    prompt = render_prompt(Conversation((user("Where does Ines live?"),)), chat_model.tokenizer)
    assert out == spoken(chat_model, prompt, 20) + "\n" and len(out) > 5
    assert err == ""


def test_a_base_model_continues(base_model: LoadedModel, opens, capfd) -> None:
    opens(base_model)
    chat("somewhere", prompt="Ines lives", temperature=0, max_tokens=20)
    ids = [base_model.tokenizer.bos_id, *base_model.tokenizer.encode("Ines lives")]
    assert capfd.readouterr().out == spoken(base_model, ids, 20) + "\n"
    chat("somewhere", prompt="", temperature=0, max_tokens=20)  # nothing to go on from: a text from its beginning
    assert capfd.readouterr().out == spoken(base_model, ids[:1], 20) + "\n"


def test_default_temperature_and_seed(base_model: LoadedModel, opens, capfd) -> None:
    """A base model draws at 0.8, a seed repeats and another differs."""
    opens(base_model)
    outs = []
    for options in (dict(), dict(seed=0), dict(temperature=0.8), dict(seed=1), dict(temperature=0.0)):
        chat("somewhere", prompt="Ines", max_tokens=30, **options)
        outs.append(capfd.readouterr().out)
    assert outs[0] == outs[1] == outs[2]
    assert len(set(outs)) == 3


def test_history_is_read_as_one_conversation(chat_model: LoadedModel) -> None:
    """Each turn's answer is what a fresh model says to the whole conversation, although it only reads what is new."""
    dialogue, history = Dialogue(chat_model, GREEDY, 9), [chat_model.tokenizer.bos_id]
    tokenizer, engine = chat_model.tokenizer, Engine(chat_model.gpt, chat_model.tokenizer)
    for text in ("Where does Ines live?", "Has she a cat?", "What is her job?"):
        history += render_prompt(Conversation((user(text),)), tokenizer)[1:]
        said = tokens(dialogue.reply(text))
        assert said == engine.generate([history], max_tokens=9)[0]
        assert dialogue.left_out == 0
        history += [*said, tokenizer.special("<|im_end|>"), *tokenizer.encode("\n")]
    first = render_prompt(Conversation((user("Hm."),)), tokenizer)
    dialogue.reset()
    assert tokens(dialogue.reply("Hm.")) == engine.generate([first], max_tokens=9)[0]


def test_later_turns_read_only_what_is_new(chat_model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    begin = KVCache.begin
    monkeypatch.setattr(KVCache, "begin", lambda self, T, *reader: (read.append(T), begin(self, T, *reader))[1])
    dialogue = Dialogue(chat_model, GREEDY, 9)
    list(dialogue.reply("Where does Ines live? Where is the river?"))
    first = read.copy()
    list(dialogue.reply("?"))
    assert first[0] > 20 and read[len(first)] < first[0]


def test_a_long_history_forgets_its_oldest_turns_whole(chat_model: LoadedModel) -> None:
    dialogue, tokenizer = Dialogue(chat_model, GREEDY, 10), chat_model.tokenizer
    left_out, said = [], []
    for turn in range(12):
        said.append(tokens(dialogue.reply(f"Where does Ines live? {turn}")))
        left_out.append(dialogue.left_out)
    assert left_out[0] == 0 and any(left_out)
    kept = [token for turn in dialogue._turns for token in turn]
    assert len(kept) < CONTEXT
    header = [tokenizer.special("<|im_start|>"), *tokenizer.encode("user\n")]
    assert kept[: len(header)] == header
    # It answered what a fresh model answers to just the turns that were kept ...
    closing = 1 + len(tokenizer.encode("\n"))
    prompt = [tokenizer.bos_id, *kept[: -closing - len(said[-1])]]
    assert Engine(chat_model.gpt, tokenizer).generate([prompt], max_tokens=10) == said[-1:]
    # ... and every token of the others was reported, once.
    asked = [render_prompt(Conversation((user(f"Where does Ines live? {turn}"),)), tokenizer) for turn in range(12)]
    assert sum(left_out) + len(kept) == sum(len(each) - 1 for each in asked) + sum(len(each) + closing for each in said)


@pytest.mark.parametrize("is_chat", [True, False])
def test_too_long_a_prompt_keeps_its_newest_part_and_says_so(is_chat: bool, tokenizer, opens, capfd) -> None:
    loaded = open_random(tokenizer, is_chat)
    opens(loaded)
    ids = tokenizer.encode(TEXT * 5)
    assert len(ids) > 3 * CONTEXT
    chat("somewhere", prompt=TEXT * 5, max_tokens=10, temperature=0)
    out, err = capfd.readouterr()
    frame = render_prompt(Conversation((user(""),)), tokenizer) if is_chat else [tokenizer.bos_id]
    kept = CONTEXT - 10 - len(frame)
    place = frame.index(tokenizer.special("<|im_end|>")) if is_chat else 1
    assert out == spoken(loaded, frame[:place] + ids[-kept:] + frame[place:], 10) + "\n"
    assert (
        f"holds {CONTEXT} tokens" in err and f"oldest {len(ids) - kept} were left out" in err and err.count("\n") == 1
    )


def test_a_pipe_is_answered_line_by_line(chat_model: LoadedModel, opens, types, capfd) -> None:
    opens(chat_model)
    types("Where does Ines live?", "", "/temperature 0", "/reset", "Where does Ines live?", "/quit", "never read")
    chat("somewhere", max_tokens=8)
    out, err = capfd.readouterr()
    prompt = render_prompt(Conversation((user("Where does Ines live?"),)), chat_model.tokenizer)
    assert out == (spoken(chat_model, prompt, 8) + "\n") * 2  # the same answer after /reset; no prompts, no banner
    assert err == "forgotten\n"


def test_commands_that_are_wrong_are_explained(chat_model: LoadedModel, opens, types, capfd) -> None:
    opens(chat_model)
    types("/temperature warm", "/temperature -1", "/temperatures", "/help")
    chat("somewhere")
    out, err = capfd.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert "/temperature warm" in lines[0] and "temperature=-1.0" in lines[1] and "/temperatures" in lines[2]
    assert [line.split()[0] for line in lines[3:]] == ["/temperature", "/reset", "/help", "/quit"]


def test_breaking_off_keeps_what_was_said(chat_model: LoadedModel) -> None:
    """Closed after four tokens: the next turn is what a fresh model says to the question and these four."""
    tokenizer, dialogue = chat_model.tokenizer, Dialogue(chat_model, GREEDY, 20)
    said = []
    with contextlib.closing(dialogue.reply("Where does Ines live?")) as events:
        for event in events:
            said.append(event.token)
            if len(said) == 4:
                break
    history = render_prompt(Conversation((user("Where does Ines live?"),)), tokenizer) + said
    history += [tokenizer.special("<|im_end|>"), *tokenizer.encode("\n")]
    history += render_prompt(Conversation((user("And?"),)), tokenizer)[1:]
    assert tokens(dialogue.reply("And?")) == Engine(chat_model.gpt, tokenizer).generate([history], max_tokens=20)[0]


@pytest.mark.parametrize(
    "in_c, where",
    [
        # The last layer's attention, when the first one's window has been overwritten already.
        pytest.param(False, (LayerCache, "attend_last"), id="torch"),
        pytest.param(True, (KVCache, "advance"), id="c"),
    ],
)
def test_breaking_off_inside_a_pass_leaves_no_half_written_cache(
    in_c: bool, where: tuple[type, str], chat_model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the second turn is read."""
    if not in_c:
        monkeypatch.setattr(c_decoder, "library", lambda *page: None)
    tokenizer, engine = chat_model.tokenizer, Engine(chat_model.gpt, chat_model.tokenizer)
    dialogue = Dialogue(chat_model, GREEDY, 6)
    said = tokens(dialogue.reply("Where does Ines live?"))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(*where, interrupt)
        with pytest.raises(KeyboardInterrupt):
            list(dialogue.reply("by the river?"))
    history = [tokenizer.bos_id]
    for text, answer in (("Where does Ines live?", said), ("by the river?", [])):
        history += render_prompt(Conversation((user(text),)), tokenizer)[1:] + answer
        history += [tokenizer.special("<|im_end|>"), *tokenizer.encode("\n")]
    history += render_prompt(Conversation((user("And?"),)), tokenizer)[1:]
    assert tokens(dialogue.reply("And?")) == engine.generate([history], max_tokens=6)[0]
    assert dialogue.left_out == 0


def test_ctrl_c_stops_the_answer_and_not_the_chat(chat_model: LoadedModel, opens, monkeypatch, capfd) -> None:
    opens(chat_model)
    lines = iter(["Where does Ines live?", "/help"])
    monkeypatch.setattr("builtins.input", lambda _: next(lines, None) or (_ for _ in ()).throw(EOFError))
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    shown: list[Event] = []

    def show(self: Screen, event: Event) -> None:
        shown.append(event)
        raise KeyboardInterrupt

    monkeypatch.setattr(Screen, "show", show)
    chat("somewhere")
    assert len(shown) == 1 and "/quit" in capfd.readouterr().err.split("Ctrl-C")[0]


def event(text: str, kind: str) -> Event:
    return Event(0, 5, text, kind)


def test_calculator_calls_are_shown_discreetly(capsys, monkeypatch) -> None:
    events = [event(*each) for each in (("It is ", "text"), ("12", "tool"), ("*7", "tool"), ("", "tool"),
                                        ("", "text"), ("84", "output"), ("", "output"), ("84.", "text"))]  # fmt: skip
    for show_tools, terminal, expected in (
        (True, False, "It is [12*7=84]84.\n"),
        (False, False, "It is 84.\n"),
        (
            True,
            True,
            "It is \x1b[2m[\x1b[0m\x1b[2m12\x1b[0m\x1b[2m*7\x1b[0m\x1b[2m=\x1b[0m\x1b[2m84\x1b[0m\x1b[2m]\x1b[0m84.\n",
        ),
    ):
        monkeypatch.setattr(sys.stdout, "isatty", lambda terminal=terminal: terminal)
        screen = Screen(show_tools)
        for each in events:
            screen.show(each)
        screen.end()
        assert capsys.readouterr().out == expected
    screen.show(event("1/0", "tool"))  # broken off in the middle of a call
    screen.end()
    assert capsys.readouterr().out.endswith("]\x1b[0m\n")


def test_model_text_cannot_steer_the_terminal(capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    Screen(False).show(event("[red]a\x1b[2Jb\rc\x9bd[/red] 👩‍🚀\tx\n", "text"))
    assert capsys.readouterr().out == "[red]a�[2Jb�c�d[/red] 👩‍🚀\tx\n"


def test_mistakes_are_named_before_a_model_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "load_model", lambda *_: pytest.fail("opened"))
    for options, named in (
        (dict(temperature=-1.0), "temperature"),
        (dict(top_p=0.0), "top_p"),
        (dict(max_tokens=0), "max_tokens=0"),
        (dict(device="cuda:99"), "device=cuda:99"),
        (dict(device="abacus"), "device=abacus"),
    ):
        with pytest.raises(UserError, match=named):
            chat("somewhere", **options)


def test_a_context_too_small_to_talk_in(tokenizer: Tokenizer) -> None:
    gpt = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, sequence_len=8, n_layer=1, n_head=2, n_embd=64))
    with pytest.raises(UserError, match="a context of 8 tokens has no room"):
        list(Dialogue(LoadedModel(gpt, tokenizer, True, Path("runs/small")), GREEDY, 10).reply("Hello"))


def test_help_costs_no_torch_and_chat_no_lightning() -> None:
    code = (
        "import sys, vnc.chat\n"
        "assert 'torch' not in sys.modules and 'tiktoken' not in sys.modules\n"
        "import vnc.engine, vnc.checkpoint\n"
        "assert not {'lightning', 'pytorch_lightning', 'torchmetrics'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
