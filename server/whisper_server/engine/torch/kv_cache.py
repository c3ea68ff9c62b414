"""Slots: where windows and the rows that decode them live on the device."""

import heapq
from dataclasses import dataclass

from whisper_server.engine.torch.logits import Rows, Vocabulary
from whisper_server.engine.torch.model import Cache, Network


@dataclass(eq=False)
class Window:
    """One encoded window: the handle that users of the engine hold."""

    slot: int


class Slots:
    """Memory for so many windows, taken once.

    A window is a slot: its cross-attention's keys and values, and a row of self-attention's cache for decoding it. Slots are
    given out from the lowest, so that the rows which decode are a dense beginning, and nothing has to be gathered for a step.
    After them come rows for groups: candidates of beam search and of sampling that share one window.
    """

    def __init__(self, network: Network, count: int, group_rows: int, vocabulary: Vocabulary) -> None:
        dims = network.dims
        self.count, self.group_rows = count, group_rows
        self.cross = network.cache(count, dims.n_audio_ctx)
        self.own = network.cache(count + group_rows, dims.n_text_ctx)
        self.rows = Rows.empty(count + group_rows, vocabulary, network.device)
        self.windows: dict[int, Window] = {}
        self._free = list(range(count))
        self.owed = 0
        """How many slots are to be given up once they are free."""
        self._free_group_rows = [True] * group_rows

    @property
    def free(self) -> int:
        """How many windows more there is room for."""
        return len(self._free)

    def take(self) -> Window:
        """The lowest free slot, as a window."""
        window = Window(heapq.heappop(self._free))
        self.windows[window.slot] = window
        return window

    def give_back(self, window: Window) -> None:
        del self.windows[window.slot]
        heapq.heappush(self._free, window.slot)
        self._withhold()

    def shrink(self) -> None:
        """Do with a quarter fewer slots, at once as far as free ones go, the rest as they are given back; one remains.

        The memory of the caches stays taken: it is what each step needs beside them that becomes less.
        """
        self.owed = min(self.owed + max(1, self.count // 4), self.count - 1)
        self._withhold()

    def _withhold(self) -> None:
        """Give up the highest: a step goes through the rows from the first to the last that decodes."""
        while self.owed and self._free:
            self.close_gap()
            self._free.remove(max(self._free))
            heapq.heapify(self._free)
            self.count -= 1
            self.owed -= 1

    def close_gap(self) -> None:
        """Move the window in the highest slot into a free one below it: one copy, and steps are a row shorter."""
        if not self._free or not self.windows:
            return
        top = max(self.windows)
        if self._free[0] > top:
            return
        window, hole = self.windows.pop(top), heapq.heappop(self._free)
        self.cross.copy_row(top, hole)
        self.own.copy_row(top, hole)
        self.rows.copy_row(top, hole)
        window.slot = hole
        self.windows[hole] = window
        heapq.heappush(self._free, top)

    def take_group(self, size: int) -> int | None:
        """The first of `size` free rows side by side for a group, or None."""
        for first in range(self.group_rows - size + 1):
            if all(self._free_group_rows[first : first + size]):
                self._free_group_rows[first : first + size] = [False] * size
                return self.own_offset + first
        return None

    def give_back_group(self, first: int, size: int) -> None:
        first -= self.own_offset
        self._free_group_rows[first : first + size] = [True] * size

    @property
    def own_offset(self) -> int:
        """The first of the rows for groups."""
        return int(self.own.kv.shape[1]) - self.group_rows

    def own_row(self, row: int) -> Cache:
        return self.own.rows(row, row + 1)

    def cross_row(self, window: Window) -> Cache:
        return self.cross.rows(window.slot, window.slot + 1)
