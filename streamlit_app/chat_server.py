"""One server of answers for all browser sessions: models are shared, what a session said to them is not.

Sessions take turns token by token (turns.py) on one thread. Each place of a session, one for each model that it talks
to side by side, keeps the cache of keys and values of its conversation, so that a further turn only reads what is new;
caches are found by session and used where their tokens begin the new prompt, and not otherwise. No Streamlit in here.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from streamlit_app.answers import Answer
from streamlit_app.checkpoints import locate
from streamlit_app.model_shelf import ModelShelf, SharedModel
from streamlit_app.prompts import Prompt, Turn, base_prompt, chat_prompt, room_for_prompt
from streamlit_app.token_scores import TokenScore, token_scores
from streamlit_app.turns import Turns
from vnc.cache import KVCache
from vnc.errors import UserError
from vnc.sampling import Sampling

MODELS = 3  # opened at once: two side by side, and the one before
PLACES = 16  # answers under way at once
WAITING = 64
PER_SESSION = 4  # answers and token views: two models side by side, and those that were just stopped
LONGEST_PROMPT = 100_000  # characters; what exceeds the context is left out anyway, and encoding it takes a while
LONGEST_ANSWER = 4096  # tokens
READ_AT_ONCE = 512  # tokens of a prompt in one step: others do not wait for the whole of a long one
IDLE_CACHE_BYTES = 2**30  # of conversations that nobody is being answered in


@dataclass(frozen=True)
class Question:
    """What a session asks at one of its places."""

    session: str
    place: int
    """0, or 1 for the model at the right."""
    text: str
    turns: tuple[Turn, ...] = ()
    """The conversation before; a base model, which continues each text by itself, ignores it."""
    system: str = ""
    sampling: Sampling = Sampling(temperature=0)
    max_tokens: int = 256


@dataclass
class _Held:
    """A cache between two turns of a conversation, and the tokens that it holds."""

    model: SharedModel
    ids: tuple[int, ...]
    cache: KVCache


class ChatServer:
    """Its methods may be called from any thread."""

    def __init__(self, shelf: ModelShelf | None = None, turns: Turns | None = None) -> None:
        self.shelf = shelf if shelf is not None else ModelShelf(MODELS)
        self.turns = turns if turns is not None else Turns(PLACES, WAITING, PER_SESSION)
        self._held: OrderedDict[tuple[str, int], _Held] = OrderedDict()
        self._lock = threading.Lock()  # of _held

    def open(self, runs: Path, name: str) -> SharedModel:
        """The model of the checkpoint `name` below `runs`, which may take seconds the first time: on the caller's
        thread, so that answers go on meanwhile. Raises UserError where it cannot be opened."""
        folder = runs / name
        return self.shelf.take(folder if folder in self.shelf else locate(runs, name), name)

    def ask(self, model: SharedModel, question: Question) -> Answer:
        """Begins an answer. Raises UserError for a prompt or a length beyond the limits, and where the queue is
        full."""
        if len(question.text) > LONGEST_PROMPT or len(question.system) > LONGEST_PROMPT:
            longest = max(len(question.text), len(question.system))
            raise UserError(f"a text of {longest:,} characters: more than {LONGEST_PROMPT:,} are not read; shorten it")
        if not 1 <= question.max_tokens <= LONGEST_ANSWER:
            raise UserError(f"an answer of {question.max_tokens} tokens: choose from 1 to {LONGEST_ANSWER}")
        answer = Answer(self._prompt(model, question))
        self.turns.submit(_Speaking(self, model, question, answer))
        return answer

    def score(
        self, model: SharedModel, session: str, prompt: Sequence[int], said: Sequence[int], alternatives: int
    ) -> Future[list[TokenScore]]:
        """How probable the model finds each token of `said` after `prompt` (token_scores.py)."""
        job = _Scoring(session, model, tuple(prompt), tuple(said), alternatives)
        self.turns.submit(job)
        return job.future

    def forget(self, session: str) -> None:
        """Drops what is kept of a session's conversations."""
        with self._lock:
            for key in [key for key in self._held if key[0] == session]:
                del self._held[key]

    @property
    def idle_cache_bytes(self) -> int:
        with self._lock:
            return sum(held.cache.nbytes for held in self._held.values())

    def close(self) -> None:
        self.turns.close()

    def _prompt(self, model: SharedModel, question: Question) -> Prompt:
        tokenizer, room = model.loaded.tokenizer, room_for_prompt(model.engine.context, question.max_tokens)
        if model.loaded.chat:
            return chat_prompt(question.system, question.turns, question.text, tokenizer, room)
        return base_prompt(question.text, tokenizer, room)

    def take_cache(self, model: SharedModel, question: Question, ids: tuple[int, ...]) -> KVCache:
        """The cache of the conversation that `ids` go on from, taken out, or an empty one."""
        with self._lock:
            held = self._held.pop((question.session, question.place), None)
        if held is not None and held.model is model and len(held.ids) < len(ids) and ids[: len(held.ids)] == held.ids:
            return held.cache
        return model.engine.new_cache(1)

    def keep_cache(self, model: SharedModel, question: Question, ids: tuple[int, ...], cache: KVCache) -> None:
        """For the next turn. The caches that were not used for longest make room."""
        with self._lock:
            self._held[question.session, question.place] = _Held(model, ids[: cache.lengths[0]], cache)
            self._held.move_to_end((question.session, question.place))
            total = sum(held.cache.nbytes for held in self._held.values())
            while total > IDLE_CACHE_BYTES and len(self._held) > 1:
                total -= self._held.popitem(last=False)[1].cache.nbytes


