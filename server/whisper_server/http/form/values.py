"""The text of a form field to its value; each of these raises ValueError("must be ...") for what makes no sense."""

import itertools
import math
import re
from collections.abc import Callable

from whisper_server.languages import code_of

MAX_LIST = 1000
TEXT_TOKENS = 50256
"""Below it there are none of the control tokens, in any model."""


def boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError("must be true or false")
    return text.lower() in ("true", "1")


def number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return value

    return parse


def whole_number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,10}", text) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


def or_none(parse: Callable[[str], float]) -> Callable[[str], float | None]:
    return lambda text: None if text.lower() in ("none", "null") else parse(text)


def one_of(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text == "diarized_json":
            raise ValueError(
                f"diarized_json is not served: speakers are not told apart; use one of {', '.join(allowed)}"
            )
        if text not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return text

    return parse


def language(text: str) -> str:
    """A code, or "auto": to be detected."""
    code = "auto" if text.strip().lower() == "auto" else code_of(text)
    if code is None:
        raise ValueError(
            "must be a language that Whisper knows, as a code or name such as en or German; or auto"
        )
    return code


def chunking(text: str) -> str:
    if text != "auto":
        raise ValueError(
            "must be auto; for cuts at silences that follow from the audio, use vad=true and parallel=true"
        )
    return text


def granularities(text: str) -> list[str]:
    """Several may come in one field, also as a list of JSON."""
    chosen = re.findall(r"[^\s,\[\]\"']+", text)
    if not chosen or not {"word", "segment"}.issuperset(chosen):
        raise ValueError("must be word or segment")
    return chosen


def spans(text: str) -> tuple[float, ...]:
    parts = [part.strip() for part in text.split(",")]
    times = [float(part) if re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,6})?", part) else math.nan for part in parts]
    # A span may begin where the one before it ends.
    rising = all(
        early < late or (early == late and number % 2 == 1)
        for number, (early, late) in enumerate(itertools.pairwise(times))
    )
    if len(times) > MAX_LIST or any(map(math.isnan, times)) or not rising:
        raise ValueError(
            f"must be rising seconds, start,end,start,end,... like 0,12.5,60; at most {MAX_LIST} of them"
        )
    return tuple(times)


def tokens(text: str) -> tuple[int, ...]:
    parts = [] if text.lower() in ("none", "null") else [part.strip() for part in text.split(",")]
    valid = all(re.fullmatch("-1|[0-9]{1,6}", part) and int(part) < TEXT_TOKENS for part in parts)
    if len(parts) > MAX_LIST or not valid:
        raise ValueError(
            f"must be numbers of text tokens like -1,220,50, below {TEXT_TOKENS}; at most {MAX_LIST} of them"
        )
    return tuple(map(int, parts))
