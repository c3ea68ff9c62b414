"""Segments as they become final, put together to a transcript and to the text that a stream has told so far."""

import codecs
from collections.abc import Iterable
from dataclasses import replace

from whisper.tokenizer import Tokenizer

from whisper_server.transcribe.transcript import Segment, Transcript, Update


class Assembly:
    """One file's. The deltas joined are the text, byte for byte: a character may lie across two segments, and blanks at the end
    wait until something follows them."""

    def __init__(self, tokenizer: Tokenizer, *, with_words: bool) -> None:
        self._tokenizer = tokenizer
        self._with_words = with_words
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._blanks = ""
        self._text = ""
        self._segments: list[Segment] = []

    def add(self, segments: Iterable[Segment]) -> Update:
        """Take in what has become final; what that adds."""
        fresh = [
            replace(segment, id=number, words=segment.words if self._with_words else None)
            for number, segment in enumerate(segments, start=len(self._segments))
        ]
        self._segments += fresh
        tokens = [token for segment in fresh for token in segment.tokens]
        # As the tokenizer's own decode does, which drops timestamps.
        tokens = [token for token in tokens if token < self._tokenizer.timestamp_begin]
        delta = self._tell(self._decoder.decode(self._tokenizer.encoding.decode_bytes(tokens)))
        return Update(delta=delta, segments=tuple(fresh))

    def finish(self, language: str, duration: float) -> tuple[Update | None, Transcript]:
        """What was held back, if anything, and the whole."""
        delta = self._tell(self._decoder.decode(b"", final=True))
        last = Update(delta=delta, segments=()) if delta else None
        return last, Transcript(
            text=self._text, language=language, duration=duration, segments=tuple(self._segments)
        )

    def _tell(self, text: str) -> str:
        text = self._blanks + text
        told = text.rstrip()
        self._blanks = text[len(told) :]
        if not self._text:
            told = told.lstrip()
        self._text += told
        return told
