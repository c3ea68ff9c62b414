"""Texts: they wait, join, get a token in each step beside the others, and leave with what was said."""

import logging
import time
from collections import deque
from collections.abc import Iterable
from collections.abc import Sequence as Many

import torch
from torch import Tensor

from whisper_server.engine.interface import Decode, Decoded, DeviceLost, ModelInfo, Stats, Ticket
from whisper_server.engine.tokens import suppressed_tokens
from whisper_server.engine.torch.host_copy import HostCopy, upload
from whisper_server.engine.torch.kv_cache import Slots, Window
from whisper_server.engine.torch.logits import Beginning, Vocabulary
from whisper_server.engine.torch.memory import Limit
from whisper_server.engine.torch.recovery import Done, Failure, Recovery
from whisper_server.engine.torch.runner import Prompt, Runner
from whisper_server.engine.torch.sequence import (
    MAX_GROUP,
    Sequence,
    SequenceGroup,
    is_group,
    make_group,
    make_sequence,
)

log = logging.getLogger(__name__)


class Decoder:
    """The Decodes of one engine."""

    def __init__(
        self,
        runner: Runner,
        slots: Slots,
        vocabulary: Vocabulary,
        info: ModelInfo,
        recovery: Recovery,
        stats: Stats,
        *,
        lag: int,
    ) -> None:
        """`lag`: how many steps later the chosen tokens are looked at."""
        self._runner, self._slots, self._vocabulary, self._info = runner, slots, vocabulary, info
        self._recovery, self._stats, self._lag = recovery, stats, lag
        self._device = slots.rows.state.token.device
        self.waiting: deque[tuple[Ticket, Decode]] = deque()
        self.singles: list[Sequence] = []
        self.groups: list[SequenceGroup] = []
        self._unseen: deque[tuple[list[Sequence | None], HostCopy]] = deque()
        """What single rows have chosen, not yet looked at: whose it is, None where it is nobody's, and Runner.decode's result."""
        self._banned: dict[tuple[int, ...], Tensor] = {}
        self.row_limit = Limit(slots.count)
        self._group_limit = Limit(slots.group_rows)
        """Apart: rows of groups change places for each token, which takes memory that single rows don't need."""
        self._prompt_limit = Limit(runner.texts_at_once)
        self._moves = Limit(1, least=0)
        """Windows that change places in a step: none for a while, where there was no memory for it."""

    def sequences(self) -> list[Sequence]:
        """Texts under way."""
        return [*self.singles, *self.groups]

    def busy(self) -> bool:
        return bool(self.waiting or self._unseen or self.singles or self.groups)

    def cancel(self, ticket: Ticket) -> None:
        for entry in [entry for entry in self.waiting if entry[0] == ticket]:
            self.waiting.remove(entry)
        for sequence in [sequence for sequence in self.sequences() if sequence.ticket == ticket]:
            self._leave(sequence)

    def join(self, done: Done, *, slots_may_move: bool) -> None:
        """Let waiting texts join: single ones at once, groups when there is room for them, in the order they came.

        `slots_may_move`: nobody writes to slots by their numbers.
        """
        joining = self._choose_joining(done, slots_may_move=slots_may_move)
        if joining:
            failure = self._recovery.attempt(lambda: self._begin(joining), self._prompt_limit, len(joining))
            if failure:
                self._take_back(joining, failure, done)

    def _choose_joining(self, done: Done, *, slots_may_move: bool) -> list[Sequence]:
        """Take out of the queue who may join now."""
        joining: list[Sequence] = []
        groups_wait = False
        for entry in list(self.waiting):
            if len(joining) >= self._prompt_limit.now or len(self.sequences()) >= self.row_limit.now:
                break
            ticket, request = entry
            if self._recovery.rests(ticket):
                continue
            if is_group(request) and (groups_wait or len(self.groups) >= self._group_limit.now):
                groups_wait = True
                continue
            try:
                sequence = self._make_sequence(ticket, request, slots_may_move=slots_may_move)
            except DeviceLost:
                raise
            except Exception as problem:  # whatever a request has in it, it concerns that one alone
                self.waiting.remove(entry)
                done.append((ticket, problem.with_traceback(None)))
                continue
            if sequence is None:
                groups_wait = groups_wait or is_group(request)
                continue
            self.waiting.remove(entry)
            if isinstance(sequence, SequenceGroup):
                self.groups.append(sequence)
            else:
                self.singles.append(sequence)
            joining.append(sequence)
        return joining

    def _make_sequence(self, ticket: Ticket, request: Decode, *, slots_may_move: bool) -> Sequence | None:
        """None if there is no room for it. Raises ValueError for what a request can't ask for."""
        check_tokens(self._suppressed(request), "suppress_tokens", self._vocabulary)
        if not is_group(request):
            sequence = make_sequence(
                ticket,
                request,
                self._info,
                device=self._device,
                short_prompts_in_steps=self._runner.fixed_shapes,
            )
            check_tokens(sequence.prompt, "prompt", self._vocabulary)
            there = self._is_in_reach(request.window, slots_may_move=slots_may_move)
            return sequence if there else None
        if request.rows > MAX_GROUP:
            raise ValueError(f"beam_size and best_of can be {MAX_GROUP} at most, not {request.rows}")
        group = make_group(ticket, request, self._info, device=self._device, eot=self._vocabulary.eot)
        check_tokens(group.prompt, "prompt", self._vocabulary)
        first_row = self._slots.take_group(self._runner.rows_of_group(request.rows))
        if first_row is None:
            return None
        group.first_row = first_row
        return group

    def _is_in_reach(self, window: Window, *, slots_may_move: bool) -> bool:
        """Whether the row of a window's slot may decode. Where memory is scarce these are the lowest: it moves to one of them."""
        if window.slot < self.row_limit.now:
            return True
        if not slots_may_move or not self._moves.now:
            return False
        used = {sequence.window.slot for sequence in self.singles}
        place = next((slot for slot in range(self.row_limit.now) if slot not in used), None)
        if place is None:
            return False
        slot, free = window.slot, place
        needed = not self.sequences()
        return (
            self._recovery.attempt(lambda: self._slots.exchange(slot, free), self._moves, 1, needed=needed)
            is None
        )

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
            beginnings += [sequence.beginning(self._info, self._vocabulary)] * count
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

    def _suppressed(self, request: Decode) -> tuple[int, ...]:
        return suppressed_tokens(
            self._info, request.suppress_tokens, no_timestamps=not request.without_timestamps
        )

    def _banned_by(self, request: Decode) -> Tensor:
        tokens = self._suppressed(request)
        if tokens not in self._banned:
            if len(self._banned) >= 64:  # requests choose the tokens: don't keep them all
                self._banned.clear()
            banned = torch.zeros(self._vocabulary.size, dtype=torch.bool)
            banned[list(tokens)] = True
            self._banned[tokens] = upload(banned, torch.bool, self._device)
        return self._banned[tokens]

    def advance(self, done: Done, *, slots_may_move: bool) -> None:
        """One token more for every text."""
        if not self._moves.now:
            self._moves.went_well()
        elif slots_may_move:
            self._recovery.attempt(self._slots.close_gap, self._moves, 1, needed=False)
        begin = time.monotonic()
        rows = len(self.singles) + sum(group.size for group in self.groups)
        looking: list[tuple[list[SequenceGroup], list[int], HostCopy]] = []
        if self.groups:
            groups = list(self.groups)
            failure = self._recovery.attempt(
                lambda: looking.append(self._search()), self._group_limit, len(groups)
            )
            if failure:
                self._take_back(groups, failure, done)
        if self.singles:
            failure = self._recovery.attempt(self._decode, self.row_limit, len(self.sequences()))
            if failure:
                self._take_back(list(self.singles), failure, done)
        for groups, begins, copy in looking:
            self._look_at_groups(groups, begins, copy, done)
        while len(self._unseen) > (self._lag if self.singles else 0):
            self._look(done)
        if rows:
            self._stats.steps += 1
            self._stats.step_rows += rows
            self._stats.step_seconds += time.monotonic() - begin

    def _search(self) -> tuple[list[SequenceGroup], list[int], HostCopy]:
        for group in list(self.groups):
            if group.next is not None:
                self._runner.follow(group, group.position)
                group.next = None
        groups = list(self.groups)
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
        by_slot: list[Sequence | None] = [None] * (max(each.window.slot for each in self.singles) + 1)
        for sequence in self.singles:
            by_slot[sequence.window.slot] = sequence
            if sequence.noise is not None and not sequence.is_in_prompt:
                self._runner.draw(sequence.window.slot, 1, sequence.noise)
        chosen = self._runner.decode(
            len(by_slot),
            # Those that are over, but not yet known to be, go on for a step or two: not beyond the cache.
            min(max(each.position for each in self.singles), self._info.n_text_ctx - 1),
            sampled=any(each.noise is not None for each in self.singles),
            prompts=any(each.is_in_prompt or each.is_at_start for each in self.singles),
        )
        owners = [each if each and not each.is_in_prompt else None for each in by_slot]
        for sequence in self.singles:
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
            self.groups.remove(sequence)
            self._give_back_rows(sequence)
        else:
            self.singles.remove(sequence)

    def _give_back_rows(self, group: SequenceGroup) -> None:
        self._slots.give_back_group(group.first_row, self._runner.rows_of_group(group.size))

    def _take_back(self, sequences: Many[Sequence], failure: Failure, done: Done) -> None:
        """Texts that could not go on begin anew, from their windows, and say the same again.

        How far each came can't be told: noise and keys and values go on at once, what is known of them only after that.
        """
        for sequence in sequences:
            self._leave(sequence)
        entries = [(sequence.ticket, sequence.request) for sequence in sequences]
        self._recovery.again_or_fail(entries, self.waiting, failure, done)


def check_tokens(tokens: Iterable[int], name: str, vocabulary: Vocabulary) -> None:
    """Raises ValueError for a token beyond the table, which would be the end of a GPU's process."""
    highest, lowest = max(tokens, default=0), min(tokens, default=0)
    if highest >= vocabulary.size or lowest < 0:
        raise ValueError(f"{name}: there is no token {highest if highest >= vocabulary.size else lowest}")
