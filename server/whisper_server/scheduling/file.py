"""A file under way, as the host thread sees it."""

from dataclasses import dataclass, field

from whisper_server.audio.mel import Spectrogram
from whisper_server.engine.interface import Ticket, Window
from whisper_server.scheduling.job import Job
from whisper_server.transcribe.loop import LanguageInfo, Work
from whisper_server.transcribe.options import Options
from whisper_server.transcribe.stream import Assembly
from whisper_server.transcribe.tally import Tally
from whisper_server.transcribe.transcript import Segment


@dataclass(eq=False)
class Track:
    """A generator under way."""

    file: "File"
    work: Work
    asked: Ticket | None = None
    """The ticket of the request that it waits for."""
    windows: list[Window] = field(default_factory=list)
    """Those that it holds."""
    begun: float = 0.0
    """When its last window was handed to the engine, as a time.monotonic()."""
    company: int = 0
    """How many windows the engine had then, that one included."""
    segments: list[Segment] = field(default_factory=list)
    """Final ones that may not be told before those of earlier tracks."""
    over: bool = False


@dataclass(eq=False)
class File:
    """A job's."""

    job: Job
    client: str
    sound: Spectrogram
    duration: float
    """In seconds."""
    options: Options
    tally: Tally
    language: LanguageInfo = field(default_factory=LanguageInfo)
    assembly: Assembly | None = None
    root: Track | None = None
    parts: list[Track] = field(default_factory=list)
    """Tracks that run side by side, in the order of the file; the root waits for them."""

    def tracks(self) -> list[Track]:
        return [*([self.root] if self.root else []), *self.parts]

    def tell(self) -> None:
        """Pass on what is final, in the order of the file: of parts side by side, the first that is not over is the last told."""
        for track in self.tracks():
            if track.segments and self.assembly is not None:
                self.job.tell(self.assembly.add(track.segments))
                track.segments = []
            if track is not self.root and not track.over:
                break

    def finish(self) -> None:
        """Tell the whole of what its tracks have found."""
        assert self.assembly is not None  # noqa: S101  # it has begun
        last, transcript = self.assembly.finish(self.language.language or "en", self.duration)
        if last is not None:
            self.job.tell(last)
        self.job.tell(transcript)

    def leave(self) -> None:
        """It is over: without its tracks, which know it, it is gone when nobody holds it, however rarely garbage is collected."""
        self.root, self.parts = None, []
