"""What the engine keeps of each text that it is decoding."""

from collections.abc import Sequence as Many
from dataclasses import dataclass, field

import torch

from whisper_server.engine.interface import Decode, Decoded, ModelInfo, Ticket
from whisper_server.engine.tokens import initial_tokens
from whisper_server.engine.torch.kv_cache import Window
from whisper_server.engine.torch.logits import SHORT_PROMPT, Beginning, Vocabulary
from whisper_server.engine.torch.sampling import Beam, BestOf, Candidate, Choice, Search, best

MAX_GROUP = 8
"""Most rows of one group: beams, or samples to choose from."""


@dataclass(eq=False)
class Sequence:
    """A Decode under way, in the row of its window's slot."""

    ticket: Ticket
    request: Decode
    window: Window
    prompt: Many[int]
    start: int
    """Where in the prompt the start of transcript stands."""
    limit: int
    """Most tokens it may sample."""
    position: int
    """Of the token that the next step feeds to the network."""
    noise: torch.Generator | None
    """For sampling at its temperature."""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    over: bool = False

    @property
    def is_in_prompt(self) -> bool:
        """Whether the next step's token is the prompt's, and not to be looked at."""
        return self.position < len(self.prompt) - 1

    @property
    def is_at_start(self) -> bool:
        """Whether the next step hears how likely silence is."""
        return self.position == self.start

    def beginning(self, info: ModelInfo, vocabulary: Vocabulary) -> Beginning:
        """What its rows start with."""
        highest = vocabulary.size
        if self.request.max_initial_timestamp:
            precision = 30 / info.n_audio_ctx
            highest = vocabulary.timestamp_begin + round(self.request.max_initial_timestamp / precision)
        return Beginning(
            token=self.prompt[self.position],
            position=self.position,
            prompt=self.prompt,
            start=self.start,
            timestamps=not self.request.without_timestamps,
            highest_first=highest,
            temperature=self.request.temperature,
        )

    def take(self, token: int, logprob: float, eot: int) -> bool:
        """A token that was chosen; whether that was all."""
        if token != eot:
            self.tokens.append(token)
            self.logprobs.append(logprob)
        return token == eot or len(self.tokens) >= self.limit

    def decoded(self, total: float, no_speech_prob: float) -> Decoded:
        """The answer. `total`: the sum of the log-probabilities, the end's included."""
        return _decoded(Candidate(tuple(self.tokens), tuple(self.logprobs), total), no_speech_prob)


@dataclass(eq=False, kw_only=True)
class SequenceGroup(Sequence):
    """A Decode under way in several rows that share the window: candidates, of which the best will be the answer."""

    search: Search
    first_row: int = -1
    steps: int = 0
    no_speech_prob: float = 0.0
    next: tuple[list[int], list[int]] | None = None
    """What is to be done before the next step: the token of each row, and which row it continues."""

    @property
    def size(self) -> int:
        return self.request.rows

    def take_choices(self, rows: Many[Many[float]]) -> bool:
        """What each row may say next, as Runner.search has it; whether that was all."""
        if not self.steps:
            self.no_speech_prob = rows[0][2]
        choices = [_choice(values) for values in rows]
        self.next = self.search.update(choices)
        self.steps += 1
        return self.search.is_complete() or self.steps >= self.limit

    def decoded_best(self) -> Decoded:
        """The answer."""
        found = best(self.search.candidates(), self.request.length_penalty)
        return _decoded(found, self.no_speech_prob)


def _choice(values: Many[float]) -> Choice:
    token, logprob, _, *likeliest = values
    half = len(likeliest) // 2
    tokens = [int(each) for each in likeliest[:half]]
    return Choice(int(token), logprob, list(zip(tokens, likeliest[half:], strict=True)))


def make_sequence(
    ticket: Ticket,
    request: Decode,
    info: ModelInfo,
    *,
    device: torch.device,
    short_prompts_in_steps: bool,
) -> Sequence:
    """A single text that is about to join. Short prompts may go through the steps, others have been prefilled but for the end."""
    prompt, start = initial_tokens(info, request)
    in_steps = short_prompts_in_steps and len(prompt) <= SHORT_PROMPT
    return Sequence(
        ticket,
        request,
        request.window,
        prompt,
        start,
        limit=_limit(request, prompt, info),
        position=0 if in_steps else len(prompt) - 1,
        noise=_noise(request, device),
    )


def make_group(
    ticket: Ticket, request: Decode, info: ModelInfo, *, device: torch.device, eot: int
) -> SequenceGroup:
    """A group that is about to join, and has no rows yet."""
    prompt, start = initial_tokens(info, request)
    noise = _noise(request, device)
    search = BestOf(request.rows, eot) if noise is not None else Beam(request.rows, request.patience, eot)
    return SequenceGroup(
        ticket,
        request,
        request.window,
        prompt,
        start,
        limit=_limit(request, prompt, info),
        position=len(prompt) - 1,
        noise=noise,
        search=search,
    )


def is_group(request: Decode) -> bool:
    """Whether it takes rows of its own. A single beam finds what a greedy row finds, unless it is patient."""
    return request.rows > 1 or (request.temperature == 0 and (request.patience or 1.0) != 1.0)


def _limit(request: Decode, prompt: Many[int], info: ModelInfo) -> int:
    return min(request.sample_len or info.n_text_ctx // 2, info.n_text_ctx + 1 - len(prompt))


def _noise(request: Decode, device: torch.device) -> torch.Generator | None:
    return torch.Generator(device).manual_seed(request.seed) if request.temperature > 0 else None


def _decoded(found: Candidate, no_speech_prob: float) -> Decoded:
    return Decoded(
        tokens=found.tokens,
        token_logprobs=found.logprobs,
        avg_logprob=found.total / (len(found.tokens) + 1),
        no_speech_prob=no_speech_prob,
    )
