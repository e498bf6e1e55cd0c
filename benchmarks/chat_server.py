"""How soon the app answers and how fast, with 1 and with 8 sessions asking at the same moment.

    python benchmarks/chat_server.py runs/tiny_chat/checkpoints/last
    python benchmarks/chat_server.py runs/tiny_chat/checkpoints/last --rounds 5 --max_tokens 128

The server of the app's chat page without its pages (streamlit_app/chat_server.py). For each number of sessions: the
time from the question to the first token, the tokens a second that one session sees, and those of all together; median
of the rounds and their range. The prompts differ, so that no two sessions say the same.
"""

from __future__ import annotations

import argparse
import os
import statistics
import threading
from pathlib import Path

from streamlit_app.answers import Answer
from streamlit_app.chat_server import ChatServer, Question
from streamlit_app.model_shelf import SharedModel
from vnc.checkpoint import resolve
from vnc.memory import keep_freed_memory
from vnc.sampling import Sampling


def ask(server: ChatServer, model: SharedModel, session: str, text: str, max_tokens: int) -> Answer:
    question = Question(session, 0, text, sampling=Sampling(1.0, seed=len(text)), max_tokens=max_tokens)
    answer = server.ask(model, question)
    while answer.finish is None:
        answer.wait(max_tokens, 1.0)
    return answer


def measure(server: ChatServer, model: SharedModel, sessions: int, max_tokens: int) -> tuple[float, float, float]:
    """(seconds to the first token, tokens/s of a session, tokens/s of all), the slowest session's and the sum."""
    answers: list[Answer] = []

    def one(number: int) -> None:
        text = "Tell me a story about the river, please" + "." * number
        answers.append(ask(server, model, f"session {number}", text, max_tokens))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(sessions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    speeds = [each.tokens_per_second or 0.0 for each in answers]
    return max(each.first_token_seconds or 0.0 for each in answers), min(speeds), sum(speeds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max_tokens", type=int, default=128)
    options = parser.parse_args()
    keep_freed_memory()
    server = ChatServer()
    folder = resolve(options.checkpoint).resolve()
    model = server.open(folder.parent, folder.name)
    ask(server, model, "warm-up", "Hello", 16)
    for sessions in (1, 8):
        rounds = [measure(server, model, sessions, options.max_tokens) for _ in range(options.rounds)]
        first, each, together = ([round_[column] for round_ in rounds] for column in range(3))
        print(f"{sessions} sessions, load {os.getloadavg()[0]:.1f}: first token after {_spread(first, 1000)} ms, "
              f"{_spread(each)} tokens/s each (the slowest), {_spread(together)} together")  # fmt: skip
    server.close()


def _spread(values: list[float], scale: float = 1.0) -> str:
    ordered = sorted(value * scale for value in values)
    return f"{statistics.median(ordered):.0f} ({ordered[0]:.0f} to {ordered[-1]:.0f})"


if __name__ == "__main__":
    main()
