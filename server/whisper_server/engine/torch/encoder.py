"""Windows: they wait for room, and go through the encoder several at a time, in parts between the steps of those that decode."""

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from whisper_server.engine.interface import Encode, Stats, Ticket
from whisper_server.engine.torch.host_copy import upload
from whisper_server.engine.torch.kv_cache import Slots, Window
from whisper_server.engine.torch.layers import planned_attention
from whisper_server.engine.torch.memory import Limit
from whisper_server.engine.torch.model import Network
from whisper_server.engine.torch.recovery import Done, Recovery

_NOBODY = object()
"""The ticket of a request that was cancelled when it was too late to take it out."""


@dataclass(eq=False)
class _Encoding:
    """An encoder's run under way."""

    entries: list[tuple[Ticket, Encode]]
    windows: list[Window]
    run: Iterator[None] | None = None
    is_over: bool = False


class Encoder:
    """The Encodes of one engine."""

    def __init__(
        self,
        network: Network,
        slots: Slots,
        recovery: Recovery,
        stats: Stats,
        *,
        at_once: int,
        parts: int,
        fixed_shapes: bool,
    ) -> None:
        """`at_once`: windows to a run; with `fixed_shapes` powers of two of them.

        `parts`: between how many steps of the decoder it is divided.
        """
        self._network, self._slots, self._recovery, self._stats = network, slots, recovery, stats
        self.parts, self._fixed_shapes = parts, fixed_shapes
        self.limit = Limit(at_once)
        self.waiting: deque[tuple[Ticket, Encode]] = deque()
        self._encoding: _Encoding | None = None

    @property
    def is_running(self) -> bool:
        """Whether a run is under way: then no slot may change its place."""
        return self._encoding is not None

    def busy(self) -> bool:
        return self.is_running or bool(self.waiting and self._slots.free)

    def cancel(self, ticket: Ticket) -> None:
        for entry in [entry for entry in self.waiting if entry[0] == ticket]:
            self.waiting.remove(entry)
        if self._encoding:
            # It is written to its slot until the run is over.
            self._encoding.entries = [
                (_NOBODY, request) if encoded == ticket else (encoded, request)
                for encoded, request in self._encoding.entries
            ]

    def rehearse(self) -> None:
        """Runs as large as they can be, and of each smaller size that there will be."""
        dims, slots = self._network.dims, self._slots
        count = self._run_of(self.limit.most)
        while count:
            mel = torch.zeros((count, dims.n_mels, 2 * dims.n_audio_ctx))
            run = self._run(mel, [number % slots.count for number in range(count)])
            with self._attention():
                for _ in run:
                    pass
            count = count // 2 if self._fixed_shapes else 0

    def _run_of(self, most: int) -> int:
        """How many windows of so many go into a run."""
        return 1 << most.bit_length() - 1 if self._fixed_shapes and most else most

    def _attention(self) -> AbstractContextManager[None]:
        return planned_attention() if self._fixed_shapes else nullcontext()

    def _run(self, mel: torch.Tensor, slots: list[int]) -> Iterator[None]:
        device = self._network.device
        return self._network.encode(
            upload(mel, torch.float32, device),
            self._slots.cross_kv,
            upload(slots, torch.int64, device),
            layers_at_once=math.ceil(self._network.dims.n_audio_layer / self.parts),
        )

    def encode(self, done: Done, *, others_wait: bool) -> None:
        """Begin a run, or go on with it: by one part if others wait for their next tokens, else to its end."""
        if self._encoding is None:
            entries = self._recovery.take(self.waiting, min(self._slots.free, self.limit.now))
            count = self._run_of(len(entries))
            self.waiting.extendleft(reversed(entries[count:]))
            entries = entries[:count]
            if not entries:
                return
            self._encoding = _Encoding(entries, [self._slots.take() for _ in entries])
        encoding = self._encoding
        begin = time.monotonic()
        failure = self._recovery.attempt(
            lambda: self._go_on(encoding, others_wait=others_wait), self.limit, len(encoding.entries)
        )
        self._stats.encode_seconds += time.monotonic() - begin
        if failure:
            for window in encoding.windows:
                self._slots.give_back(window)
            wanted = [entry for entry in encoding.entries if entry[0] is not _NOBODY]
            self._recovery.again_or_fail(wanted, self.waiting, failure, done)
        if failure or encoding.is_over:
            self._encoding = None
        if encoding.is_over:
            self._stats.encoded += len(encoding.entries)
            for (ticket, _), window in zip(encoding.entries, encoding.windows, strict=True):
                if ticket is _NOBODY:
                    self._slots.give_back(window)
                else:
                    done.append((ticket, window))

    def _go_on(self, encoding: _Encoding, *, others_wait: bool) -> None:
        if encoding.run is None:
            mel = torch.stack([torch.from_numpy(request.mel) for _, request in encoding.entries])
            encoding.run = self._run(mel, [window.slot for window in encoding.windows])
        with self._attention():
            for _ in encoding.run:
                if others_wait:
                    return
        encoding.is_over = True
