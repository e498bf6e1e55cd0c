"""An answer with each token shaded by the model's surprise at it; pointing at one, or tapping it, shows what else the
model could have said. The numbers are token_scores.py's; the text is escaped like all model text (text_view.py)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from streamlit_app.text_view import escaped
from streamlit_app.token_scores import TokenScore

ALTERNATIVES = 5
SHOWN = 1000  # tokens: beyond it the page itself would become slow
STRONGEST_BITS = 10.0  # from here on the shade stays the same


def token_html(scores: Sequence[TokenScore]) -> str:
    """HTML of the shaded tokens, of which at most SHOWN are shown."""
    return f'<div class="vnc-tokens">{"".join(map(_token, scores[:SHOWN]))}</div>'


def legend_html() -> str:
    """HTML that explains the shades."""
    return (
        '<div class="vnc-note">0 bits, certain<span class="vnc-legend"></span>'
        f"{STRONGEST_BITS:g} bits and more, a surprise. Point at a token, or tap it, for what else could have come."
        "</div>"
    )


def summary(scores: Sequence[TokenScore]) -> str:
    """One line about the tokens that the model said: how many, how surprising, how often the likeliest one."""
    said = [score for score in scores if score.kind != "output"]
    if not said:
        return "nothing was said"
    bits = sum(score.bits for score in said)
    likeliest = sum(score.rank == 1 for score in said)
    cut = f"; the first {SHOWN:,} are shown" if len(scores) > SHOWN else ""
    return (
        f"{len(said):,} tokens, {bits:.1f} bits in all, {bits / len(said):.2f} bits a token; "
        f"{likeliest / len(said):.0%} were the likeliest{cut}"
    )


def shade(bits: float) -> float:
    """Opacity of a token's background: 0 to 0.65."""
    return 0.65 * min(max(bits, 0.0), STRONGEST_BITS) / STRONGEST_BITS


def _token(score: TokenScore) -> str:
    if score.kind == "output":
        return f'<span class="vnc-tool" title="the calculator said this">{_visible(score.text)}</span>'
    rows = "".join(_choice(each.text, each.probability, came=each.text == score.text) for each in score.alternatives)
    if all(each.text != score.text for each in score.alternatives):
        rows += _choice(score.text, score.probability, came=True)
    bits = "∞" if math.isinf(score.bits) else f"{score.bits:.2f}"
    head = f"probability {_percent(score.probability)}, {bits} bits, choice {score.rank:,}"
    return (
        f'<span class="vnc-token" tabindex="0" style="background: rgba(234, 88, 12, {shade(score.bits):.3f})">'
        f'{_visible(score.text)}<span class="vnc-choices"><span>{head}</span>{rows}</span></span>'
    )


def _choice(text: str, probability: float, came: bool) -> str:
    width = max(1, round(100 * probability))
    return (
        f'<span class="vnc-choice{" vnc-came" if came else ""}"><code>{escaped(_one_line(text))}</code>'
        f'<span>{_percent(probability)}</span><span class="vnc-bar" style="width: {width}%"></span></span>'
    )


def _visible(text: str) -> str:
    """A token in the running text: line ends can be seen, and pointed at."""
    return escaped(text).replace("\n", '<span class="vnc-end">↵</span>\n')


def _one_line(text: str) -> str:
    """A token by itself: white space as signs."""
    return text.replace("\n", "↵").replace("\t", "⇥").replace(" ", "␣") or "(nothing)"


def _percent(probability: float) -> str:
    return f"{probability:.1%}" if probability >= 0.001 else f"{probability:.1e}"
