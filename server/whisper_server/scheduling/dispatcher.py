"""What the engine is asked: whose window is encoded next, and whose request each answer belongs to."""

import itertools
import time

from whisper_server.engine.interface import (
    Align,
    Answer,
    Decode,
    Decoded,
    Encode,
    Mel,
    Request,
    Ticket,
    Window,
)
from whisper_server.fair_queue import FairQueue
from whisper_server.scheduling.engine_thread import EngineThread
from whisper_server.scheduling.file import File, Track
from whisper_server.scheduling.pace import Pace
from whisper_server.transcribe.loop import MelSegment

WINDOW_COST = 24
"""What encoding a window counts beside its tokens, in tokens."""
GIVEN_UP_COST = 24
"""What each row counts of a text that nobody waited for, in tokens: about a usual one, as nobody knows how far it came."""


class Dispatcher:
    """Windows to encode wait here, and clients take turns by what they have used; all else goes to the engine at once."""

    def __init__(self, engine: EngineThread) -> None:
        self.encodes_ahead = 0
        """How many windows may wait inside the engine: enough to keep it busy, few enough to leave the choice to us."""
        self._engine = engine
        self._tickets = itertools.count()
        self._asked: dict[Ticket, tuple[Track, Request]] = {}
        self._given_up: set[Ticket] = set()
        """Encodes whose window nobody waits for, but which may come before the cancellation is confirmed."""
        self._to_encode: FairQueue[tuple[Track, MelSegment]] = FairQueue()
        self._encoding = 0
        self.on_device = 0
        """Windows that are encoded now, or held by a file."""
        self.pace = Pace()

    def waiting(self) -> int:
        """How many windows wait for their turn."""
        return len(self._to_encode)

    def ask(self, track: Track, request: MelSegment | Request) -> None:
        """Take a request; its answer comes to the host thread, which hands it to `answered`."""
        if isinstance(request, MelSegment):
            self._to_encode.push(track.file.client, track.file.job, (track, request))
        else:
            self._send(track, request)

    def next_to_encode(self) -> tuple[Track, MelSegment] | None:
        """The window whose turn it is, if the engine wants one."""
        if self._encoding >= self.encodes_ahead or not len(self._to_encode):
            return None
        track, segment = self._to_encode.pop()
        self._to_encode.charge(track.file.client, WINDOW_COST)
        if track.file.job.started is None:
            track.file.job.started = time.monotonic()
        return track, segment

    def encode(self, track: Track, mel: Mel) -> None:
        """Hand it to the engine."""
        self._send(track, Encode(mel=mel))
        self._encoding += 1
        self.on_device += 1
        track.begun, track.company = time.monotonic(), self.on_device

    def answered(self, ticket: Ticket, answer: Answer) -> Track | None:
        """Whose the answer is; None if nobody waits for it any more."""
        if ticket not in self._asked:
            if ticket in self._given_up:
                self._given_up.remove(ticket)
                if answer is not None and not isinstance(answer, Exception):
                    self._engine.release(answer)
            return None
        track, request = self._asked.pop(ticket)
        track.asked = None
        if isinstance(request, Encode):
            self._encoding -= 1
            if isinstance(answer, Exception):
                self.on_device -= 1
            else:
                track.windows.append(answer)
        elif isinstance(request, Decode) and isinstance(answer, Decoded):
            self._to_encode.charge(track.file.client, request.rows * len(answer.tokens))
        elif isinstance(request, Align):
            # All of them in one pass, which on a CPU costs about what decoding them beside other rows does.
            self._to_encode.charge(track.file.client, len(request.text_tokens))
        return track

    def release(self, track: Track, window: Window, heard: float) -> None:
        """The track needs its window no more, with which so many seconds of audio are done."""
        if heard:
            # The last window of a burst is alone at its end, but was not while it was slow.
            company = max(track.company, self.on_device)
            self.pace.note(company, time.monotonic() - track.begun, heard)
        self.on_device -= 1
        track.windows.remove(window)
        self._engine.release(window)

    def drop(self, file: File) -> None:
        """Give back all that a file has of the engine."""
        self._to_encode.discard(file.job)
        for track in file.tracks():
            if track.asked is not None:
                _, request = self._asked.pop(track.asked)
                if isinstance(request, Encode):
                    self._encoding -= 1
                    self.on_device -= 1
                    self._given_up.add(track.asked)
                elif isinstance(request, Decode):
                    self._to_encode.charge(file.client, request.rows * GIVEN_UP_COST)
                self._engine.cancel(track.asked)
            for window in track.windows:
                self._engine.release(window)
            self.on_device -= len(track.windows)
            track.windows = []
            track.over = True

    def _send(self, track: Track, request: Request) -> None:
        ticket = track.asked = next(self._tickets)
        self._asked[ticket] = (track, request)
        self._engine.submit(ticket, request)
