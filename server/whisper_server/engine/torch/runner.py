"""One pass through the decoder at a time, over the slots' memory: what a GPU does in one go, without asking the host.

Each kind of pass is a function of what lies in memory made beforehand, for so many rows and so many positions. On a GPU these are
numbers of few values, the next of which is taken: rows beyond those that are wanted are computed and not looked at, and can't
reach the others. So all passes there ever are can be recorded at the start, as CUDA graphs, and are replayed: a step has hundreds
of kernels, and a GPU would wait for Python to launch them. On a CPU a pass is as large as it must be, and the function is called;
asked to record there, it replays by calling it, so that all but the graphs themselves is tried without a GPU.
"""

import logging
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from whisper_server.engine.torch.host_copy import upload
from whisper_server.engine.torch.kv_cache import Cache, Lane, Slots
from whisper_server.engine.torch.layers import planned_attention
from whisper_server.engine.torch.logits import Vocabulary, filter_logits
from whisper_server.engine.torch.model import Network
from whisper_server.engine.torch.sampling import choose
from whisper_server.engine.torch.sequence import MAX_GROUP, SequenceGroup

ROWS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128)
GROUPS = (1, 2, 4, 8)
LENGTHS = (64, 128, 256)
"""How much of the self-attention's cache is read: the shortest of these that holds the longest row, or all."""
TEXTS = (1, 2, 4, 8)
"""Whose prompts are in one pass."""
PROMPTS = (8, 64, 128, 256)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prompt:
    """The beginning of a text that is prefilled."""

    tokens: Sequence[int]
    """Those that go through the network: all but the last, with which the first step begins."""
    slot: int
    """Of the window that it is about."""
    row: int
    start: int
    """Where the start of transcript stands, which may be behind the tokens."""


@dataclass(frozen=True)
class _Recorded:
    """A pass that is done again by `replay`, and where its result lies then."""

    replay: Callable[[], object]
    result: Tensor


