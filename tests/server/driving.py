"""Drives files and windows through an engine without threads, and openai-whisper beside it as the reference."""

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import whisper
from torch import Tensor
from torch.nn import functional
from whisper.audio import load_audio
from whisper.decoding import (
    ApplyTimestampRules,
    BeamSearchDecoder,
    GreedyDecoder,
    MaximumLikelihoodRanker,
)
from whisper_server.audio.executor import Turn
from whisper_server.audio.mel import Spectrogram
from whisper_server.engine.checkpoint import Checkpoint
from whisper_server.engine.interface import Encode, Engine, ModelInfo, Samples
from whisper_server.transcribe.loop import Final, LanguageInfo, MelSegment, Release, Work, transcribe
from whisper_server.transcribe.options import Options
from whisper_server.transcribe.tally import Tally
from whisper_server.transcribe.transcript import Segment

INFO = ModelInfo(
    name="demo", n_mels=80, n_audio_ctx=1500, n_text_ctx=448, is_multilingual=True, num_languages=99
)
"""Of the demo model."""


def samples_of(path: Path) -> Samples:
    """A sound file as the engine takes it."""
    samples: Samples = (load_audio(str(path)) * 32768).round().astype(np.int16)
    return samples


def soon(seconds: float = 120) -> float:
    """A deadline."""
    return time.monotonic() + seconds


def turn_of(client: str, seconds: float = 120) -> Turn:
    """A turn of a client that waits so long."""
    return Turn(client=client, deadline=soon(seconds))


@dataclass
class Told:
    """What came of one file."""

    language: LanguageInfo = field(default_factory=LanguageInfo)
    segments: list[Segment] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)


def transcribe_all(engine: Engine, files: Sequence[tuple[Spectrogram, Options]]) -> list[Told]:
    """All files at once; nothing is left in the engine afterwards."""
    told = [Told() for _ in files]
    waiting: dict[int, tuple[int, Work]] = {}
    tickets = iter(range(10**9))

    def resume(number: int, work: Work, answer: Any) -> None:
        try:
            while True:
                asked = work.throw(answer) if isinstance(answer, Exception) else work.send(answer)
                answer = None
                if isinstance(asked, Release):
                    engine.release(asked.window)
                elif isinstance(asked, Final):
                    told[number].segments += asked.segments
                else:
                    ticket = next(tickets)
                    waiting[ticket] = (number, work)
                    assert not hasattr(asked, "parts")
                    engine.submit(ticket, Encode(mel=asked.cut()) if isinstance(asked, MelSegment) else asked)
                    return
        except StopIteration:
            return

    for number, (sound, options) in enumerate(files):
        resume(
            number, transcribe(sound, engine.info, options, told[number].language, told[number].tally), None
        )
    while engine.busy():
        for ticket, answer in engine.step():
            assert isinstance(ticket, int)
            resume(*waiting.pop(ticket), answer)
    assert not waiting
    return told


def reference_model(checkpoint: Checkpoint) -> Any:
    """openai-whisper's own model with the same weights, in float32."""
    model = whisper.model.Whisper(checkpoint.dims)
    model.load_state_dict({name: weight.float() for name, weight in checkpoint.state.items()})
    return model.eval()


@dataclass
class Margin:
    """How narrowly the closest of the reference's decisions was made: other shapes of matrix products change last bits, so
    that one made by less than 1e-4 may fall the other way."""

    least: float = float("inf")

    def note(self, value: float) -> None:
        self.least = min(self.least, abs(value))

    @property
    def is_clear(self) -> bool:
        return self.least > 1e-4


@contextmanager
def recorded_margin(patch: pytest.MonkeyPatch) -> Iterator[Margin]:
    """Watch openai-whisper decide: about tokens, timestamps, which beams to keep, and which text is the best of them."""
    margin = Margin()
    greedy, beam, rules = GreedyDecoder.update, BeamSearchDecoder.update, ApplyTimestampRules.apply
    rank = MaximumLikelihoodRanker.rank

    def watch_greedy(self: Any, tokens: Tensor, logits: Tensor, sums: Tensor) -> Any:
        # With noise it is not the likeliest that is taken, and a near draw is too rare to be waited for.
        if self.temperature == 0 and int(tokens[0, -1]) != self.eot:
            first, second = logits[0].topk(2).values.tolist()
            margin.note(first - second)
        return greedy(self, tokens, logits, sums)

    def watch_beam(self: Any, tokens: Tensor, logits: Tensor, sums: Tensor) -> Any:
        top = logits.float().log_softmax(-1).topk(self.beam_size + 1)
        totals = {}
        for row, (values, chosen) in enumerate(zip(top.values.tolist(), top.indices.tolist(), strict=True)):
            for value, token in zip(values, chosen, strict=True):
                totals[(*tokens[row].tolist(), token)] = float(sums[row]) + value
        ranked = sorted((score for score in totals.values() if score > float("-inf")), reverse=True)
        for first, second in itertools.pairwise(ranked[: 2 * self.beam_size + 1]):
            margin.note(first - second)
        return beam(self, tokens, logits, sums)

    def watch_rules(self: Any, logits: Tensor, tokens: Tensor) -> None:
        seen: list[Tensor] = []
        log_softmax = functional.log_softmax

        def watch(*args: Any, **kwargs: Any) -> Tensor:
            seen.append(log_softmax(*args, **kwargs))
            return seen[-1]

        with patch.context() as inner:
            inner.setattr(functional, "log_softmax", watch)
            rules(self, logits, tokens)
        begin = self.tokenizer.timestamp_begin
        for row in seen[0]:  # the rule about the timestamps' mass asked for them, once
            text, stamps = float(row[:begin].max()), float(row[begin:].logsumexp(-1))
            if text > float("-inf") and stamps > float("-inf"):
                margin.note(stamps - text)

    def watch_rank(self: Any, texts: list[list[Tensor]], sums: list[list[float]]) -> Any:
        for candidates, totals in zip(texts, sums, strict=True):
            penalties = [
                len(text) if self.length_penalty is None else ((5 + len(text)) / 6) ** self.length_penalty
                for text in candidates
            ]
            scores = [total / penalty for total, penalty in zip(totals, penalties, strict=True)]
            for first, second in itertools.pairwise(sorted(scores, reverse=True)[:2]):
                margin.note(first - second)
        return rank(self, texts, sums)

    with patch.context() as outer:
        outer.setattr(MaximumLikelihoodRanker, "rank", watch_rank)
        outer.setattr(GreedyDecoder, "update", watch_greedy)
        outer.setattr(BeamSearchDecoder, "update", watch_beam)
        outer.setattr(ApplyTimestampRules, "apply", watch_rules)
        yield margin
