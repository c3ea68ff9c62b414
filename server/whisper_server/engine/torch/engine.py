"""The engine on openai-whisper's weights: continuous batching, where windows join and leave between the steps of the decoder.

Here is in which order a step does what waits. How windows come to be is in `encoder`, how texts do in `decoder`, what a pass
through the network is in `runner`, what becomes of what fails in `recovery`.
"""

import logging
from collections import deque
from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass

import torch

from whisper_server.engine.interface import (
    Align,
    Answer,
    Decode,
    Detect,
    DeviceLost,
    Encode,
    ModelInfo,
    Request,
    Stats,
    Ticket,
)
from whisper_server.engine.tokens import alignment_tokens, tokenizer_of
from whisper_server.engine.torch.alignment import TorchAlignment, align
from whisper_server.engine.torch.decoder import Decoder, check_tokens
from whisper_server.engine.torch.encoder import Encoder
from whisper_server.engine.torch.host_copy import HostCopy, upload
from whisper_server.engine.torch.kv_cache import Slots, Window
from whisper_server.engine.torch.logits import Vocabulary
from whisper_server.engine.torch.memory import Limit
from whisper_server.engine.torch.model import Network
from whisper_server.engine.torch.recovery import Done, Recovery
from whisper_server.engine.torch.runner import Runner
from whisper_server.engine.torch.sequence import MAX_GROUP

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sizes:
    """How much the engine takes on."""

    windows: int
    groups: int
    """For beams, and samples to choose from, MAX_GROUP rows each."""
    encode_at_once: int
    """Windows to an encoder's run."""
    encode_in: int
    """Between how many steps of the decoder such a run is divided, while there are texts to decode."""
    lag: int
    """How many steps later the chosen tokens are looked at; 1 keeps a GPU busy meanwhile."""
    fixed_shapes: bool
    graphs: bool


@dataclass(eq=False)
class _Coming:
    """An answer on its way from the device."""

    ticket: Ticket
    step: int
    """In which it was begun."""
    arrived: Callable[[], Answer]