class Runner:
    """Passes over the memory of `slots`; their results are tensors on the device."""

    def __init__(
        self,
        network: Network,
        slots: Slots,
        vocabulary: Vocabulary,
        *,
        fixed_shapes: bool,
        graphs: bool,
    ) -> None:
        """`fixed_shapes`: let passes have few different ones. `graphs`: record them, see `record`."""
        self._network, self._slots, self._vocabulary = network, slots, vocabulary
        self.fixed_shapes, self._graphs = fixed_shapes, graphs
        rows = slots.count + slots.group_rows
        self.noise = torch.ones((rows, vocabulary.size), device=network.device)
        """For rows that are sampled: exponentially distributed, to be filled before each of their steps. (rows, n_vocab)."""
        self._n_text_ctx = network.dims.n_text_ctx
        self._recorded: dict[Hashable, _Recorded] = {}
        self._inputs: dict[Hashable, Tensor] = {}
        self._stream: torch.cuda.Stream | None = None
        self._pool: Any = None
        # A group's rows are the queries of their window. Its place is known when a pass is recorded, so each group has a copy.
        shape = network.cache_shape
        self._group_cross_kv: Cache | None = None
        if fixed_shapes:
            self._group_cross_kv = shape.empty(slots.group_rows // MAX_GROUP, network.dims.n_audio_ctx)

    @property
    def texts_at_once(self) -> int:
        """How many prompts a pass can have."""
        return TEXTS[-1]

    def decode(self, rows: int, longest: int, *, sampled: bool, prompts: bool) -> Tensor:
        """A token more for the first `rows` rows, none of which is at a position beyond `longest`.

        `sampled`: some of them by their noise. `prompts`: some have not yet come to the end of their prompts, or are at the start
        of transcript. Returns float32 (rows or more, 4): token, its log-probability, the sum of these, how likely silence was.
        """
        rows, length = self._bound(rows, ROWS, self._slots.count), self._length(longest)
        if self.fixed_shapes:
            sampled = prompts = True
        return self._run(
            ("decode", rows, length), lambda: self._decode(rows, length, sampled=sampled, prompts=prompts)
        )

    def _decode(self, rows: int, length: int, *, sampled: bool, prompts: bool) -> Tensor:
        state = self._slots.rows.state.view(0, rows)
        lane = Lane(self._slots.rows.self_kv.rows(0, rows), self._slots.cross_kv.rows(0, rows))
        x = self._network.step(state.token, self._inside(state.position), length, [lane])
        logits = self._network.logits(x)
        if prompts:
            state.hear_silence(logits, self._vocabulary)
        filter_logits(logits, state, self._vocabulary)
        token, logprob = choose(logits, state.temperature, self.noise[:rows] if sampled else None)
        if prompts:
            state.append_or_follow_prompt(token, logprob, self._vocabulary)
        else:
            state.append(token, logprob, self._vocabulary)
        return torch.stack([token.float(), logprob, state.sum_logprob, state.no_speech], dim=1)

    def draw(self, first: int, rows: int, generator: torch.Generator) -> None:
        """Fill the noise of rows that are sampled in the next pass."""
        self.noise[first : first + rows].exponential_(1, generator=generator)

    def rows_of_group(self, size: int) -> int:
        """How many rows a group of that size takes."""
        return MAX_GROUP if self.fixed_shapes else size

    def place_group(self, group: SequenceGroup) -> None:
        """Get ready for a group that begins."""
        if self._group_cross_kv is not None:
            kept = self._group_cross_kv.kv[:, (group.first_row - self._slots.count) // MAX_GROUP]
            kept.copy_(self._slots.cross_kv.kv[:, group.window.slot])

    def search(
        self, groups: Sequence[SequenceGroup], longest: int, *, sampled: bool, starts: bool
    ) -> tuple[Tensor, list[int]]:
        """What may come next in each row of the groups, whose tokens are chosen elsewhere.

        `sampled`: some by their noise. `starts`: some are at the start of transcript. Returns float32
        (rows, 3 + 2 * (MAX_GROUP + 1)): a token chosen as in single rows, its log-probability, how likely silence was, then the
        likeliest tokens, then the log-probabilities of these; and where in it each group's rows begin.
        """
        length = self._length(longest)
        if not self.fixed_shapes:
            lanes = [self._lane(group) for group in groups]
            begins = [sum(group.size for group in groups[:number]) for number in range(len(groups))]
            spans = [(group.first_row, group.first_row + group.size) for group in groups]
            return self._search(lanes, spans, length, sampled=sampled, starts=starts), begins
        begins = [group.first_row - self._slots.count for group in groups]
        count = self._bound(max(begins) // MAX_GROUP + 1, GROUPS, self._slots.group_rows // MAX_GROUP)
        found = self._run(("search", count, length), lambda: self._search_all(count, length))
        return found, begins

    def _lane(self, group: SequenceGroup) -> Lane:
        slots = self._slots
        return Lane(
            slots.rows.self_kv.rows(group.first_row, group.first_row + group.size),
            slots.cross_kv.rows(group.window.slot, group.window.slot + 1),
            group.size,
        )

    def _search_all(self, count: int, length: int) -> Tensor:
        """All rows of so many groups, whether there are that many."""
        assert self._group_cross_kv is not None  # noqa: S101  # as shapes are fixed
        first, end = self._slots.count, self._slots.count + count * MAX_GROUP
        lane = Lane(self._slots.rows.self_kv.rows(first, end), self._group_cross_kv.rows(0, count), MAX_GROUP)
        return self._search([lane], [(first, end)], length, sampled=True, starts=True)

    def _search(
        self,
        lanes: Sequence[Lane],
        spans: Sequence[tuple[int, int]],
        length: int,
        *,
        sampled: bool,
        starts: bool,
    ) -> Tensor:
        rows = torch.cat([torch.arange(first, end, device=self._network.device) for first, end in spans])
        state = self._slots.rows.state.gather(rows)
        x = self._network.step(state.token, self._inside(state.position), length, lanes)
        logits = self._network.logits(x)
        if starts:
            state.hear_silence(logits, self._vocabulary)
        filter_logits(logits, state, self._vocabulary)
        likeliest = logits.log_softmax(-1).topk(MAX_GROUP + 1)
        token, logprob = likeliest.indices[:, 0], likeliest.values[:, 0]
        if sampled:
            token, logprob = choose(logits, state.temperature, self.noise[rows])
        chosen = torch.stack([token.float(), logprob, state.no_speech], dim=1)
        return torch.cat([chosen, likeliest.indices.float(), likeliest.values], dim=1)

    def follow(self, group: SequenceGroup, length: int) -> None:
        """Let a group's rows go on as was chosen: rows change places with all that belongs to them, and take their tokens."""
        assert group.next is not None  # noqa: S101  # it was asked for
        tokens, sources = group.next
        moved = [(source, row) for row, source in enumerate(sources) if source != row]
        if moved:
            self._slots.rows.move(
                [group.first_row + source for source, _ in moved],
                [group.first_row + row for _, row in moved],
                self._length(length),
            )
        state = self._slots.rows.state.view(group.first_row, group.first_row + group.size)
        # Their log-probabilities are the search's concern.
        state.append(
            upload(tokens, torch.int64, self._network.device),
            state.sum_logprob.new_zeros(1),
            self._vocabulary,
        )

    def prefill(self, prompts: Sequence[Prompt]) -> None:
        """Let the beginnings of texts go through the network, for rows that have begun."""
        texts = self._bound(len(prompts), TEXTS, TEXTS[-1])
        length = self._bound(max(len(prompt.tokens) for prompt in prompts), PROMPTS, self._n_text_ctx)
        # The first one as often as needed: what it writes then is the same.
        padded = [*prompts, *[prompts[0]] * (texts - len(prompts))]
        inputs = self._given(
            ("prefill", texts, length),
            [
                (
                    *(*prompt.tokens, *[0] * (length - len(prompt.tokens))),
                    *(prompt.row, prompt.slot),
                    prompt.start if prompt.start < len(prompt.tokens) else -1,
                )
                for prompt in padded
            ],
        )
        self._run(("prefill", texts, length), lambda: self._prefill(inputs))

    def _prefill(self, inputs: Tensor) -> Tensor:
        tokens, (rows, windows, starts) = inputs[:, :-3], inputs[:, -3:].unbind(1)
        slots = self._slots
        x = self._network.prefill(tokens, windows, slots.cross_kv, rows, slots.rows.self_kv)
        each = torch.arange(len(inputs), device=self._network.device)
        at_start = self._network.logits(x[each, starts.clamp(min=0)])
        silence = at_start.softmax(-1)[:, self._vocabulary.no_speech]
        silence = torch.where(starts < 0, 0.0, silence)
        slots.rows.state.no_speech[rows] = silence
        return silence

    def first_logits(self, token: int, slots: Sequence[int]) -> Tensor:
        """What windows say after that token alone; float32 (windows or more, n_vocab)."""
        texts = self._bound(len(slots), TEXTS, TEXTS[-1])
        padded = [*slots, *[slots[0]] * (texts - len(slots))]
        inputs = self._given(("first", texts), [(token, slot) for slot in padded])
        return self._run(("first", texts), lambda: self._first_logits(inputs))

    def _first_logits(self, inputs: Tensor) -> Tensor:
        slots = self._slots
        x = self._network.prefill(inputs[:, :1], inputs[:, 1], slots.cross_kv, None, slots.rows.self_kv)
        return self._network.logits(x[:, 0])

    def _given(self, key: Hashable, values: Sequence[Sequence[int]]) -> Tensor:
        """Values on the device, for a pass that may have been recorded: always at the same place."""
        here = upload(values, torch.int64, self._network.device)
        if not self._graphs:
            return here
        return self._inputs.setdefault(key, here).copy_(here)

    def _attention(self) -> AbstractContextManager[None]:
        return planned_attention() if self.fixed_shapes else nullcontext()

    def _bound(self, wanted: int, bounds: Sequence[int], most: int) -> int:
        if not self.fixed_shapes:
            return wanted
        return min(most, next((bound for bound in bounds if bound >= wanted), most))

    def _length(self, longest: int) -> int:
        return next((bound for bound in LENGTHS if longest < bound), self._n_text_ctx)

    def _inside(self, position: Tensor) -> Tensor:
        """Rows that nobody looks at go on and on, those that are over for a step or two: not beyond the cache."""
        return position.clamp(max=self._n_text_ctx - 1)

    def rehearse(self) -> None:
        """Each kind of pass, as large as it can be."""
        count, longest = self._slots.count, self._n_text_ctx - 1
        self.decode(count, longest, sampled=True, prompts=True)
        if self.fixed_shapes:
            self._search_all(self._slots.group_rows // MAX_GROUP, self._n_text_ctx)
            rows = range(count, count + MAX_GROUP)
            self._slots.rows.move(rows[::-1], rows, self._n_text_ctx)
        prompt = Prompt([0] * PROMPTS[-1] if self.fixed_shapes else [0], slot=0, row=0, start=0)
        self.prefill([prompt] * TEXTS[-1])
        self.first_logits(0, [0] * TEXTS[-1])

    def record(self) -> int:
        """Record all passes while no row is under way; how many there are."""
        if not self._graphs:
            return 0
        count, groups = self._slots.count, self._slots.group_rows // MAX_GROUP
        lengths = [*LENGTHS, self._n_text_ctx]
        for rows in _bounds(ROWS, count):
            for length in lengths:
                run = partial(self._decode, rows, length, sampled=True, prompts=True)
                self._record(("decode", rows, length), run)
        for number in _bounds(GROUPS, groups):
            for length in lengths:
                self._record(("search", number, length), partial(self._search_all, number, length))
        for texts in TEXTS:
            for length in PROMPTS:
                inputs = self._given(("prefill", texts, length), [(0,) * (length + 3)] * texts)
                self._record(("prefill", texts, length), partial(self._prefill, inputs))
            inputs = self._given(("first", texts), [(0, 0)] * texts)
            self._record(("first", texts), partial(self._first_logits, inputs))
        return len(self._recorded)

    def _record(self, key: Hashable, run: Callable[[], Tensor]) -> None:
        if self._network.device.type == "cpu":
            result = run()
            self._recorded[key] = _Recorded(lambda: result.copy_(run()), result)
            return
        if self._stream is None:
            self._stream, self._pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()
        # What libraries do at first use can't be recorded: once without.
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream), self._attention():
            run()
        torch.cuda.current_stream().wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        try:
            with (
                torch.cuda.graph(
                    graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
                ),
                self._attention(),
            ):
                result = run()
        except RuntimeError as problem:
            # What runs out of memory while it is recorded is told as another error, that recording failed.
            if "out of memory" in f"{problem} {problem.__context__}":
                raise torch.OutOfMemoryError(f"to record {key}: {problem}") from problem
            raise
        self._recorded[key] = _Recorded(graph.replay, result)

    def _run(self, key: Hashable, run: Callable[[], Tensor]) -> Tensor:
        recorded = self._recorded.get(key)
        if recorded is None:
            if self._recorded:  # else it is the rehearsal
                log.warning("a pass that was not recorded, and takes longer: %s", key)
            with self._attention():
                return run()
        recorded.replay()
        return recorded.result


def _bounds(bounds: Sequence[int], most: int) -> list[int]:
    return [*(bound for bound in bounds if bound < most), most]
