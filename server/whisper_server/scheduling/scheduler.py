"""Brings files to the engine and their texts back.

Three kinds of threads meet here. Those that serve requests submit files and wait. The host thread drives the files' generators
(transcription.py): it knows files and no tensors. The device thread steps the engine (device.py): it knows windows and no files.
They talk in queues only.
"""

import itertools
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from whisper_server.audio.listening import Listening, Turn
from whisper_server.audio.mel import Spectrogram, spectrogram
from whisper_server.engine.interface import (
    SAMPLE_RATE,
    Align,
    Answer,
    Decode,
    Decoded,
    Encode,
    Engine,
    ModelInfo,
    Request,
    Samples,
    Ticket,
    Window,
)
from whisper_server.engine.tokens import tokenizer_of
from whisper_server.scheduling.engine_thread import EXIT_STATUS, Device
from whisper_server.scheduling.fair_queue import Turns
from whisper_server.scheduling.job import Job, Stopped
from whisper_server.transcribe.loop import Final, Heard, Release, Together, Work, transcribe
from whisper_server.transcribe.options import Options
from whisper_server.transcribe.stream import Assembly
from whisper_server.transcribe.transcript import Segment

__all__ = ["EXIT_STATUS", "Job", "Scheduler", "Stopped"]

log = logging.getLogger(__name__)

WINDOW_COST = 24
"""What encoding a window counts beside its tokens, in tokens."""
GIVEN_UP_COST = 24
"""What each row counts of a text that nobody waited for, in tokens: about a usual one, as nobody knows how far it came."""


@dataclass(eq=False)
class _Track:
    """A generator under way."""

    file: "_File"
    work: Work
    asked: Ticket | None = None
    """The ticket of the request that it waits for."""
    windows: list[Window] = field(default_factory=list)
    """Those that it holds."""
    segments: list[Segment] = field(default_factory=list)
    """Final ones that may not be told before those of earlier tracks."""
    over: bool = False


@dataclass(eq=False)
class _File:
    """A job under way."""

    job: Job
    client: str
    sound: Spectrogram
    duration: float
    options: Options
    heard: Heard = field(default_factory=Heard)
    assembly: Assembly | None = None
    root: _Track | None = None
    parts: list[_Track] = field(default_factory=list)
    """Tracks that run side by side, in the order of the file; the root waits for them."""

    def tracks(self) -> list[_Track]:
        return [*([self.root] if self.root else []), *self.parts]

    def leave(self) -> None:
        """It is over: without its tracks, which know it, it is gone when nobody holds it, however rarely garbage is collected."""
        self.root, self.parts = None, []


_News = _File | Job | list[tuple[Ticket, Answer]]
"""For the host thread: a new file, a job that was cancelled, answers."""