class OpenAIWhisper:
    """Implements engine.Engine."""

    def __init__(self, network: Network, info: ModelInfo, sizes: Sizes, description: str) -> None:
        self.description, self.info = description, info
        self.stats = Stats()
        self._network, self._device = network, network.device
        self._recovery = Recovery(network.device, self.stats)
        chosen = tokenizer_of(info)
        vocabulary = self._vocabulary = Vocabulary(
            size=network.dims.n_vocab,
            eot=chosen.eot,
            timestamp_begin=chosen.timestamp_begin,
            no_speech=chosen.no_speech,
            blank=(*chosen.encode(" "), chosen.eot),
        )
        self._sizes = sizes
        slots = self._slots = Slots(
            network.cache_shape,
            vocabulary,
            count=sizes.windows,
            group_rows=sizes.groups * MAX_GROUP,
            n_audio_ctx=network.dims.n_audio_ctx,
            n_text_ctx=network.dims.n_text_ctx,
        )
        self._runner = Runner(
            network, slots, vocabulary, fixed_shapes=sizes.fixed_shapes, graphs=sizes.graphs
        )
        self._encoder = Encoder(
            network,
            slots,
            self._recovery,
            self.stats,
            at_once=sizes.encode_at_once,
            parts=sizes.encode_in,
            fixed_shapes=sizes.fixed_shapes,
        )
        self._decoder = Decoder(
            self._runner, slots, vocabulary, info, self._recovery, self.stats, lag=sizes.lag
        )
        self._detects: deque[tuple[Ticket, Detect]] = deque()
        self._aligns: deque[tuple[Ticket, Align]] = deque()
        self._coming: deque[_Coming] = deque()
        self._detect_limit, self._align_limit = Limit(self._runner.texts_at_once), Limit(1)
        self._step = 0

    @property
    def decoded_at_once(self) -> int:
        return self.windows

    @property
    def windows(self) -> int:
        return self._slots.count

    def submit(self, ticket: Ticket, request: Request) -> None:
        match request:
            case Encode():
                self._encoder.waiting.append((ticket, request))
            case Detect():
                self._detects.append((ticket, request))
            case Decode():
                self._decoder.waiting.append((ticket, request))
            case Align():
                self._aligns.append((ticket, request))

    def cancel(self, ticket: Ticket) -> None:
        self._encoder.cancel(ticket)
        self._decoder.cancel(ticket)
        for waiting in (self._detects, self._aligns):
            for entry in [entry for entry in waiting if entry[0] == ticket]:
                waiting.remove(entry)  # type: ignore[arg-type]
        for coming in [coming for coming in self._coming if coming.ticket == ticket]:
            self._coming.remove(coming)
        self._recovery.forget(ticket)

    def release(self, window: Window) -> None:
        self._slots.give_back(window)
        self._count_windows()

    def _count_windows(self) -> None:
        self.stats.windows_taken = self._slots.count - self._slots.free

    def busy(self) -> bool:
        waiting = self._detects or self._aligns or self._coming
        return bool(waiting) or self._encoder.busy() or self._decoder.busy()

    @torch.inference_mode()
    def step(self) -> Done:
        done: Done = []
        self._step += 1
        self._encoder.encode(done, others_wait=bool(self._decoder.sequences()))
        self._detect(done)
        self._decoder.join(done, slots_may_move=not self._encoder.is_running)
        self._align(done)
        # The next window to be encoded will fill a gap, if there is one: no need to close it.
        self._decoder.advance(done, slots_may_move=not (self._encoder.is_running or self._encoder.waiting))
        self._collect(done)
        self._recovery.note(done)
        if not (done or self._coming or self._encoder.is_running or self._decoder.sequences()):
            self._recovery.nap()
        self.stats.rounds += 1
        self._count_windows()
        return done

    @property
    def window_bytes(self) -> int:
        """Memory of one window, and of the row that decodes it."""
        shape, dims = self._network.cache_shape, self._network.dims
        return shape.bytes(dims.n_audio_ctx) + shape.bytes(dims.n_text_ctx)

    @property
    def group_bytes(self) -> int:
        """Memory of all rows for groups."""
        shape, dims = self._network.cache_shape, self._network.dims
        copies = shape.bytes(dims.n_audio_ctx) if self._sizes.fixed_shapes else 0
        return self._sizes.groups * (MAX_GROUP * shape.bytes(dims.n_text_ctx) + copies)

    @torch.inference_mode()
    def rehearse(self) -> None:
        """Do the most work at once that will ever be asked, at full length; also for what takes time at its first use.

        For a new engine. Raises torch.OutOfMemoryError.
        """
        dims = self._network.dims
        self._encoder.rehearse()
        self._runner.rehearse()
        self._listen([0] * dims.n_text_ctx, [0] * 8, 0, 2 * dims.n_audio_ctx, slot=0)()

    @torch.inference_mode()
    def record(self) -> None:
        """Record the passes that a GPU replays. For a new engine; raises torch.OutOfMemoryError."""
        if recorded := self._runner.record():
            log.info("recorded %d passes of the decoder", recorded)
        self._recovery.count_memory()

    def _detect(self, done: Done) -> None:
        entries = self._recovery.take(self._detects, self._detect_limit.now)
        if not entries:
            return
        chosen = tokenizer_of(self.info, None)
        codes = dict(zip(chosen.all_language_tokens, chosen.all_language_codes, strict=True))
        arriving: list[HostCopy] = []

        def work() -> None:
            logits = self._runner.first_logits(chosen.sot, [request.window.slot for _, request in entries])
            languages = logits.index_select(1, upload(list(codes), torch.int64, self._device))
            arriving.append(HostCopy.of(languages.softmax(-1)))

        failure = self._recovery.attempt(work, self._detect_limit, len(entries))
        if failure:
            self._recovery.again_or_fail(entries, self._detects, failure, done)
            return
        for row, (ticket, _) in enumerate(entries):

            def arrived(row: int = row) -> Answer:
                return dict(zip(codes.values(), arriving[0].arrived()[row].tolist(), strict=True))

            self._coming.append(_Coming(ticket, self._step, arrived))

    def _align(self, done: Done) -> None:
        entries = self._recovery.take(self._aligns, 1)
        if not entries:
            return
        ((ticket, request),) = entries

        def work() -> None:
            check_tokens(request.text_tokens, "text_tokens", self._vocabulary)
            tokens, before = alignment_tokens(self.info, request)
            arrived = self._listen(
                tokens, request.text_tokens, before, request.num_frames, request.window.slot
            )
            self._coming.append(_Coming(ticket, self._step, arrived))

        failure = self._recovery.attempt(work, self._align_limit, 1)
        if failure:
            self._recovery.again_or_fail(entries, self._aligns, failure, done)

    def _listen(
        self, tokens: list[int], text_tokens: Many[int], before: int, num_frames: int, slot: int
    ) -> Callable[[], TorchAlignment]:
        heard = self._network.listen(
            upload(tokens, torch.int64, self._device), self._slots.cross_kv.rows(slot, slot + 1)
        )
        heads = len(self._network.alignment_heads)
        return align(heard, heads, text_tokens, before, num_frames, self._vocabulary.eot)

    def _collect(self, done: Done) -> None:
        """Answers that have arrived from the device; while it has other work, those that were asked for in the last step."""
        for coming in list(self._coming):
            if coming.step < self._step or not self._sizes.lag or not self._decoder.sequences():
                self._coming.remove(coming)
                try:
                    done.append((coming.ticket, coming.arrived()))
                except DeviceLost:
                    raise
                except Exception as problem:
                    done.append((coming.ticket, problem.with_traceback(None)))
