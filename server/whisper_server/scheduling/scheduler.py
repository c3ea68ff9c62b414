"""Brings files to the engine and their texts back.

Three kinds of threads meet here. Those that serve requests submit files and wait. The host thread drives the files' generators
(transcribe/loop.py): it knows files and no tensors. The engine's thread steps the engine (engine_thread.py): it knows windows and
no files. They talk in queues only.
"""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from whisper_server.audio.executor import Executor, Turn
from whisper_server.audio.mel import Spectrogram, spectrogram
from whisper_server.engine.interface import SAMPLE_RATE, Answer, Engine, ModelInfo, Samples, Stats, Ticket
from whisper_server.engine.tokens import tokenizer_of
from whisper_server.scheduling.dispatcher import Dispatcher
from whisper_server.scheduling.engine_thread import EXIT_STATUS, EngineThread
from whisper_server.scheduling.file import File, Track
from whisper_server.scheduling.job import Job, Stopped
from whisper_server.scheduling.pace import TooMuchAudio
from whisper_server.scheduling.stall import Watch
from whisper_server.transcribe.loop import Final, Gather, Release, transcribe
from whisper_server.transcribe.options import Options
from whisper_server.transcribe.stream import Assembly
from whisper_server.transcribe.tally import Tally

__all__ = ["EXIT_STATUS", "Job", "Scheduler", "Stopped"]

log = logging.getLogger(__name__)

_News = File | Job | list[tuple[Ticket, Answer]]
"""For the host thread: a new file, a job that was cancelled, answers."""


