"""Slots: where windows, and the rows that decode them, live on the device."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from whisper_server.engine.torch.host_copy import upload
from whisper_server.engine.torch.logits import Beginning, RowState, Vocabulary


@dataclass(eq=False)
class Window:
    """One encoded window: the handle that users of the engine hold."""

    slot: int


@dataclass(frozen=True)
class Cache:
    """Keys and values of all decoder layers: shape (2 * layers, rows, heads, positions, 64), a layer's keys before its values."""

    kv: Tensor

    def rows(self, first: int, end: int) -> "Cache":
        """A view of some rows."""
        return Cache(self.kv[:, first:end])

    def room(self) -> Tensor:
        """For what is kept of one row while two change places."""
        return torch.empty_like(self.kv[0, 0])

    def exchange(self, one: int, other: int, room: Tensor) -> None:
        """Let two rows change places, layer by layer; takes no more memory than `room`."""
        for layer in self.kv:
            room.copy_(layer[one])
            layer[one].copy_(layer[other])
            layer[other].copy_(room)


@dataclass(frozen=True)
class CacheShape:
    """Of a row's keys and values, whatever its number of positions."""

    layers: int
    heads: int
    width: int
    dtype: torch.dtype
    device: torch.device

    def empty(self, rows: int, positions: int) -> Cache:
        """A cache for so many rows: zeros, as a masked value is multiplied by zero, and NaN times zero is NaN."""
        shape = (2 * self.layers, rows, self.heads, positions, self.width)
        return Cache(torch.zeros(shape, dtype=self.dtype, device=self.device))

    def bytes(self, positions: int) -> int:
        """Of one row."""
        return 2 * self.layers * self.heads * positions * self.width * self.dtype.itemsize


@dataclass(frozen=True)
class Lane:
    """Rows that lie side by side: their own cache, and the windows they listen to, each of them `group` rows in a row."""

    self_kv: Cache
    cross_kv: Cache
    group: int = 1

    @property
    def rows(self) -> int:
        return int(self.self_kv.kv.shape[1])


@dataclass(frozen=True)
class Rows:
    """All that belongs to the rows that decode: their keys and values, and what the filters know of them. It moves together."""

    self_kv: Cache
    state: RowState

    def begin(self, rows: Sequence[int], beginnings: Sequence[Beginning], banned: Tensor) -> None:
        """Let new sequences start. Nothing of what was in the rows before is left: a NaN would reach them even behind a mask."""
        for row in rows:
            self.self_kv.kv[:, row].zero_()
        self.state.begin(_numbers(rows, self.state.token.device), beginnings, banned)

    def move(self, sources: Sequence[int], targets: Sequence[int], length: int) -> None:
        """Let each target go on as its source would have, of which there are `length` positions."""
        device = self.state.token.device
        source, target = _numbers(sources, device), _numbers(targets, device)
        kv = self.self_kv.kv[:, :, :, :length]
        # What is moved is copied on the way: on a CPU layer by layer, on a GPU at once, in less time, which is rehearsed.
        for layers in kv.split(1) if device.type == "cpu" else [kv]:
            layers[:, target] = layers[:, source]
        self.state.move(source, target)


class Slots:
    """Memory for so many windows, taken once.

    A window is a slot: its cross-attention's keys and values, and a row of self-attention's cache for decoding it. Slots are
    given out from the lowest, so that the rows which decode are a dense beginning, and nothing has to be gathered for a step.
    After them come rows for groups: candidates of beam search and of sampling that share one window.
    """

    def __init__(
        self,
        shape: CacheShape,
        vocabulary: Vocabulary,
        *,
        count: int,
        group_rows: int,
        n_audio_ctx: int,
        n_text_ctx: int,
    ) -> None:
        self.count, self.group_rows = count, group_rows
        self.cross_kv = shape.empty(count, n_audio_ctx)
        self.rows = Rows(
            shape.empty(count + group_rows, n_text_ctx),
            RowState.empty(count + group_rows, vocabulary, shape.device),
        )
        # For windows that change places, which they do where there is no memory left as well.
        self._room, self._row_room = self.cross_kv.room(), self.rows.self_kv.room()
        self.windows: dict[int, Window] = {}
        self._free = list(range(count))
        self._free_group_rows = [True] * group_rows

    @property
    def free(self) -> int:
        """How many windows more there is room for."""
        return len(self._free)

    @property
    def free_group_rows(self) -> int:
        return sum(self._free_group_rows)

    def take(self) -> Window:
        """The lowest free slot, as a window."""
        window = Window(heapq.heappop(self._free))
        self.windows[window.slot] = window
        return window

    def give_back(self, window: Window) -> None:
        del self.windows[window.slot]
        heapq.heappush(self._free, window.slot)

    def close_gap(self) -> None:
        """Move the window in the highest slot into a free one below it: one copy, and steps are a row shorter."""
        if self._free and self.windows and self._free[0] < max(self.windows):
            self.exchange(max(self.windows), self._free[0])

    def exchange(self, one: int, other: int) -> None:
        """Let the windows in two slots, of which one may be free, change places, with the rows that decode them.

        Takes hardly any memory; where there is not even that (torch.OutOfMemoryError), nothing has changed.
        """
        if one in self.windows and other in self.windows:
            rows, state = self.rows.self_kv, self.rows.state
            places = _numbers([one, other], state.token.device)
            exchanged = state.gather(places.flip(0))
            self.cross_kv.exchange(one, other, self._room)
            rows.exchange(one, other, self._row_room)
            state.write([one, other], exchanged)
        else:
            source, target = (one, other) if one in self.windows else (other, one)
            for cache in (self.rows.self_kv, self.cross_kv):
                cache.kv[:, target].copy_(cache.kv[:, source])
            self.rows.state.write([target], self.rows.state.view(source, source + 1))
            self._free.remove(target)
            heapq.heapify(self._free)
            heapq.heappush(self._free, source)
        first, second = self.windows.pop(one, None), self.windows.pop(other, None)
        for window, slot in ((first, other), (second, one)):
            if window is not None:
                window.slot = slot
                self.windows[slot] = window

    def take_group(self, size: int) -> int | None:
        """The first of `size` free rows side by side for a group, or None."""
        for first in range(0, self.group_rows - size + 1):
            if all(self._free_group_rows[first : first + size]):
                self._free_group_rows[first : first + size] = [False] * size
                return self.count + first
        return None

    def give_back_group(self, first: int, size: int) -> None:
        first -= self.count
        self._free_group_rows[first : first + size] = [True] * size


def _numbers(rows: Sequence[int], device: torch.device) -> Tensor:
    return upload(list(rows), torch.int64, device)
