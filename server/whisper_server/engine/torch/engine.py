"""The engine on openai-whisper's weights: continuous batching, where windows join and leave between the steps of the decoder.

Here are its queues, and in which order a step does what waits in them. What a pass through the network is, `runner` knows.
"""

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Sequence as Many
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

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
from whisper_server.engine.tokens import alignment_tokens, suppressed_tokens, tokenizer_of
from whisper_server.engine.torch.alignment import TorchAlignment, align
from whisper_server.engine.torch.host_copy import HostCopy, upload
from whisper_server.engine.torch.kv_cache import Slots, Window
from whisper_server.engine.torch.layers import planned_attention
from whisper_server.engine.torch.logits import Beginning, Vocabulary
from whisper_server.engine.torch.memory import Limit
from whisper_server.engine.torch.model import Network
from whisper_server.engine.torch.runner import Prompt, Runner
from whisper_server.engine.torch.sequence import (
    MAX_GROUP,
    Sequence,
    SequenceGroup,
    is_group,
    make_group,
    make_sequence,
)

Done = list[tuple[Ticket, Answer]]
R = TypeVar("R", Encode, Detect, Decode, Align)

TRIES = 12
"""How often a request that needs more memory than there is, alone, is tried."""
MOST_FAILURES = 3 * TRIES
"""How often memory may run out without a text between: then it is not this request or that one."""

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


@dataclass(frozen=True)
class Failure:
    """What went wrong."""

    problem: Exception
    out_of_memory: bool


_NOBODY = object()
"""The ticket of a request that was cancelled when it was too late to take it out."""


