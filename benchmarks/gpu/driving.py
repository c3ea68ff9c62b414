"""Drives many files through an engine as a server does, and counts what they cost."""

import gc
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from whisper_server.audio.mel import Spectrogram
from whisper_server.engine.checkpoint import Checkpoint
from whisper_server.engine.interface import Decoded, Encode, Engine, Request, Window
from whisper_server.engine.torch.engine import OpenAIWhisper
from whisper_server.engine.torch.load import make_engine
from whisper_server.transcribe.loop import Final, Gather, LanguageInfo, MelSegment, Release, Work, transcribe
from whisper_server.transcribe.options import Options
from whisper_server.transcribe.tally import Tally
from whisper_server.transcribe.transcript import Segment

File = tuple[Spectrogram, Options]


@dataclass
class Outcome:
    """Of some files that were transcribed together."""

    segments: list[list[Segment]]
    problems: list[str] = field(default_factory=list)
    """One of each file that was not."""
    seconds: float = 0.0
    audio_seconds: float = 0.0
    steps: int = 0
    windows: int = 0
    decodes: int = 0
    tokens: int = 0

    def texts(self) -> list[str]:
        """One of each file."""
        return ["".join(segment.text for segment in each) for each in self.segments]

    def figures(self) -> dict[str, float]:
        """Speed, and what it was the speed of."""
        return {
            "times_real_time": round(self.audio_seconds / self.seconds, 1),
            "windows_a_second": round(self.windows / self.seconds, 2),
            "windows": self.windows,
            "windows_a_file": round(self.windows / len(self.segments), 2),
            "tokens_a_window": round(self.tokens / max(1, self.windows), 1),
            "decodes_a_window": round(self.decodes / max(1, self.windows), 2),
            "ms_a_step": round(self.seconds / max(1, self.steps) * 1000, 2),
            "seconds": round(self.seconds, 2),
            "lost": len(self.problems),
        }


def run(engine: Engine, files: Sequence[File], at_once: int | None = None) -> Outcome:
    """Transcribe files, at most so many at a time. One that fails is counted, and the others go on."""
    outcome = Outcome([[] for _ in files], audio_seconds=sum(sound.frames for sound, _ in files) / 100)
    waiting: dict[int, tuple[int, Work, Request]] = {}
    held: list[list[Window]] = [[] for _ in files]
    tickets = itertools.count()
    todo = iter(enumerate(files))
    live = 0

    def resume(number: int, work: Work, answer: Any) -> bool:
        """Whether it waits for another answer."""
        try:
            while True:
                asked = work.throw(answer) if isinstance(answer, Exception) else work.send(answer)
                answer = None
                match asked:
                    case Release(window):
                        held[number].remove(window)
                        engine.release(window)
                    case Final(segments):
                        outcome.segments[number] += segments
                    case Gather():
                        raise NotImplementedError("files are transcribed in order here")
                    case MelSegment():
                        submit(number, work, Encode(mel=asked.cut()))
                        return True
                    case _:
                        submit(number, work, asked)
                        return True
        except StopIteration:
            return False
        except Exception as problem:
            outcome.problems.append(f"file {number}: {problem!r}"[:300])
            for window in held[number]:
                engine.release(window)
            return False

    def submit(number: int, work: Work, asked: Request) -> None:
        outcome.windows += isinstance(asked, Encode)
        ticket = next(tickets)
        waiting[ticket] = (number, work, asked)
        engine.submit(ticket, asked)

    synchronize()
    begin = time.perf_counter()
    while True:
        while at_once is None or live < at_once:
            number, file = next(todo, (None, None))
            if number is None or file is None:
                break
            live += resume(number, transcribe(file[0], engine.info, file[1], LanguageInfo(), Tally()), None)
        if not engine.busy():
            break
        for ticket, answer in engine.step():
            assert isinstance(ticket, int)  # noqa: S101  # they are ours
            if isinstance(answer, Decoded):
                outcome.tokens += len(answer.tokens)
                outcome.decodes += 1
            number, work, asked = waiting.pop(ticket)
            if isinstance(asked, Encode) and not isinstance(answer, Exception):
                held[number].append(answer)
            live -= not resume(number, work, answer)
        outcome.steps += 1
    synchronize()
    outcome.seconds = time.perf_counter() - begin
    outcome.problems += [f"file {number}: never answered" for number, *_ in waiting.values()]
    return outcome


def answers(engine: Engine, requests: Sequence[Request]) -> list[Any]:
    """Of requests made at once, all of which must succeed."""
    found: dict[Any, Any] = {}
    for number, request in enumerate(requests):
        engine.submit(number, request)
    while len(found) < len(requests):
        for ticket, answer in engine.step():
            if isinstance(answer, Exception):
                raise answer
            found[ticket] = answer
    return [found[number] for number in range(len(requests))]


def make(checkpoint: Checkpoint, dtype: str, device: str, **how: Any) -> OpenAIWhisper:
    """An engine, as large as fits or as `how` says."""
    full_precision(dtype == "float32")
    return make_engine(checkpoint, checkpoint.info("benchmark"), getattr(torch, dtype), device, **how)


def free() -> None:
    """Make room for the next engine, after the last one was forgotten."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def full_precision(wanted: bool) -> None:
    """Whether float32 means all of its bits, as in a server of that precision."""
    torch.backends.cuda.matmul.allow_tf32 = not wanted
    torch.backends.cudnn.allow_tf32 = not wanted


def synchronize() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
