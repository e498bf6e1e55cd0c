"""`vnc chat`: talk to a trained model in the terminal.

A chat model converses: `Dialogue` keeps what was said as the very tokens that were read and spoken, and the cache of
their keys and values, so that each turn only reads what is new. A base model continues a text. The rest of the page is
the terminal: one answer for --prompt, otherwise line by line, from a person or from a pipe.

torch is imported when a model is opened, not before, so that help and mistakes in the options come at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import sys
from collections.abc import Generator
from typing import TYPE_CHECKING

from vnc.conversation import BRACKETS, Conversation, Kind, Message, Segment, render_prompt
from vnc.errors import UserError

if TYPE_CHECKING:
    from vnc.cache import KVCache
    from vnc.checkpoint import LoadedModel
    from vnc.engine import Event
    from vnc.sampling import Sampling

# A small chat model is asked for facts, and its likeliest answer is its best; a base model that always takes the
# likeliest token soon goes round in circles.
CHAT_TEMPERATURE = 0.0
BASE_TEMPERATURE = 0.8

CONTROLS = {chr(code) for code in (*range(32), *range(127, 160))} - {"\n", "\t"}


HELP = """\
/temperature X   0 takes the likeliest words, 1 draws freely
/reset           forget what was said
/help            this list
/quit            leave (or Ctrl-D); Ctrl-C stops an answer"""


def chat(
    checkpoint: str,
    prompt: str | None = None,
    temperature: float | None = None,
    max_tokens: int = 256,
    seed: int = 0,
    top_k: int | None = None,
    top_p: float = 1.0,
    device: str = "auto",
) -> None:
    """Talk to a trained model: a chat model answers, a base model continues your text.

    Args:
        checkpoint: Checkpoint directory, run folder (its last checkpoint) or export.
        prompt: Answer this, print nothing but the answer, and leave.
        temperature: 0 takes the likeliest words, 1 draws freely. Default: 0 for chat models, 0.8 for base models.
        max_tokens: Longest answer, in tokens.
        seed: Another seed draws another answer; the same one repeats it.
        top_k: Draw among this many of the likeliest tokens only.
        top_p: Draw among the likeliest tokens that make up this share of the probability only.
        device: auto, cpu or cuda; auto takes a GPU where there is one.
    """
    from vnc.sampling import Sampling

    # Checked before the model is opened; None is settled by the kind of model.
    sampling = Sampling(0.0 if temperature is None else temperature, top_k, top_p, seed)
    if max_tokens < 1:
        raise UserError(f"max_tokens={max_tokens}: must be at least 1")
    loaded = open_model(checkpoint, device)
    if temperature is None:
        sampling = dataclasses.replace(sampling, temperature=CHAT_TEMPERATURE if loaded.chat else BASE_TEMPERATURE)
    dialogue = Dialogue(loaded, sampling, max_tokens)
    if prompt is not None:
        _print_answer(dialogue, prompt, Screen(show_tools=False))
        return
    _converse(dialogue)


def open_model(checkpoint: str, device: str = "auto") -> LoadedModel:
    """Opens a checkpoint to talk to: weights in the dtype that the device computes in, since nothing trains them."""

    from vnc.checkpoint import load_model
    from vnc.engine import freeze
    from vnc.precision import choose_device

    loaded = load_model(checkpoint, choose_device(device))
    freeze(loaded.gpt)
    return loaded


class Dialogue:
    """A conversation with a chat model, or a base model's desk, where each text is continued on its own."""

    def __init__(self, loaded: LoadedModel, sampling: Sampling, max_tokens: int) -> None:
        from vnc.engine import Engine

        self.loaded, self.sampling, self.max_tokens = loaded, sampling, max_tokens
        self.engine = Engine(loaded.gpt, loaded.tokenizer)
        self.left_out = 0
        """Tokens that the latest text made the model forget, or that did not fit themselves."""
        # The answer is not squeezed out by the prompt: up to a quarter of the context is its own.
        self._room = self.engine.context - min(max_tokens, self.engine.context // 4)
        self._spoken = 0
        self.reset()

    def reset(self) -> None:
        """Forget what was said."""
        self._turns: list[list[int]] = []
        self._cache: KVCache | None = None

    def reply(self, text: str) -> Generator[Event]:
        """The answer to `text`, or its continuation by a base model, as it comes. What was said until the iterator is
        closed stays in the history."""
        # Another answer for the same words: each draws with a seed of its own, the first with the user's.
        sampling = dataclasses.replace(self.sampling, seed=(self.sampling.seed + self._spoken) % 2**63)
        self._spoken += 1
        if not self.loaded.chat:
            from vnc.engine import newest_part

            tokenizer = self.loaded.tokenizer
            prompt, self.left_out = newest_part([tokenizer.bos_id, *tokenizer.encode(text)], self._room)
            return self.engine.stream([prompt], sampling, self.max_tokens)
        return self._answer(text, sampling)

    def _answer(self, text: str, sampling: Sampling) -> Generator[Event]:
        turn, cut = self._user_turn(text)
        forgotten = 0
        while self._turns and 1 + sum(map(len, self._turns)) + len(turn) > self._room:
            forgotten += len(self._turns.pop(0))
        self.left_out = cut + forgotten
        ids = [self.loaded.tokenizer.bos_id, *(token for each in self._turns for token in each), *turn]
        cache, self._cache = self._cache, None  # gone if this turn is broken off in the middle of a pass
        if cache is None or forgotten:
            cache = self.engine.new_cache(1)
        said: list[int] = []
        try:
            for event in self.engine.stream([ids[cache.lengths[0] :]], sampling, self.max_tokens, cache=cache):
                if event.token is not None:
                    said.append(event.token)
                yield event
            self._cache = cache
        except GeneratorExit:  # closed between two tokens: the cache is whole
            self._cache = cache
            raise
        finally:
            self._turns.append(turn + said + self._closing())

    def _user_turn(self, text: str) -> tuple[list[int], int]:
        """Ids from the user's header to the assistant's, with the newest part of the text that fits between them; and
        the number of tokens left out."""
        tokenizer = self.loaded.tokenizer
        frame = render_prompt(Conversation((Message("user", (Segment("text", ""),)),)), tokenizer)
        ids = tokenizer.encode(text)
        left_out = max(0, len(frame) + len(ids) - self._room)
        if left_out >= len(ids) > 0 or len(frame) > self._room:
            raise UserError(
                f"{self.loaded.source}: a context of {self.engine.context} tokens has no room for a conversation"
            )
        place = frame.index(tokenizer.special("<|im_end|>"))
        return frame[1:place] + ids[left_out:] + frame[place:], left_out

    def _closing(self) -> list[int]:
        """What follows an answer, however it ended."""
        return [self.loaded.tokenizer.special("<|im_end|>"), *self.loaded.tokenizer.encode("\n")]


class Screen:
    """Where answers appear. Model text is text: nothing in it can steer the terminal."""

    def __init__(self, show_tools: bool) -> None:
        self.terminal, self.show_tools = sys.stdout.isatty(), show_tools
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal that cannot spell a character shows ?
        self._kind: Kind = "text"

    def show(self, event: Event) -> None:
        """Prints one event; calculator calls as [12*7=84], dimmed, if they are wanted at all."""
        if event.text and (event.kind == "text" or self.show_tools):
            self._enter(event.kind)
            self._write(event.text)

    def end(self) -> None:
        """Ends an answer."""
        self._enter("text")
        print(flush=True)

    def _enter(self, kind: Kind) -> None:
        if kind != self._kind:
            mark = BRACKETS[self._kind, kind]
            self._kind = "tool"  # the marks are dim too
            self._write(mark)
            self._kind = kind

    def _write(self, text: str) -> None:
        if self.terminal:
            text = "".join("\N{REPLACEMENT CHARACTER}" if c in CONTROLS else c for c in text)
            if self._kind != "text":
                text = f"\x1b[2m{text}\x1b[0m"
        print(text, end="", flush=True)


def _print_answer(dialogue: Dialogue, text: str, screen: Screen) -> None:
    noted = False
    with contextlib.closing(dialogue.reply(text)) as events:
        for event in events:
            if dialogue.left_out and not noted:
                noted = True
                context, left_out = dialogue.engine.context, dialogue.left_out
                _note(f"the model's context holds {context} tokens: the oldest {left_out} were left out")
            screen.show(event)
    screen.end()


def _converse(dialogue: Dialogue) -> None:
    """Line by line until the input ends."""
    person = sys.stdin.isatty()
    if person:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  (line editing and history; absent on some systems)
        kind = "It answers" if dialogue.loaded.chat else "It continues what you type"
        _note(f"{dialogue.loaded.source}, temperature {dialogue.sampling.temperature:g}. {kind}; /help lists commands.")
    screen = Screen(show_tools=True)
    while True:
        try:
            line = input("> " if person else "")
        except EOFError:
            if person:
                print()
            return
        except KeyboardInterrupt:
            print()
            if person:
                continue
            raise
        if not line.strip():
            continue
        try:
            if line.startswith("/"):
                if not _command(dialogue, line):
                    return
            else:
                _print_answer(dialogue, line, screen)
        except UserError as error:
            _note(str(error))
        except KeyboardInterrupt:
            screen.end()
            if not person:
                raise


def _command(dialogue: Dialogue, line: str) -> bool:
    """Does what a line that starts with "/" says; False to leave."""
    name, _, value = line.partition(" ")
    if name == "/quit":
        return False
    if name == "/help":
        _note(HELP)
    elif name == "/reset":
        dialogue.reset()
        _note("forgotten")
    elif name == "/temperature":
        try:
            dialogue.sampling = dataclasses.replace(dialogue.sampling, temperature=float(value))
        except ValueError:
            raise UserError(f"/temperature {value}: give a number, such as /temperature 0.7") from None
    else:
        raise UserError(f"{name}: no such command; /help lists them")
    return True


def _note(text: str) -> None:
    """What vnc itself has to say goes to stderr, so that a pipe holds answers only."""
    print(text, file=sys.stderr, flush=True)
