"""Learning a vocabulary: byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909) on bytes, as GPT-2 does it.

Hugging Face `tokenizers` counts and merges; what leaves this file is a plain list of byte strings in merge order, which
is all that tiktoken needs to encode. The result depends on the text alone, not on threads or hash seeds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tokenizers import Regex, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as BPETokenizer

from vnc.errors import UserError

MIN_COUNT = 2  # a pair seen once is a quirk of one document, not a habit of the language
LONG_RUN = 1_000  # merging takes time quadratic in a piece's length; longer ones (base64, rulers) are cut

_long_run = re.compile(rf"\S{{{LONG_RUN}}}|\s{{{LONG_RUN}}}")


def learn_tokens(texts: Iterable[str], num_tokens: int, pattern: str) -> list[bytes]:
    """The 256 single bytes, then the most frequent merges inside the pieces that `pattern` splits the texts into.

    Returns `num_tokens` byte strings in rank order, or fewer when the texts hold no further pair twice. Equal counts
    are settled by the ids of the pair, so equal texts give equal tokens. Raises UserError for a text that is no string.
    """
    bpe = BPETokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=num_tokens,
        min_frequency=MIN_COUNT,
        special_tokens=[],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(_pieces(texts), trainer)
    by_rank = sorted(bpe.get_vocab().items(), key=lambda item: item[1])
    byte_of = _byte_of_character()
    tokens = [bytes(byte_of[character] for character in token) for token, _ in by_rank]
    return [bytes([byte]) for byte in range(256)] + [token for token in tokens if len(token) > 1]


def _pieces(texts: Iterable[str]) -> Iterator[str]:
    """The texts, cut where a run without (or of nothing but) white space reaches LONG_RUN characters."""
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(f"tokenizer: text number {index} is {type(text).__name__}, not a string")
        # as tiktoken does when it encodes: a surrogate pair becomes its character, a lone surrogate U+FFFD
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        start = 0
        for run in _long_run.finditer(text):
            yield text[start : run.end()]
            start = run.end()
        yield text[start:]


def _byte_of_character() -> dict[str, int]:
    """The inverse of the byte-to-character table of GPT-2's `encoder.py`, in which `tokenizers` spells its tokens:
    printable Latin-1 stands for itself, the other 68 bytes are U+0100 onwards in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = sorted(set(range(256)) - set(printable))
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(hidden)}