class Scheduler:
    """What the API needs of all that lies behind it."""

    def __init__(self, load: Callable[[], Engine], stall_seconds: float = 300) -> None:
        """`stall_seconds`: how long work may wait while nothing is computed until the device counts as hanging."""
        self._inbox: queue.SimpleQueue[_News] = queue.SimpleQueue()
        self._engine = EngineThread(load, self._loaded, self._inbox.put)
        self._dispatcher = Dispatcher(self._engine)
        self._spectrograms: Executor[Spectrogram] = Executor("spectrogram")
        # Apart, as it takes several times as long, and few ask for it.
        self._voices: Executor[Options] = Executor("voices")
        self._ready = threading.Event()
        self.info: ModelInfo | None = None
        """Of the loaded model; None before that."""
        self._files: dict[Job, File] = {}
        self.stats = Stats()
        """Of the loaded engine."""
        self._places: Callable[[], int] = lambda: 0
        self.tally = Tally()
        """Of all files."""
        self._watch = Watch(
            lambda: bool(self._files) or self._engine.is_asked(), lambda: self.stats.rounds, stall_seconds
        )

    def start(self) -> None:
        """Begin to load; returns at once."""
        threading.Thread(target=self._run, name="host", daemon=True).start()
        self._engine.start()
        self._watch.start()

    def is_stalled(self) -> bool:
        """Whether the device hangs."""
        return self._watch.stalled

    @property
    def windows(self) -> int:
        """For how many the engine has places; 0 before it is loaded."""
        return self._places()

    @property
    def windows_waiting(self) -> int:
        """How many wait for their turn to be encoded."""
        return self._dispatcher.waiting()

    def is_ready(self) -> bool:
        """Whether the model is loaded and warm."""
        return self._ready.is_set()

    def submit(self, samples: Samples, options: Options, turn: Turn, tally: Tally | None = None) -> Job:
        """Begin to transcribe a file: clients take turns by what they have used. What it takes is counted in `tally`
        and in ours.

        Computes the file's spectrogram first, which takes about a millisecond for each second of audio, and several for one in
        which voices are looked for. Call it when ready. Raises TooMuchAudio, TimeoutError at the turn's deadline,
        and what its `check_cancelled` raises.
        """
        if self.info is None:
            raise RuntimeError("the model is not loaded yet")
        n_mels, duration = self.info.n_mels, len(samples) / SAMPLE_RATE
        if (options.vad or options.parallel) and not options.clip_timestamps:
            options = self._voices.run(partial(_cut_by_voice, samples, options), turn)
        self._check_in_time(options, duration, turn.deadline)
        sound = self._spectrograms.run(partial(spectrogram, samples, n_mels), turn)
        job = Job(turn.deadline, cancel=self._inbox.put)
        tally = tally or Tally()
        tally.total = self.tally
        self._inbox.put(File(job, turn.client, sound, duration, options, tally))
        return job

    def _check_in_time(self, options: Options, duration: float, deadline: float) -> None:
        """Raise TooMuchAudio for what would take longer than is left, as fast as the device has been."""
        pace, company, left = (
            self._dispatcher.pace,
            self._dispatcher.on_device + 1,
            deadline - time.monotonic(),
        )
        audio = _selected(options.clip_timestamps, duration)
        needed = pace.needed_side_by_side(audio) if options.parallel else pace.needed(audio, company)
        if needed is not None and needed > left:
            raise TooMuchAudio(audio, needed, left, alone=company == 1)

    def _loaded(self, engine: Engine) -> None:
        self.info, self.stats = engine.info, engine.stats
        self._places = lambda: engine.windows
        self._dispatcher.encodes_ahead = max(2, engine.windows // 4)
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
        """Whatever goes wrong with one file ends that file, and nothing else."""
        match news:
            case File():
                try:
                    self._begin(news)
                except Exception as problem:
                    self._fail(news, problem)
            case Job():
                if news in self._files:
                    self._fail(self._files[news], Stopped("cancelled"))
            case _:
                for ticket, answer in news:
                    if track := self._dispatcher.answered(ticket, answer):
                        self._resume(track, answer)

    def _begin(self, file: File) -> None:
        assert self.info is not None  # noqa: S101  # submit() saw to it
        self._files[file.job] = file
        # Of every language the same; only its special tokens matter here.
        file.assembly = Assembly(tokenizer_of(self.info), with_words=file.options.word_timestamps)
        file.root = Track(file, transcribe(file.sound, self.info, file.options, file.language, file.tally))
        self._resume(file.root, None)

    def _resume(self, track: Track, answer: Answer) -> None:
        """Let a generator go on with the answer, until it waits for the next one or ends."""
        try:
            self._drive(track, answer)
        except Exception as problem:
            # An answer was raised nowhere before; its traceback would keep these frames, which keep the answer and the file.
            self._fail(track.file, problem.with_traceback(None) if problem is answer else problem)

    def _drive(self, track: Track, answer: Answer) -> None:
        file = track.file
        if file.job.is_late():
            raise Stopped("the deadline has passed")
        while True:
            try:
                asked = track.work.throw(answer) if isinstance(answer, Exception) else track.work.send(answer)
            except StopIteration:
                track.over = True
                file.tell()
                self._go_on(file)
                return
            answer = None
            match asked:
                case Release(window, heard):
                    self._dispatcher.release(track, window, heard)
                case Final(segments):
                    track.segments += segments
                    file.tell()
                case Gather(parts):
                    file.parts = [Track(file, work) for work in parts]
                    for part in list(file.parts):
                        if file.job in self._files:
                            self._resume(part, None)
                    return
                case _:
                    self._dispatcher.ask(track, asked)
                    return

    def _feed(self) -> None:
        """Hand the engine the windows that it wants."""
        while (chosen := self._dispatcher.next_to_encode()) is not None:
            track, segment = chosen
            try:
                self._dispatcher.encode(track, segment.cut())
            except Exception as problem:
                self._fail(track.file, problem)

    def _go_on(self, file: File) -> None:
        """After the end of a track: resume the root when its parts are done, and end the file when the root is."""
        if file.root is None or not all(part.over for part in file.parts):
            return
        if not file.root.over:
            self._resume(file.root, None)
        elif file.job in self._files:
            file.finish()
            del self._files[file.job]
            file.leave()

    def _fail(self, file: File, problem: Exception) -> None:
        """End a file early, and give back all that it has of the engine."""
        if self._files.pop(file.job, None) is None:
            return
        self._dispatcher.drop(file)
        file.leave()
        file.job.tell(problem)


def _selected(clip_timestamps: Sequence[float], duration: float) -> float:
    """How many seconds of a file are to be transcribed."""
    times = [min(time, duration) for time in clip_timestamps] or [0.0]
    ends = [*times[1::2], *([duration] if len(times) % 2 else [])]
    return sum(ends) - sum(times[::2])


def _cut_by_voice(samples: Samples, options: Options) -> Options:
    """The options with the spans in which a voice is heard."""
    from whisper_server.audio import vad  # with a model and a runtime of its own, which few requests need

    spans = vad.spans(samples)
    # A span of no length, where there is none: no spans at all would mean the whole file.
    times = tuple(time for span in spans for time in span) or (0.0, 0.0)
    return replace(options, clip_timestamps=times)
