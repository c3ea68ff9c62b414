"""A request from its headers to its line in the access log.

Both APIs do the same with it: let it in, take its files, decode them, have them transcribed.

A request that its client has given up is given up here as well: whoever waits for something asks every second.
"""

import re
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from flask import Request, g, request
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, ServiceUnavailable

from whisper_server.audio import ffmpeg
from whisper_server.audio.executor import Executor, Turn
from whisper_server.config import Settings
from whisper_server.engine.interface import SAMPLE_RATE, Samples
from whisper_server.http import connection, uploads
from whisper_server.http.address import address
from whisper_server.http.admission import MAX_RETRY_AFTER, Admission, Place
from whisper_server.http.connection import Watchdog
from whisper_server.http.errors import ClientGone, limit
from whisper_server.logs import ENVIRON
from whisper_server.metrics import Metrics
from whisper_server.scheduling.pace import TooMuchAudio
from whisper_server.scheduling.scheduler import Job, Scheduler
from whisper_server.transcribe.options import Options
from whisper_server.transcribe.tally import Tally
from whisper_server.transcribe.transcript import Transcript, Update

UPDATE_SECONDS = 1.0


@dataclass(kw_only=True)
class Call:
    """What is known of a call so far; times in seconds."""

    id: str
    client: str
    """Who calls: the name of the API key, or else an address. Clients take turns."""
    key: str | None = None
    """The name of the API key, if one is needed."""
    begin: float = field(default_factory=time.monotonic)
    audio_seconds: float = 0.0
    queue_seconds: float = 0.0
    decode_seconds: float = 0.0
    tally: Tally = field(default_factory=Tally)
    """Of all its files."""
    failed: int | None = None
    """The status that an answer should have had whose first part was sent already."""

    def values(self) -> dict[str, object]:
        """For the access log."""
        return {
            "request_id": self.id,
            "client": self.client,
            "audio_seconds": round(self.audio_seconds, 3),
            "queue_seconds": round(self.queue_seconds, 3),
            "decode_seconds": round(self.decode_seconds, 3),
            "windows": self.tally.windows,
            "tokens": self.tally.tokens,
            "fallbacks": self.tally.fallbacks.total(),
            "seconds": round(time.monotonic() - self.begin, 3),
            **({"failed": self.failed} if self.failed else {}),
        }

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.values().items())


def current() -> Call:
    """The call that this thread serves."""
    call: Call = g.call
    return call


def begin_call(request: Request, proxies: int) -> Call:
    """Make the call of a request that has just come in, and leave it where `current` and the access log find it."""
    g.call = call = Call(id=_id(request.headers.get("X-Request-Id", "")), client=address(request, proxies))
    request.environ[ENVIRON] = call
    return call


def _id(wanted: str) -> str:
    return wanted if re.fullmatch("[A-Za-z0-9._:-]{1,128}", wanted) else uuid.uuid4().hex


