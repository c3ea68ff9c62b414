"""Segments become deltas that, joined, are the text."""

import pytest
from whisper_server.engine.tokens import tokenizer_of
from whisper_server.transcribe.stream import Assembly
from whisper_server.transcribe.transcript import Segment

from tests.server.driving import INFO


def segment(tokens: list[int]) -> Segment:
    return Segment(
        id=0, seek=0, start=0, end=1, text="", tokens=tuple(tokens), temperature=0,
        avg_logprob=0, compression_ratio=1, no_speech_prob=0,
    )  # fmt: skip


@pytest.mark.parametrize("text", [" déjà vu — 日本語 🙂 ", "  a\n\n b  ", "", "   "])
def test_text_is_told_byte_for_byte_wherever_it_is_cut(text: str) -> None:
    tokens = tokenizer_of(INFO).encode(text)
    for cut in range(len(tokens) + 1):
        assembly = Assembly(tokenizer_of(INFO), with_words=False)
        deltas = [assembly.add([segment(part)]).delta for part in (tokens[:cut], tokens[cut:])]
        last, transcript = assembly.finish("en", 1.0)
        deltas += [last.delta] if last else []
        assert "".join(deltas) == transcript.text == text.strip()


def test_half_a_character_at_the_end_is_told_as_the_tokenizer_tells_it() -> None:
    tokens = tokenizer_of(INFO).encode("🙂")[:-1]
    assembly = Assembly(tokenizer_of(INFO), with_words=False)
    first = assembly.add([segment(tokens)])
    last, transcript = assembly.finish("en", 1.0)
    assert last is not None
    assert first.delta + last.delta == transcript.text == tokenizer_of(INFO).decode(tokens)