@dataclass(eq=False)
class _Encoding:
    """An encoder's run under way."""

    entries: list[tuple[Ticket, Encode]]
    windows: list[Window]
    run: Iterator[None] | None = None
    is_over: bool = False


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
        chosen = tokenizer_of(info)
        self._vocabulary = Vocabulary(
            size=network.dims.n_vocab,
            eot=chosen.eot,
            timestamp_begin=chosen.timestamp_begin,
            no_speech=chosen.no_speech,
            blank=(*chosen.encode(" "), chosen.eot),
        )
        self._sizes = sizes
        self._slots = Slots(
            network.cache_shape,
            self._vocabulary,
            count=sizes.windows,
            group_rows=sizes.groups * MAX_GROUP,
            n_audio_ctx=network.dims.n_audio_ctx,
            n_text_ctx=network.dims.n_text_ctx,
        )
        self._runner = Runner(
            network, self._slots, self._vocabulary, fixed_shapes=sizes.fixed_shapes, graphs=sizes.graphs
        )
        self._encodes: deque[tuple[Ticket, Encode]] = deque()
        self._detects: deque[tuple[Ticket, Detect]] = deque()
        self._decodes: deque[tuple[Ticket, Decode]] = deque()
        self._aligns: deque[tuple[Ticket, Align]] = deque()
        self._encoding: _Encoding | None = None
        self._singles: list[Sequence] = []
        self._groups: list[SequenceGroup] = []
        self._unseen: deque[tuple[list[Sequence | None], HostCopy]] = deque()
        """What single rows have chosen, not yet looked at: whose it is, None where it is nobody's, and Runner.decode's result."""
        self._coming: deque[_Coming] = deque()
        self._step = 0
        self._banned: dict[tuple[int, ...], Tensor] = {}
        self._encode_limit = Limit(sizes.encode_at_once)
        self._row_limit = Limit(sizes.windows)
        self._prompt_limit = Limit(self._runner.texts_at_once)
        self._one = Limit(1)
        self._tries: Counter[Ticket] = Counter()
        """How often those were tried that found no memory alone."""
        self._failures = 0
        """How often memory ran out since the last text."""

    @property
    def windows(self) -> int:
        return self._slots.count

    def submit(self, ticket: Ticket, request: Request) -> None:
        match request:
            case Encode():
                self._encodes.append((ticket, request))
            case Detect():
                self._detects.append((ticket, request))
            case Decode():
                self._decodes.append((ticket, request))
            case Align():
                self._aligns.append((ticket, request))

    def cancel(self, ticket: Ticket) -> None:
        for waiting in (self._encodes, self._detects, self._decodes, self._aligns):
            for entry in [entry for entry in waiting if entry[0] == ticket]:
                waiting.remove(entry)  # type: ignore[arg-type]
        if self._encoding:
            for place, (encoded, _) in enumerate(self._encoding.entries):
                if encoded == ticket:
                    # The encoder writes to its slot until the run is over.
                    self._encoding.entries[place] = (_NOBODY, self._encoding.entries[place][1])
        for coming in [coming for coming in self._coming if coming.ticket == ticket]:
            self._coming.remove(coming)
        for sequence in [sequence for sequence in self._sequences() if sequence.ticket == ticket]:
            self._leave(sequence)
        self._tries.pop(ticket, None)

    def release(self, window: Window) -> None:
        self._slots.give_back(window)
        self._count_windows()

    def _count_windows(self) -> None:
        self.stats.windows_taken = self._slots.count - self._slots.free

    def busy(self) -> bool:
        can_encode = bool(self._encodes) and self._slots.free > 0
        waiting = self._detects or self._decodes or self._aligns or self._unseen or self._coming
        return bool(can_encode or self._encoding or waiting or self._sequences())

    @torch.inference_mode()
    def step(self) -> Done:
        done: Done = []
        self._step += 1
        for work in (self._encode, self._detect, self._join, self._align, self._advance, self._collect):
            work(done)
        for ticket, answer in done:
            self._tries.pop(ticket, None)
            if isinstance(answer, Decoded):
                self._failures = 0
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
        dims, slots = self._network.dims, self._slots
        count = self._sizes.encode_at_once
        while count:
            mel = torch.zeros((count, dims.n_mels, 2 * dims.n_audio_ctx))
            each = [number % slots.count for number in range(count)]
            encoding = self._network.encode(
                upload(mel, torch.float32, self._device),
                slots.cross_kv,
                upload(each, torch.int64, self._device),
                layers_at_once=dims.n_audio_layer,
            )
            with planned_attention() if self._sizes.fixed_shapes else nullcontext():
                for _ in encoding:
                    pass
            count = count // 2 if self._sizes.fixed_shapes else 0
        self._runner.rehearse()
        self._listen([0] * dims.n_text_ctx, [0] * 8, 0, 2 * dims.n_audio_ctx, slot=0)()

    @torch.inference_mode()
    def record(self) -> None:
        """Record the passes that a GPU replays. For a new engine; raises torch.OutOfMemoryError."""
        if recorded := self._runner.record():
            log.info("recorded %d passes of the decoder", recorded)
        self._count_memory()

    def _count_memory(self) -> None:
        if self._device.type == "cuda":
            self.stats.memory_bytes = torch.cuda.memory_reserved()

    def _encode(self, done: Done) -> None:
        """Begin an encoder's run, or go on with it: to its end if nobody waits for the next token."""
        if self._encoding is None:
            count = min(len(self._encodes), self._slots.free, self._encode_limit.now)
            if not count:
                return
            if self._sizes.fixed_shapes:
                count = 1 << count.bit_length() - 1
            entries = [self._encodes.popleft() for _ in range(count)]
            self._encoding = _Encoding(entries, [self._slots.take() for _ in entries])
        encoding = self._encoding
        begin = time.monotonic()
        failure = self._attempt(lambda: self._go_on(encoding), self._encode_limit, len(encoding.entries))
        self.stats.encode_seconds += time.monotonic() - begin
        if failure:
            for window in encoding.windows:
                self._slots.give_back(window)
            wanted = [entry for entry in encoding.entries if entry[0] is not _NOBODY]
            self._again_or_fail(wanted, self._encodes, failure, done)
        if failure or encoding.is_over:
            self._encoding = None
        if encoding.is_over:
            self.stats.encoded += len(encoding.entries)
            for (ticket, _), window in zip(encoding.entries, encoding.windows, strict=True):
                if ticket is _NOBODY:
                    self._slots.give_back(window)
                else:
                    done.append((ticket, window))

    def _go_on(self, encoding: _Encoding) -> None:
        if encoding.run is None:
            mel = torch.stack([torch.from_numpy(request.mel) for _, request in encoding.entries])
            slots = [window.slot for window in encoding.windows]
            layers = self._network.dims.n_audio_layer
            encoding.run = self._network.encode(
                upload(mel, torch.float32, self._device),
                self._slots.cross_kv,
                upload(slots, torch.int64, self._device),
                layers_at_once=math.ceil(layers / self._sizes.encode_in),
            )
        with planned_attention() if self._sizes.fixed_shapes else nullcontext():
            for _ in encoding.run:
                if self._sequences():
                    return
        encoding.is_over = True

    def _detect(self, done: Done) -> None:
        count = min(len(self._detects), self._prompt_limit.now)
        if not count:
            return
        entries = [self._detects.popleft() for _ in range(count)]
        chosen = tokenizer_of(self.info, None)
        codes = dict(zip(chosen.all_language_tokens, chosen.all_language_codes, strict=True))
        arriving: list[HostCopy] = []

        def work() -> None:
            logits = self._runner.first_logits(chosen.sot, [request.window.slot for _, request in entries])
            languages = logits.index_select(1, upload(list(codes), torch.int64, self._device))
            arriving.append(HostCopy.of(languages.softmax(-1)))

        failure = self._attempt(work, self._prompt_limit, count)
        if failure:
            self._again_or_fail(entries, self._detects, failure, done)
            return
        for row, (ticket, _) in enumerate(entries):

            def arrived(row: int = row) -> Answer:
                return dict(zip(codes.values(), arriving[0].arrived()[row].tolist(), strict=True))

            self._coming.append(_Coming(ticket, self._step, arrived))

    def _join(self, done: Done) -> None:
        """Let waiting texts join: single ones at once, groups when there is room for them, in the order they came."""
        joining = self._choose_joining(done)
        if joining:
            failure = self._attempt(lambda: self._begin(joining), self._prompt_limit, len(joining))
            if failure:
                self._take_back(joining, failure, done)

    def _choose_joining(self, done: Done) -> list[Sequence]:
        """Take out of the queue who may join now."""
        joining: list[Sequence] = []
        groups_wait = False
        for entry in list(self._decodes):
            if len(joining) >= self._prompt_limit.now or len(self._sequences()) >= self._row_limit.now:
                break
            ticket, request = entry
            if groups_wait and is_group(request):
                continue
            try:
                sequence = self._make_sequence(ticket, request)
            except Exception as problem:  # whatever a request has in it, it concerns that one alone
                self._decodes.remove(entry)
                done.append((ticket, problem.with_traceback(None)))
                continue
            if sequence is None:
                groups_wait = groups_wait or is_group(request)
                continue
            self._decodes.remove(entry)
            if isinstance(sequence, SequenceGroup):
                self._groups.append(sequence)
            else:
                self._singles.append(sequence)
            joining.append(sequence)
        return joining

    def _make_sequence(self, ticket: Ticket, request: Decode) -> Sequence | None:
        """None if there is no room for it. Raises ValueError for tokens that there aren't."""
        self._banned_by(request)
        if not is_group(request):
            sequence = make_sequence(
                ticket,
                request,
                self.info,
                device=self._device,
                short_prompts_in_steps=self._sizes.fixed_shapes,
            )
            self._check(sequence.prompt, "prompt")
            return sequence if self._is_in_reach(request.window) else None
        if request.rows > MAX_GROUP:
            raise ValueError(f"beam_size and best_of can be {MAX_GROUP} at most, not {request.rows}")
        first_row = self._slots.take_group(self._runner.rows_of_group(request.rows))
        if first_row is None:
            return None
        group = make_group(
            ticket, request, self.info, device=self._device, first_row=first_row, eot=self._vocabulary.eot
        )
        try:
            self._check(group.prompt, "prompt")
        except ValueError:
            self._give_back_rows(group)
            raise
        return group

    def _check(self, tokens: Iterable[int], name: str) -> None:
        """A token beyond the table would be the end of a GPU's process."""
        highest, lowest = max(tokens, default=0), min(tokens, default=0)
        if highest >= self._vocabulary.size or lowest < 0:
            wrong = highest if highest >= self._vocabulary.size else lowest
            raise ValueError(f"{name}: there is no token {wrong}")

    def _is_in_reach(self, window: Window) -> bool:
        """Whether the row of a window's slot may decode. Where memory is scarce these are the lowest: it moves to one of them."""
        if window.slot < self._row_limit.now:
            return True
        if self._encoding:
            return False  # it writes to slots by their numbers
        used = {sequence.window.slot for sequence in self._singles}
        place = next((slot for slot in range(self._row_limit.now) if slot not in used), None)
        if place is None:
            return False
        slot, free = window.slot, place
        return self._attempt(lambda: self._slots.exchange(slot, free), self._one, 1) is None

    def _begin(self, joining: list[Sequence]) -> None:
        """Give texts their rows, and let the prompts of those whose steps begin at the end go through the network."""
        rows: list[int] = []
        beginnings: list[Beginning] = []
        banned: list[Tensor] = []
        prompts: list[Prompt] = []
        for sequence in joining:
            first, count = sequence.window.slot, 1
            if isinstance(sequence, SequenceGroup):
                first, count = sequence.first_row, self._runner.rows_of_group(sequence.size)
                self._runner.place_group(sequence)
            rows += range(first, first + count)
            beginnings += [sequence.beginning(self.info, self._vocabulary)] * count
            banned += [self._banned_by(sequence.request)] * count
            if sequence.position:
                tokens = sequence.prompt[: sequence.position]
                prompts.append(Prompt(tokens, sequence.window.slot, first, sequence.start))
        self._slots.rows.begin(rows, beginnings, torch.stack(banned))
        if prompts:
            self._runner.prefill(prompts)
        for sequence in joining:
            if isinstance(sequence, SequenceGroup) and sequence.size > 1 and sequence.position:
                first = sequence.first_row
                others = list(range(first + 1, first + sequence.size))
                self._slots.rows.move([first] * len(others), others, sequence.position)

    def _banned_by(self, request: Decode) -> Tensor:
        tokens = suppressed_tokens(
            self.info, request.suppress_tokens, no_timestamps=not request.without_timestamps
        )
        if tokens not in self._banned:
            self._check(tokens, "suppress_tokens")
            if len(self._banned) >= 64:  # requests choose the tokens: don't keep them all
                self._banned.clear()
            banned = torch.zeros(self._vocabulary.size, dtype=torch.bool)
            banned[list(tokens)] = True
            self._banned[tokens] = upload(banned, torch.bool, self._device)
        return self._banned[tokens]

    def _align(self, done: Done) -> None:
        if not self._aligns:
            return
        ticket, request = self._aligns.popleft()

        def work() -> None:
            self._check(request.text_tokens, "text_tokens")
            tokens, before = alignment_tokens(self.info, request)
            arrived = self._listen(
                tokens, request.text_tokens, before, request.num_frames, request.window.slot
            )
            self._coming.append(_Coming(ticket, self._step, arrived))

        failure = self._attempt(work, self._one, 1)
        if failure:
            self._again_or_fail([(ticket, request)], self._aligns, failure, done)

    def _listen(
        self, tokens: list[int], text_tokens: Many[int], before: int, num_frames: int, slot: int
    ) -> Callable[[], TorchAlignment]:
        heard = self._network.listen(
            upload(tokens, torch.int64, self._device), self._slots.cross_kv.rows(slot, slot + 1)
        )
        heads = len(self._network.alignment_heads)
        return align(heard, heads, text_tokens, before, num_frames, self._vocabulary.eot)

    def _advance(self, done: Done) -> None:
        """One token more for every text."""
        if not self._encodes and not self._encoding:
            self._attempt(self._slots.close_gap, self._one, 1)
        begin = time.monotonic()
        rows = len(self._singles) + sum(group.size for group in self._groups)
        looking: list[tuple[list[SequenceGroup], list[int], HostCopy]] = []
        if self._groups:
            groups = list(self._groups)
            failure = self._attempt(
                lambda: looking.append(self._search(done)), self._row_limit, len(self._sequences())
            )
            if failure:
                self._take_back(groups, failure, done)
        if self._singles:
            failure = self._attempt(self._decode, self._row_limit, len(self._sequences()))
            if failure:
                self._take_back(list(self._singles), failure, done)
        for groups, begins, copy in looking:
            self._look_at_groups(groups, begins, copy, done)
        while len(self._unseen) > (self._sizes.lag if self._singles else 0):
            self._look(done)
        if rows:
            self.stats.steps += 1
            self.stats.step_rows += rows
            self.stats.step_seconds += time.monotonic() - begin

    def _search(self, done: Done) -> tuple[list[SequenceGroup], list[int], HostCopy]:
        for group in list(self._groups):
            if group.next is not None:
                self._runner.follow(group, group.position)
                group.next = None
        groups = list(self._groups)
        for group in groups:
            if group.noise is not None:
                self._runner.draw(group.first_row, group.size, group.noise)
        found, begins = self._runner.search(
            groups,
            max(group.position for group in groups),
            sampled=any(group.noise is not None for group in groups),
            starts=any(group.is_at_start for group in groups),
        )
        for group in groups:
            group.position += 1
        return groups, begins, HostCopy.of(found)

    def _look_at_groups(
        self, groups: list[SequenceGroup], begins: list[int], copy: HostCopy, done: Done
    ) -> None:
        values = copy.arrived().tolist()
        for group, begin in zip(groups, begins, strict=True):
            if group.over:
                continue
            try:
                if group.take_choices(values[begin : begin + group.size]):
                    self._finish(group, group.decoded_best(), done)
            except Exception as problem:
                self._fail(group, problem, done)

    def _decode(self) -> None:
        by_slot: list[Sequence | None] = [None] * (max(each.window.slot for each in self._singles) + 1)
        for sequence in self._singles:
            by_slot[sequence.window.slot] = sequence
            if sequence.noise is not None and not sequence.is_in_prompt:
                self._runner.draw(sequence.window.slot, 1, sequence.noise)
        chosen = self._runner.decode(
            len(by_slot),
            # Those that are over, but not yet known to be, go on for a step or two: not beyond the cache.
            min(max(each.position for each in self._singles), self.info.n_text_ctx - 1),
            sampled=any(each.noise is not None for each in self._singles),
            prompts=any(each.is_in_prompt or each.is_at_start for each in self._singles),
        )
        owners = [each if each and not each.is_in_prompt else None for each in by_slot]
        for sequence in self._singles:
            sequence.position += 1
        self._unseen.append((owners, HostCopy.of(chosen)))

    def _look(self, done: Done) -> None:
        """See which tokens single rows have chosen, and which texts are over."""
        owners, copy = self._unseen.popleft()
        for sequence, values in zip(owners, copy.arrived().tolist(), strict=False):
            if sequence is None or sequence.over:
                continue
            token, logprob, total, no_speech_prob = values
            try:
                if sequence.take(int(token), logprob, self._vocabulary.eot):
                    self._finish(sequence, sequence.decoded(total, no_speech_prob), done)
            except Exception as problem:
                self._fail(sequence, problem, done)

    def _collect(self, done: Done) -> None:
        """Answers that have arrived from the device; while it has other work, those that were asked for in the last step."""
        for coming in list(self._coming):
            if coming.step < self._step or not self._sizes.lag or not self._sequences():
                self._coming.remove(coming)
                try:
                    done.append((coming.ticket, coming.arrived()))
                except torch.AcceleratorError as problem:
                    raise DeviceLost(str(problem).splitlines()[0]) from problem
                except Exception as problem:
                    done.append((coming.ticket, problem.with_traceback(None)))

    def _finish(self, sequence: Sequence, decoded: Decoded, done: Done) -> None:
        done.append((sequence.ticket, decoded))
        self._leave(sequence)

    def _fail(self, sequence: Sequence, problem: Exception, done: Done) -> None:
        log.error("a text could not be decoded, its request alone fails", exc_info=problem)
        done.append((sequence.ticket, problem.with_traceback(None)))
        self._leave(sequence)

    def _leave(self, sequence: Sequence) -> None:
        sequence.over = True
        if isinstance(sequence, SequenceGroup):
            self._groups.remove(sequence)
            self._give_back_rows(sequence)
        else:
            self._singles.remove(sequence)

    def _give_back_rows(self, group: SequenceGroup) -> None:
        self._slots.give_back_group(group.first_row, self._runner.rows_of_group(group.size))

    def _sequences(self) -> list[Sequence]:
        return [*self._singles, *self._groups]

    def _take_back(self, sequences: Many[Sequence], failure: Failure, done: Done) -> None:
        """Texts that could not go on begin anew, from their windows, and say the same again.

        How far each came can't be told: noise and keys and values go on at once, what is known of them only after that.
        """
        for sequence in sequences:
            self._leave(sequence)
        entries = [(sequence.ticket, sequence.request) for sequence in sequences]
        self._again_or_fail(entries, self._decodes, failure, done)

    def _again_or_fail(
        self, entries: Many[tuple[Ticket, R]], queue: deque[tuple[Ticket, R]], failure: Failure, done: Done
    ) -> None:
        """Requests that failed together are tried again with less beside them; one alone is answered with what went wrong."""
        if len(entries) == 1:
            ((ticket, _),) = entries
            self._tries[ticket] += 1
            if not failure.out_of_memory or self._tries[ticket] >= TRIES:
                log.error("a request failed, alone", exc_info=failure.problem)
                done.append((ticket, failure.problem.with_traceback(None)))
                return
        queue.extendleft(reversed(entries))

    def _attempt(self, work: Callable[[], None], limit: Limit, count: int) -> Failure | None:
        """Do work for so many requests at once; how it failed, if it did, after which fewer will be tried.

        Raises DeviceLost for what concerns all of them, for ever.
        """
        try:
            work()
        except torch.AcceleratorError as problem:
            raise DeviceLost(str(problem).splitlines()[0]) from problem
        except torch.OutOfMemoryError as problem:
            self.stats.out_of_memory += 1
            self._failures += 1
            if self._failures >= MOST_FAILURES:
                raise DeviceLost(
                    f"out of memory {MOST_FAILURES} times without a text between: {problem}"
                ) from problem
            limit.failed(count)
            log.warning("out of memory with %d at once, trying with %d: %s", count, limit.now, problem)
            failure = Failure(problem, out_of_memory=True)
        except Exception as problem:
            self._check_device(problem)
            limit.failed(count)
            log.warning("failed with %d at once, trying with %d: %r", count, limit.now, problem)
            failure = Failure(problem, out_of_memory=False)
        else:
            limit.went_well()
            return None
        # Only now, as until here the exception's frames kept what they had.
        failure.problem.__traceback__ = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        self._count_memory()
        return failure

    def _check_device(self, problem: Exception) -> None:
        """Raises DeviceLost if the device is of no more use: after some errors, all that is asked of it fails."""
        if self._device.type != "cuda":
            return
        try:
            torch.cuda.synchronize()
        except RuntimeError as lost:
            raise DeviceLost(str(lost).splitlines()[0]) from problem