class Scheduler:
    """What the API needs of all that lies behind it."""

    def __init__(self, load: Callable[[], Engine]) -> None:
        self._device = Device(load, self._loaded, lambda answers: self._inbox.put(answers))
        self._inbox: queue.SimpleQueue[_News] = queue.SimpleQueue()
        self._listening: Listening[Spectrogram] = Listening("spectrogram")
        # Apart, as it takes several times as long, and few ask for it.
        self._hearing: Listening[Options] = Listening("voices")
        self._ready = threading.Event()
        self.info: ModelInfo | None = None
        """Of the loaded model; None before that."""
        self._encodes_ahead = 0
        """How many windows may wait inside the engine: enough to keep it busy, few enough to leave the choice to us."""
        self._files: dict[Job, _File] = {}
        self._tickets = itertools.count()
        self._asked: dict[Ticket, tuple[_Track, Request]] = {}
        self._given_up: set[Ticket] = set()
        """Encodes whose window nobody waits for, but which may come before the cancellation is confirmed."""
        self._to_encode: Turns[tuple[_Track, Encode]] = Turns()
        self._encoding = 0

    def start(self) -> None:
        """Begin to load; returns at once."""
        threading.Thread(target=self._run, name="host", daemon=True).start()
        self._device.start()

    def is_ready(self) -> bool:
        """Whether the model is loaded and warm."""
        return self._ready.is_set()

    def submit(
        self,
        samples: Samples,
        options: Options,
        *,
        client: str,
        deadline: float,
        look_up: Callable[[], None] = lambda: None,
    ) -> Job:
        """Begin to transcribe a file: clients take turns by what they have used. `deadline` is a time.monotonic().

        Computes the file's spectrogram first, which takes about a millisecond for each second of audio, and several for one in
        which voices are looked for. Call it when ready. Raises Stopped, and what `look_up` raises, which is called every second.
        """
        if self.info is None:
            raise RuntimeError("the model is not loaded yet")
        n_mels, duration = self.info.n_mels, len(samples) / SAMPLE_RATE
        turn = Turn(client=client, seconds=duration, deadline=deadline, look_up=look_up)
        if (options.vad or options.parallel) and not options.clip_timestamps:
            options = self._hearing.do(partial(_cut_by_voice, samples, options), turn)
        sound = self._listening.do(partial(spectrogram, samples, n_mels), turn)
        job = Job(deadline, cancel=self._inbox.put)
        self._inbox.put(_File(job, client, sound, duration, options))
        return job

    def _loaded(self, engine: Engine) -> None:
        self.info = engine.info
        self._encodes_ahead = max(2, engine.windows // 4)
        self._ready.set()

    def _run(self) -> None:
        try:
            while True:
                self._handle(self._inbox.get())
                self._feed()
        except BaseException:
            log.critical("the host thread died, ending", exc_info=True)
        os._exit(EXIT_STATUS)

    def _handle(self, news: _News) -> None:
        match news:
            case _File():
                self._begin(news)
            case Job():
                self._stop(news)
            case _:
                for ticket, answer in news:
                    self._take(ticket, answer)

    def _begin(self, file: _File) -> None:
        assert self.info is not None  # noqa: S101  # submit() saw to it
        self._files[file.job] = file
        # Of every language the same; only its special tokens matter here.
        file.assembly = Assembly(tokenizer_of(self.info), with_words=file.options.word_timestamps)
        file.root = _Track(file, transcribe(file.sound, self.info, file.options, file.heard))
        self._resume(file.root, None)

    def _resume(self, track: _Track, answer: Answer) -> None:
        """Let a generator go on with the answer, until it waits for the next one or ends."""
        file = track.file
        if file.job.is_late():
            self._fail(file, Stopped("the deadline has passed"))
            return
        try:
            while True:
                asked = track.work.throw(answer) if isinstance(answer, Exception) else track.work.send(answer)
                answer = None
                match asked:
                    case Release(window):
                        track.windows.remove(window)
                        self._device.release(window)
                    case Final(segments):
                        track.segments += segments
                        self._tell(file)
                    case Together(parts):
                        file.parts = [_Track(file, work) for work in parts]
                        for part in list(file.parts):
                            if file.job in self._files:
                                self._resume(part, None)
                        return
                    case Encode():
                        self._to_encode.push(file.client, file.job, (track, asked))
                        return
                    case _:
                        self._ask(track, asked)
                        return
        except StopIteration:
            track.over = True
            self._tell(file)
            self._go_on(file)
        except Exception as problem:
            # An answer was raised nowhere before; its traceback would keep these frames, which keep the answer and the file.
            self._fail(file, problem.with_traceback(None) if problem is answer else problem)

    def _go_on(self, file: _File) -> None:
        """After the end of a track: resume the root when its parts are done, and end the file when the root is."""
        if file.root is None or not all(part.over for part in file.parts):
            return
        if not file.root.over:
            self._resume(file.root, None)
            return
        if file.assembly is not None and self._files.pop(file.job, None) is not None:
            file.leave()
            last, transcript = file.assembly.finish(file.heard.language or "en", file.duration)
            if last is not None:
                file.job.tell(last)
            file.job.tell(transcript)

    def _tell(self, file: _File) -> None:
        """Pass on what is final, in the order of the file: of parts side by side, the first that is not over is the last told."""
        for track in file.tracks():
            if track.segments and file.assembly is not None:
                file.job.tell(file.assembly.add(track.segments))
                track.segments = []
            if track is not file.root and not track.over:
                break

    def _ask(self, track: _Track, request: Request) -> None:
        ticket = track.asked = next(self._tickets)
        self._asked[ticket] = (track, request)
        self._device.submit(ticket, request)

    def _take(self, ticket: Ticket, answer: Answer) -> None:
        """An answer has come."""
        if ticket not in self._asked:
            if ticket in self._given_up:
                self._given_up.remove(ticket)
                if answer is not None and not isinstance(answer, Exception):
                    self._device.release(answer)
            return
        track, request = self._asked.pop(ticket)
        track.asked = None
        if isinstance(request, Encode):
            self._encoding -= 1
            if not isinstance(answer, Exception):
                track.windows.append(answer)
        elif isinstance(request, Decode) and isinstance(answer, Decoded):
            self._to_encode.charge(track.file.client, request.rows * len(answer.tokens))
        elif isinstance(request, Align):
            # All of them in one pass, which on a CPU costs about what decoding them beside other rows does.
            self._to_encode.charge(track.file.client, len(request.text_tokens))
        self._resume(track, answer)

    def _feed(self) -> None:
        """Hand the engine windows to encode, fairly chosen."""
        while self._encoding < self._encodes_ahead and len(self._to_encode):
            track, request = self._to_encode.pop()
            self._encoding += 1
            self._to_encode.charge(track.file.client, WINDOW_COST)
            if track.file.job.started is None:
                track.file.job.started = time.monotonic()
            self._ask(track, request)

    def _stop(self, job: Job) -> None:
        if job in self._files:
            self._fail(self._files[job], Stopped("cancelled"))

    def _fail(self, file: _File, problem: Exception) -> None:
        """End a file early, and give back all that it has of the engine."""
        if self._files.pop(file.job, None) is None:
            return
        self._to_encode.discard(file.job)
        for track in file.tracks():
            if track.asked is not None:
                _, request = self._asked.pop(track.asked)
                if isinstance(request, Encode):
                    self._encoding -= 1
                    self._given_up.add(track.asked)
                elif isinstance(request, Decode):
                    self._to_encode.charge(file.client, request.rows * GIVEN_UP_COST)
                self._device.cancel(track.asked)
            for window in track.windows:
                self._device.release(window)
            track.windows = []
            track.over = True
        file.leave()
        file.job.tell(problem)


def _cut_by_voice(samples: Samples, options: Options) -> Options:
    """The options with the spans in which a voice is heard."""
    from whisper_server.audio import vad  # with a model and a runtime of its own, which few requests need

    spans = vad.spans(samples)
    # A span of no length, where there is none: no spans at all would mean the whole file.
    times = tuple(time for span in spans for time in span) or (0.0, 0.0)
    return replace(options, clip_timestamps=times)
