"""The engine on openai-whisper's weights: continuous batching, where windows join and leave between the steps of the decoder."""

import time
from collections import deque
from collections.abc import Sequence

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
from whisper_server.engine.tokens import alignment_tokens, initial_tokens, suppressed_tokens, tokenizer_of
from whisper_server.engine.torch.alignment import TorchAlignment
from whisper_server.engine.torch.host_copy import HostCopy
from whisper_server.engine.torch.kv_cache import Slots, Window
from whisper_server.engine.torch.logits import Rows, Vocabulary, forbid, greedy
from whisper_server.engine.torch.model import Lane, Network
from whisper_server.engine.torch.sampling import best, sampled
from whisper_server.engine.torch.sequence import MAX_GROUP, Text, is_group

Done = list[tuple[Ticket, Answer]]

MOST_FAILURES = 10
"""Steps without enough memory since the last answer. Each lets fewer texts be under way, down to one; if that needs too much,
nothing helps."""
PREFILL_ROWS = 16
"""Most rows that join in one pass."""


class OpenAIWhisper:
    """Implements engine.Engine."""

    def __init__(
        self,
        network: Network,
        info: ModelInfo,
        *,
        windows: int,
        encode_at_once: int,
        lag: int,
        description: str,
    ) -> None:
        """`lag`: how many steps later the chosen tokens are looked at; 1 keeps a GPU busy meanwhile."""
        self.description, self.info = description, info
        self.stats = Stats()
        self._network, self._device = network, network.device
        chosen = tokenizer_of(info)
        self._vocabulary = Vocabulary(
            size=network.dims.n_vocab,
            eot=chosen.eot,
            timestamp_begin=chosen.timestamp_begin,
            blank=(*chosen.encode(" "), chosen.eot),
        )
        self._no_speech = chosen.no_speech
        self._slots = Slots(network, windows, 2 * MAX_GROUP, self._vocabulary)
        self._encode_at_once, self._lag = encode_at_once, lag
        self._encodes: deque[tuple[Ticket, Encode]] = deque()
        self._detects: deque[tuple[Ticket, Detect]] = deque()
        self._decodes: deque[tuple[Ticket, Decode]] = deque()
        self._aligns: deque[tuple[Ticket, Align]] = deque()
        self._singles: list[Text] = []
        self._groups: list[Text] = []
        self._unseen: deque[tuple[list[Text | None], HostCopy]] = deque()
        """Tokens chosen and not yet looked at: whose they are, and (tokens, sums of log-probabilities), float64 (2, rows)."""
        self._banned: dict[tuple[int, ...], Tensor] = {}
        self._failures = 0
        """Steps that ran out of memory since the last answer."""

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
        for text in [text for text in self._texts() if text.ticket == ticket]:
            self._leave(text)

    def release(self, window: Window) -> None:
        self._slots.give_back(window)
        self.stats.windows_taken -= 1

    def busy(self) -> bool:
        can_encode = bool(self._encodes) and self._slots.free > 0
        waiting = self._detects or self._decodes or self._aligns or self._unseen
        return bool(can_encode or waiting or self._singles or self._groups)

    @torch.inference_mode()
    def step(self) -> Done:
        done: Done = []
        try:
            for work in (self._encode, self._detect, self._join, self._align, self._advance):
                work(done)
            while len(self._unseen) > (self._lag if self._singles or self._groups else 0):
                self._look(done)
        except torch.OutOfMemoryError as problem:
            # Nothing is lost: what was not answered waits again, to be done with less beside it.
            torch.cuda.empty_cache()
            self.stats.out_of_memory += 1
            self._encode_at_once = max(1, self._encode_at_once // 2)
            self._slots.shrink()
            self._failures = 1 if done else self._failures + 1
            if self._failures >= MOST_FAILURES:
                raise DeviceLost(
                    f"out of memory {MOST_FAILURES} times without an answer between: {problem}"
                ) from problem
        except torch.AcceleratorError as problem:
            raise DeviceLost(str(problem).splitlines()[0]) from problem
        else:
            # A step that went well is no progress yet: its texts may begin anew with the next one.
            if done:
                self._failures = 0
        self.stats.rounds += 1
        return done

    def _encode(self, done: Done) -> None:
        count = min(len(self._encodes), self._slots.free, self._encode_at_once)
        if not count:
            return
        waiting = [self._encodes[index] for index in range(count)]
        mel = torch.stack([torch.from_numpy(request.mel) for _, request in waiting])
        begin = time.monotonic()
        kv = self._network.encode(mel.to(self._device))
        self.stats.encoded += count
        self.stats.encode_seconds += time.monotonic() - begin
        for row, (ticket, _) in enumerate(waiting):
            window = self._slots.take()
            self._slots.cross.kv[:, window.slot] = kv[:, row]
            self._encodes.popleft()
            self.stats.windows_taken += 1
            done.append((ticket, window))

    def _detect(self, done: Done) -> None:
        while self._detects:
            ticket, request = self._detects[0]
            chosen = tokenizer_of(self.info, None)
            start = torch.tensor([[chosen.sot]], device=self._device)
            logits = self._prefill(start, [request.window.slot], [request.window])[0, :1]
            codes = dict(zip(chosen.all_language_tokens, chosen.all_language_codes, strict=True))
            chances = self._network.logits(logits)[0, list(codes)].softmax(-1).tolist()
            self._detects.popleft()
            done.append((ticket, dict(zip(codes.values(), chances, strict=True))))

    def _join(self, done: Done) -> None:
        """Let waiting texts join: single ones at once, groups when there is room for them, in the order they came."""
        joining: list[Text] = []
        try:
            self._choose_joining(joining, done)
            if joining:
                self._begin(joining, done)
        except torch.OutOfMemoryError:
            self._take_back(joining)
            raise

    def _choose_joining(self, joining: list[Text], done: Done) -> None:
        """Move waiting texts that may join now to `joining`."""
        groups_wait = False
        waiting = list(self._decodes)
        if self._slots.owed:  # memory is scarce: the lowest rows make the shortest steps
            waiting.sort(key=lambda entry: entry[1].window.slot)
        for entry in waiting:
            if len(joining) == PREFILL_ROWS or len(self._texts()) >= self._slots.count - self._slots.owed:
                return
            ticket, request = entry
            if groups_wait and is_group(request):
                continue
            try:
                self._banned_by(request)
            except IndexError:
                self._decodes.remove(entry)
                done.append(
                    (ticket, ValueError(f"suppress_tokens: there is no token {max(request.suppress_tokens)}"))
                )
                continue
            row = request.window.slot
            if is_group(request):
                free = self._slots.take_group(request.rows)
                if free is None:
                    groups_wait = True
                    continue
                row = free
            self._decodes.remove(entry)
            text = Text.of(ticket, request, self.info, self._vocabulary.eot, row, self._device)
            (self._groups if text.search else self._singles).append(text)
            joining.append(text)

    def _take_back(self, texts: Sequence[Text]) -> None:
        """Let texts wait that there was no memory for. They begin anew, from their windows, and say the same again.

        How far each came can't be told: its search and its noise go on at once, its row and its cache only after that.
        """
        for text in reversed(texts):
            if not text.over:
                self._leave(text)
                self._decodes.appendleft((text.ticket, text.request))

    def _begin(self, joining: list[Text], done: Done) -> None:
        """Prefill: each text's prompt goes through the network, and its first token is chosen."""
        prompts = [initial_tokens(self.info, text.request) for text in joining]
        longest = max(len(tokens) for tokens, _ in prompts)
        padded = torch.tensor([[*tokens, *[0] * (longest - len(tokens))] for tokens, _ in prompts])
        rows = [text.first_row if text.search else text.window.slot for text in joining]
        x = self._prefill(padded.to(self._device), rows, [text.window for text in joining])
        each = torch.arange(len(joining), device=self._device)
        starts = x[each, torch.tensor([start for _, start in prompts], device=self._device)]
        ends = x[each, torch.tensor([text.prompt_length - 1 for text in joining], device=self._device)]
        at_start, at_end = self._network.logits(torch.cat([starts, ends])).split(len(joining))
        silence = at_start.softmax(-1)[:, self._no_speech].tolist()
        all_rows: list[int] = []
        for text, row, no_speech_prob in zip(joining, rows, silence, strict=True):
            text.no_speech_prob = no_speech_prob
            self._prepare(text, row)
            if text.search:
                self._slots.own.kv[:, row + 1 : row + text.size] = self._slots.own.kv[:, row : row + 1]
            all_rows += range(row, row + text.size)
        numbers = torch.tensor(all_rows, device=self._device)
        logits = at_end.repeat_interleave(
            torch.tensor([text.size for text in joining], device=self._device), dim=0
        )
        state = self._slots.rows.gather(numbers)
        self._choose(logits, state, joining, done)
        self._slots.rows.scatter(numbers, state)

    def _prefill(self, tokens: Tensor, rows: Sequence[int], windows: Sequence[Window]) -> Tensor:
        own = [self._slots.own_row(row) for row in rows]
        return self._network.prefill(tokens, own, [self._slots.cross_row(window) for window in windows])

    def _prepare(self, text: Text, row: int) -> None:
        request = text.request
        highest = self._vocabulary.size
        if request.max_initial_timestamp:
            precision = 30 / self.info.n_audio_ctx
            highest = self._vocabulary.timestamp_begin + round(request.max_initial_timestamp / precision)
        for each in range(row, row + text.size):
            self._slots.rows.begin(
                each,
                text.prompt_length - 1,
                timestamps=not request.without_timestamps,
                highest_first=highest,
                banned=self._banned_by(request),
            )

    def _banned_by(self, request: Decode) -> Tensor:
        tokens = suppressed_tokens(
            self.info, request.suppress_tokens, no_timestamps=not request.without_timestamps
        )
        if tokens not in self._banned:
            if len(self._banned) >= 64:  # requests choose the tokens: don't keep them all
                self._banned.clear()
            banned = torch.zeros(self._vocabulary.size, dtype=torch.bool)
            banned[list(tokens)] = True
            self._banned[tokens] = banned.to(self._device)
        return self._banned[tokens]

    def _advance(self, done: Done) -> None:
        """One token more for every text."""
        if not self._singles and not self._groups:
            return
        if not self._encodes:
            self._slots.close_gap()
        begin, rows = time.monotonic(), sum(text.size for text in self._texts())
        try:
            self._decode(done)
        except torch.OutOfMemoryError:
            self._take_back(self._texts())
            raise
        self.stats.steps += 1
        self.stats.step_rows += rows
        self.stats.step_seconds += time.monotonic() - begin

    def _decode(self, done: Done) -> None:
        slots = self._slots
        singles = self._by_slot()
        lanes = [Lane(slots.own.rows(0, len(singles)), slots.cross.rows(0, len(singles)))] if singles else []
        for group in self._groups:
            own = slots.own.rows(group.first_row, group.first_row + group.size)
            lanes.append(Lane(own, slots.cross_row(group.window), group.size))
        numbers = list(range(len(singles)))
        for group in self._groups:
            numbers += range(group.first_row, group.first_row + group.size)
        texts: list[Text | None] = [*singles, *self._groups]
        positions = [text.prompt_length + len(text.tokens) + self._lag for text in texts if text is not None]
        longest = min(max(positions), self.info.n_text_ctx - 1)
        # A tensor from the host waits for what the device has still to do: only groups need one.
        rows = torch.tensor(numbers, device=self._device) if self._groups else None
        state = slots.rows.view(0, len(singles)) if rows is None else slots.rows.gather(rows)
        # A text that is over but not yet known to be goes on for `lag` tokens: not beyond the cache.
        x = self._network.step(
            state.token, state.position.clamp(max=self.info.n_text_ctx - 1), longest, lanes
        )
        self._choose(self._network.logits(x), state, texts, done)
        if rows is not None:
            slots.rows.scatter(rows, state)

    def _by_slot(self) -> list[Text | None]:
        """The single texts, by the slot of their windows; None for a slot whose window waits."""
        texts: list[Text | None] = [None] * (
            max((text.window.slot for text in self._singles), default=-1) + 1
        )
        for text in self._singles:
            texts[text.window.slot] = text
        return texts

    def _choose(self, logits: Tensor, state: Rows, texts: Sequence[Text | None], done: Done) -> None:
        """Choose each row's next token: (rows, n_vocab); `texts` in the order of the rows, a group being as many as its size."""
        forbid(logits, state, self._vocabulary)
        token, logprob = greedy(logits)
        row = 0
        owners: list[Text | None] = []
        reached: list[Text] = []
        for text in texts:
            size = text.size if text else 1
            if text and text.search:
                chosen, sources = text.search.update(logits[row : row + size])
                token[row : row + size] = torch.tensor(chosen, device=self._device)
                self._reorder(text, sources)
                text.tokens.append(chosen[0])  # how many there are is all that counts
                reached.append(text)
            elif text and text.noise is not None:
                token[row : row + 1], logprob[row : row + 1] = sampled(
                    logits[row : row + 1], text.request.temperature, text.noise
                )
            owners += [None if text is None or text.search else text] * size
            row += size
        state.take(token, logprob, self._vocabulary)
        if any(owners):
            self._unseen.append(
                (owners, HostCopy.of(torch.stack([token.double(), state.sum_logprob.double()])))
            )
        for text in reached:
            if text.search and (text.search.is_complete() or len(text.tokens) >= text.limit):
                tokens, total = best(text.search.candidates(), text.request.length_penalty)
                self._finish(text, tokens, total, done)

    def _reorder(self, text: Text, sources: list[int]) -> None:
        if sources == list(range(text.size)):
            return
        rows = slice(text.first_row, text.first_row + text.size)
        index = torch.tensor(sources, device=self._device)
        length = text.prompt_length + len(text.tokens)
        own = self._slots.own.kv[:, rows, :, :length]
        own.copy_(own.index_select(1, index))

    def _look(self, done: Done) -> None:
        """See which tokens were chosen, and which texts are over."""
        owners, values = self._unseen.popleft()
        tokens, sums = values.arrived().tolist()
        for text, number, total in zip(owners, tokens, sums, strict=True):
            if text is None or text.over:
                continue
            token = int(number)
            if token != self._vocabulary.eot:
                text.tokens.append(token)
            if token == self._vocabulary.eot or len(text.tokens) >= text.limit:
                self._finish(text, tuple(text.tokens), total, done)

    def _finish(self, text: Text, tokens: tuple[int, ...], total: float, done: Done) -> None:
        average = total / (len(tokens) + 1)
        done.append(
            (text.ticket, Decoded(tokens=tokens, avg_logprob=average, no_speech_prob=text.no_speech_prob))
        )
        self._leave(text)

    def _leave(self, text: Text) -> None:
        text.over = True
        if text.search:
            self._groups.remove(text)
            self._slots.give_back_group(text.first_row, text.size)
        else:
            self._singles.remove(text)

    def _texts(self) -> list[Text]:
        return [*self._singles, *self._groups]

    def _align(self, done: Done) -> None:
        if not self._aligns:
            return
        ticket, request = self._aligns[0]
        tokens, before = alignment_tokens(self.info, request)
        scores, logits = self._network.attention(
            torch.tensor(tokens, device=self._device), self._slots.cross_row(request.window)
        )
        answer = TorchAlignment.of(
            scores, logits[:, : self._vocabulary.eot], request.text_tokens, before, request.num_frames
        )
        self._aligns.popleft()
        done.append((ticket, answer))