class _Speaking:
    """The job of an answer."""

    def __init__(self, server: ChatServer, model: SharedModel, question: Question, answer: Answer) -> None:
        self.session = question.session
        self._server, self._model, self._question, self._answer = server, model, question, answer
        self._ids = answer.prompt.ids

    def over(self) -> bool:
        return self._answer.unwanted()

    def ended(self, error: Exception | None) -> None:
        if error is None:
            self._answer.stop()  # unless it has ended by itself
        elif isinstance(error, UserError):
            self._answer.fail(str(error))
        else:
            kind = type(error).__name__
            self._answer.fail(f"the model failed ({kind}); the terminal that runs the app says more. Ask again.")

    def steps(self) -> Generator[None]:
        model, question, answer = self._model, self._question, self._answer
        cache = self._server.take_cache(model, question, self._ids)
        pending = list(self._ids[cache.lengths[0] :])
        while len(pending) > READ_AT_ONCE:
            model.engine.read(pending[:READ_AT_ONCE], cache)
            del pending[:READ_AT_ONCE]
            yield
        said: list[int] = []
        try:
            with contextlib.closing(
                model.engine.stream([pending], question.sampling, question.max_tokens, cache=cache)
            ) as events:
                for event in events:
                    if event.token is not None:
                        said.append(event.token)
                    answer.add(event)
                    yield
        except GeneratorExit:  # between two tokens: the cache is whole
            self._server.keep_cache(model, question, (*self._ids, *said), cache)
            raise
        self._server.keep_cache(model, question, (*self._ids, *said), cache)


class _Scoring:
    """The job of a token view."""

    def __init__(
        self, session: str, model: SharedModel, prompt: tuple[int, ...], said: tuple[int, ...], alternatives: int
    ) -> None:
        self.session, self._model, self._prompt, self._said = session, model, prompt, said
        self._alternatives = alternatives
        self.future: Future[list[TokenScore]] = Future()

    def over(self) -> bool:
        return False  # it is short, and its page waits for it

    def ended(self, error: Exception | None) -> None:
        if error is not None:
            self.future.set_exception(error)
        elif not self.future.done():
            self.future.cancel()  # the app is closing

    def steps(self) -> Generator[None]:
        scores: list[TokenScore] = []
        for part in token_scores(self._model.engine, self._prompt, self._said, self._alternatives):
            scores += part
            yield
        self.future.set_result(scores)
