"""The engine on CTranslate2: windows of many requests in one call of its `generate`.

A call can't be joined or left while it runs, and wants some things equal in all of its rows (batching.py). So a step starts calls
and waits for one to end: an encoder's run while windows wait for it and few wait to be decoded, else the decoding of all that can
share a call. On a CPU two calls run at once, as one uses what the other leaves idle. Encoded windows lie in the machine's memory,
on a GPU too: a call copies in what it needs, and their number is not the GPU's concern.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np
from ctranslate2 import DataType, StorageView
from ctranslate2.models import Whisper
from numpy.typing import NDArray

from whisper_server.engine.ctranslate2.batching import Call, Queue, Waiting, call_of, first
from whisper_server.engine.ctranslate2.memory import Pressure, is_lost, is_out_of_memory
from whisper_server.engine.interface import (
    Align,
    Answer,
    Decode,
    Decoded,
    Detect,
    DeviceLost,
    Encode,
    ModelInfo,
    Request,
    Stats,
    Ticket,
)
from whisper_server.engine.patience import TRIES, pause_after
from whisper_server.engine.tokens import initial_tokens, tokenizer_of

Done = list[tuple[Ticket, Answer]]

POLL_SECONDS = 0.02
"""How long a step waits for a call to end while another could be started, if only something came in."""


@dataclass(eq=False)
class Window:
    """Implements engine.Window."""

    features: NDArray[Any]
    """What the encoder made of it, shape (1500, channels)."""


@dataclass(frozen=True)
class _Batch:
    """What one call is about."""

    chosen: list[Waiting]
    queue: Queue
    """That they came from."""
    begin: float
    """When the call began, as a time.monotonic()."""


@dataclass(frozen=True)
class CTranslate2Alignment:
    """Implements engine.Alignment."""

    token_probabilities: Sequence[float]
    pairs: Sequence[tuple[int, int]]

    def path(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        # A window too short for a single frame has no path: then all is said at its beginning.
        pairs = self.pairs or [(token, 0) for token in range(len(self.token_probabilities) + 1)]
        text, time = np.array(pairs, np.int64).T
        return text, time


class FasterWhisper:
    """Implements engine.Engine."""

    def __init__(
        self,
        model: Whisper,
        info: ModelInfo,
        *,
        windows: int,
        encode_at_once: int,
        decode_at_once: int,
        calls_at_once: int,
        description: str,
    ) -> None:
        self.info, self.windows, self.description = info, windows, description
        self.stats = Stats()
        self._model = model
        self._encode_at_once, self._decode_at_once = encode_at_once, decode_at_once
        self._memory = Pressure()
        self._calls_at_once = calls_at_once
        self._callers = ThreadPoolExecutor(calls_at_once, "ctranslate2")
        self._running: dict[Future[list[Answer]], _Batch] = {}
        self._unwanted: set[Ticket] = set()
        """Cancelled while their call was running."""
        self._refused: Done = []
        """Answers to requests that there is no call for."""
        self._later: list[tuple[float, Waiting, Queue]] = []
        """Requests that found no memory alone: when they are tried again, as a time.monotonic(), and in which queue they wait."""
        self._taken: set[Window] = set()
        self._encodes: Queue = deque()
        self._detects: Queue = deque()
        self._decodes: Queue = deque()
        self._aligns: Queue = deque()

    @property
    def decoded_at_once(self) -> int:
        return self._decode_at_once * self._calls_at_once

    def submit(self, ticket: Ticket, request: Request) -> None:
        try:
            match request:
                case Encode():
                    self._encodes.append(Waiting(ticket, request, None))
                case Detect():
                    self._detects.append(Waiting(ticket, request, None))
                case Decode():
                    self._decodes.append(Waiting(ticket, request, self._call_of(request)))
                case Align():
                    self._aligns.append(Waiting(ticket, request, (request.language, request.task)))
        except Exception as problem:
            self._refused.append((ticket, problem))

    def _call_of(self, request: Decode) -> Call:
        call = call_of(self.info, request)
        unknown = max(call.suppressed, default=0)
        if unknown >= tokenizer_of(self.info).encoding.n_vocab:  # CTranslate2 would write there
            raise ValueError(f"suppress_tokens: there is no token {unknown}")
        return call

    def cancel(self, ticket: Ticket) -> None:
        for queue in (self._encodes, self._detects, self._decodes, self._aligns):
            for waiting in [waiting for waiting in queue if waiting.ticket == ticket]:
                queue.remove(waiting)
        self._refused = [answer for answer in self._refused if answer[0] != ticket]
        self._later = [entry for entry in self._later if entry[1].ticket != ticket]
        if any(ticket == running.ticket for batch in self._running.values() for running in batch.chosen):
            self._unwanted.add(ticket)

    def release(self, window: Window) -> None:
        self._taken.remove(window)
        self.stats.windows_taken = len(self._taken)

    def busy(self) -> bool:
        waiting = self._detects or self._decodes or self._aligns or self._refused or self._later
        return bool(self._running or self._room() or waiting)

    def step(self) -> Done:
        self._try_again()
        while len(self._running) < self._calls_at_once and self._start_one():
            pass
        done, self._refused = self._refused, []
        if self._running:
            full = len(self._running) == self._calls_at_once
            seconds = 0 if done else None if full else POLL_SECONDS
            ended, _ = wait(self._running, seconds, FIRST_COMPLETED)
            done += [answer for call in ended for answer in self._answers(call)]
        elif self._later and not done:
            time.sleep(POLL_SECONDS)
        return done

    def _try_again(self) -> None:
        """Let those wait for a call whose pause is over."""
        now = time.monotonic()
        for entry in [entry for entry in self._later if entry[0] <= now]:
            self._later.remove(entry)
            _, waiting, queue = entry
            queue.appendleft(waiting)

    def _start_one(self) -> bool:
        """Start the call that is most wanted; whether there is anything to do."""
        if self._detects:
            self._start(self._sharing(self._detects), self._detects, self._detect)
        elif self._aligns:
            self._start(self._sharing(self._aligns), self._aligns, self._align)
        # Many rows in a call cost a CPU half as much as each alone: collect some, but no more than pays.
        elif (room := self._room()) and len(self._decodes) < self._decode_at_once:
            most = min(room, self._memory.at_once(self._encode_at_once))
            self._start(first(self._encodes, most), self._encodes, self._encode)
        elif self._decodes:
            self._start(self._sharing(self._decodes), self._decodes, self._decode)
        else:
            return False
        return True

    def _room(self) -> int:
        """How many windows could be encoded now."""
        coming = sum(len(each.chosen) for each in self._running.values() if each.queue is self._encodes)
        return min(len(self._encodes), self.windows - len(self._taken) - coming)

    def _sharing(self, queue: Queue) -> list[Waiting]:
        return first(queue, self._memory.at_once(self._decode_at_once))

    def _start(self, chosen: list[Waiting], queue: Queue, work: Callable[[list[Any]], list[Answer]]) -> None:
        for waiting in chosen:
            queue.remove(waiting)
        call = self._callers.submit(work, [waiting.request for waiting in chosen])
        self._running[call] = _Batch(chosen, queue, time.monotonic())

    def _answers(self, call: Future[list[Answer]]) -> Done:
        """What a call that ended has answered. Of one that failed, its requests wait to be tried again, each by itself."""
        batch = self._running.pop(call)
        self._count(batch)
        unwanted = {waiting.ticket for waiting in batch.chosen} & self._unwanted
        self._unwanted -= unwanted
        wanted = [waiting for waiting in batch.chosen if waiting.ticket not in unwanted]
        problem = call.exception()
        if problem is None:
            self._memory.eases()
            answers = zip(batch.chosen, call.result(), strict=True)
            done = [(waiting.ticket, answer) for waiting, answer in answers if waiting in wanted]
            self._taken.update(answer for _, answer in done if isinstance(answer, Window))
            self.stats.windows_taken = len(self._taken)
            return done
        if not isinstance(problem, Exception) or is_lost(problem):
            raise DeviceLost(" ".join(str(problem).split())) from problem
        if is_out_of_memory(problem):
            self.stats.out_of_memory += 1
            # That one alone fails again says nothing new of how many fit: the others' calls become larger meanwhile.
            if len(batch.chosen) > 1 or batch.chosen[0].tries == 0:
                self._memory.rises(len(batch.chosen), problem)
        if len(batch.chosen) == 1:
            return [
                (waiting.ticket, problem) for waiting in wanted if not self._waits(waiting, batch, problem)
            ]
        if not is_out_of_memory(problem):  # then it is one of these, and nobody knows which
            for waiting in wanted:
                waiting.alone = True
        batch.queue.extendleft(reversed(wanted))
        return []

    def _waits(self, waiting: Waiting, batch: _Batch, problem: Exception) -> bool:
        """Whether a request that failed alone is tried again later: a lack of memory may be over soon."""
        waiting.tries += 1
        if not is_out_of_memory(problem) or waiting.tries >= TRIES:
            return False
        waiting.alone = True  # where it finds none so, it would leave none to others in its call
        self._later.append((time.monotonic() + pause_after(waiting.tries), waiting, batch.queue))
        return True

    def _count(self, batch: _Batch) -> None:
        """Note a call that has ended."""
        seconds = time.monotonic() - batch.begin
        self.stats.rounds += 1
        if batch.queue is self._encodes:
            self.stats.encoded += len(batch.chosen)
            self.stats.encode_seconds += seconds
        elif batch.queue is self._decodes:
            self.stats.steps += 1
            self.stats.step_rows += sum(waiting.request.rows for waiting in batch.chosen)
            self.stats.step_seconds += seconds

    def _encode(self, requests: list[Encode]) -> list[Answer]:
        mel = StorageView.from_array(np.stack([request.mel for request in requests]))
        encoded = self._model.encode(mel, to_cpu=True)
        if encoded.dtype == DataType.bfloat16:  # which numpy does not know
            encoded = encoded.to(DataType.float32)
        return [Window(features) for features in np.array(encoded)]

    def _features(self, requests: Sequence[Detect | Decode | Align]) -> StorageView:
        return StorageView.from_array(np.stack([request.window.features for request in requests]))

    def _detect(self, requests: list[Detect]) -> list[Answer]:
        found = self._model.detect_language(self._features(requests))
        return [{token.strip("<|>"): chance for token, chance in chances} for chances in found]

    def _align(self, requests: list[Align]) -> list[Answer]:
        start = tokenizer_of(self.info, requests[0].language, requests[0].task).sot_sequence
        results = self._model.align(
            self._features(requests),
            list(start),
            [list(request.text_tokens) for request in requests],
            [request.num_frames for request in requests],
        )
        return [CTranslate2Alignment(result.text_token_probs, result.alignments) for result in results]

    def _decode(self, requests: list[Decode]) -> list[Answer]:
        call = call_of(self.info, requests[0])
        prompts = [initial_tokens(self.info, request)[0] for request in requests]
        results = self._model.generate(
            self._features(requests),
            prompts,
            return_scores=True,
            return_no_speech_prob=True,
            **call.arguments(),
        )
        return [
            Decoded(
                tokens=tuple(result.sequences_ids[0]),
                avg_logprob=call.average(result.scores[0], len(result.sequences_ids[0])),
                no_speech_prob=result.no_speech_prob,
            )
            for result in results
        ]