class Lifecycle:
    """The way of a request through the server, in steps."""

    def __init__(
        self,
        settings: Settings,
        scheduler: Scheduler,
        admission: Admission,
        metrics: Metrics,
        watchdog: Watchdog,
    ) -> None:
        self.settings = settings
        self.scheduler = scheduler
        self.admission = admission
        self._metrics = metrics
        self._watchdog = watchdog
        # Each takes a core, and memory for samples until they are counted. One more than that for who comes when one client
        # has them all, maybe for minutes.
        decoders = ffmpeg.usable_decoders()
        self._decoders: Executor[tuple[Samples, float]] = Executor("ffmpeg", decoders + 1, for_one=decoders)

    def admit(self) -> Place:
        """The first gate, from the headers; raises werkzeug's 413, 429 or 503."""
        length = request.content_length
        if (length or 0) > self.settings.max_upload_bytes:
            raise RequestEntityTooLarge(
                f"the request has {length} bytes; "
                f"this server takes {self.settings.max_upload_bytes} ({limit('WHISPER_MAX_UPLOAD_BYTES')})"
            )
        length = self.settings.max_upload_bytes if length is None else length
        return self.admission.admit(current().client, length)

    def receive(self, place: Place) -> None:
        """Read the body: form and files are in flask's `request` afterwards; raises werkzeug's 4xx."""
        body = uploads.read_body(request, self._watchdog, self._deadline(current()))
        place.resize(body.received)

    def decode(self, files: Sequence[FileStorage], place: Place) -> list[Samples]:
        """The samples of all files, before the first is transcribed: a bad one wastes no time of the device.

        The uploads are gone afterwards. Raises werkzeug's 400, 413, 429 or 503, and ClientGone.
        """
        call, turn, tracks = current(), self._turn(), list[Samples]()
        left = float(self.settings.max_audio_seconds)
        with _in_time(self.settings):
            for file in files:
                asked = time.monotonic()
                decode = partial(self._decode, file, left, len(files) > 1, place, turn)
                samples, seconds = self._decoders.run(decode, turn)
                file.close()
                tracks.append(samples)
                call.decode_seconds += seconds
                call.queue_seconds += time.monotonic() - asked - seconds
                call.audio_seconds += len(samples) / SAMPLE_RATE
                left -= len(samples) / SAMPLE_RATE
        place.resize(0)
        return tracks

    def submit(self, samples: Samples, options: Options) -> Job:
        """Begin to transcribe; the job is to be held in a with statement. Raises ClientGone, and werkzeug's 413 or 503."""
        with _in_time(self.settings):
            try:
                return self.scheduler.submit(samples, options, self._turn(), current().tally)
            except TooMuchAudio as problem:
                advice = (
                    f"{problem} of the {self.settings.request_timeout_seconds} that a request may take "
                    f"(WHISPER_REQUEST_TIMEOUT_SECONDS); send parts of at most {problem.fitting:.0f} seconds"
                )
                # Else it is what waited before this that left too little.
                if problem.alone and problem.needed > self.settings.request_timeout_seconds:
                    raise RequestEntityTooLarge(advice) from None
                advice += ", or try again when it is less busy"
                raise ServiceUnavailable(advice, retry_after=MAX_RETRY_AFTER) from None

    def updates(self, job: Job) -> Iterator[Update | None]:
        """The job's updates, or None about once a second; raises ClientGone, and werkzeug's 503 at the deadline."""
        connected = request.environ.get("gunicorn.socket")
        call, submitted, counted = current(), time.monotonic(), False
        with _in_time(self.settings):
            for update in job.updates(every=UPDATE_SECONDS):
                if connection.is_gone(connected):
                    raise ClientGone
                if job.started is not None and not counted:
                    counted = True
                    call.queue_seconds += max(0.0, job.started - submitted)
                yield update
            self._count(call, job)

    def wait(self, job: Job) -> Transcript:
        """The whole transcript; raises as `updates`."""
        for _ in self.updates(job):
            pass
        return job.transcript()

    def _count(self, call: Call, job: Job) -> None:
        seconds = job.transcript().duration
        self._metrics.audio_seconds.inc(seconds)
        self._metrics.client_audio_seconds.labels(client=call.key or "").inc(seconds)

    def _deadline(self, call: Call) -> float:
        return call.begin + self.settings.request_timeout_seconds

    def _turn(self) -> Turn:
        """Of the call that this thread serves, for threads that do not know it."""
        call, connected = current(), request.environ.get("gunicorn.socket")

        def check_cancelled() -> None:
            if connection.is_gone(connected):
                raise ClientGone

        return Turn(client=call.client, deadline=self._deadline(call), check_cancelled=check_cancelled)

    def _decode(
        self, file: FileStorage, left: float, several: bool, place: Place, turn: Turn
    ) -> tuple[Samples, float]:
        """A file's samples, and how many seconds that took."""
        begin = time.monotonic()
        try:
            with self._metrics.decode_seconds.time():
                samples = ffmpeg.decode(file.stream, left, turn.deadline, turn.check_cancelled)
            place.hold(len(samples) / SAMPLE_RATE)
            return samples, time.monotonic() - begin
        except ffmpeg.AudioError as problem:
            raise BadRequest(f"{file.filename or 'the file'}: {problem}") from None
        except ffmpeg.TooLongError as problem:
            rest = f" with the files before it: {problem}" if several else f": {problem}"
            raise RequestEntityTooLarge(
                f"{file.filename or 'the file'} is too long{rest}; "
                f"this server takes {self.settings.max_audio_seconds} seconds in one request "
                f"({limit('WHISPER_MAX_AUDIO_SECONDS')})"
            ) from None


@contextmanager
def _in_time(settings: Settings) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise ServiceUnavailable(
            f"not done within {settings.request_timeout_seconds} seconds, the limit of this server "
            f"({limit('WHISPER_REQUEST_TIMEOUT_SECONDS')}); "
            "send shorter audio, or try again when it is less busy",
            retry_after=30,
        ) from None
