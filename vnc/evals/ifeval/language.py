"""Which language a response is in, by langdetect, which the official checker uses as well.

langdetect draws the parts of a text that it looks at. Here they are drawn with a fixed seed from a generator of its
own, and its profiles are loaded in a fixed order: the same text has the same language each time, on every machine, and
no random state of the program moves.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from vnc.errors import UserError

if TYPE_CHECKING:
    from langdetect import DetectorFactory

SEED = 0
WAY_OUT = "pip install 'vnc[ifeval]'"


@cache
def detectors() -> DetectorFactory:
    """langdetect with the profiles of its languages. UserError where it is not installed."""
    try:
        from langdetect import DetectorFactory
        from langdetect.detector_factory import PROFILES_DIRECTORY
    except ImportError as error:
        raise UserError(f"IFEval needs langdetect to tell the language of responses ({error}): {WAY_OUT}") from None
    factory = DetectorFactory()
    factory.load_json_profile(
        [path.read_text(encoding="utf-8") for path in sorted(Path(PROFILES_DIRECTORY).iterdir()) if path.is_file()]
    )
    factory.set_seed(SEED)
    return factory


def check_languages(codes: Iterable[str]) -> None:
    """UserError names the first code (such as "de") that the detector doesn't know, or that langdetect is missing."""
    for code in codes:
        if code not in (known := detectors().get_lang_list()):
            raise UserError(f"no response can be found to be in {code!r}: langdetect knows {', '.join(sorted(known))}")


def is_in(text: str, code: str) -> bool:
    """Is the text in the language `code`? A text without any feature, such as digits alone, passes for every language,
    as in the official checker."""
    detector = detectors().create()
    detector.append(text)
    from langdetect import LangDetectException

    try:
        return str(detector.detect()) == code
    except LangDetectException:  # its only cause here: nothing in the text that a language could be told by
        return True


def response_language(response: str, *, language: str) -> bool:
    """The language of the response as a whole, by ISO 639-1 code ("zh-cn" and "zh-tw" for Chinese)."""
    return is_in(response, language)
