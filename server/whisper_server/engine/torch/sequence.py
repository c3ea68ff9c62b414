"""What the engine keeps of each text that it is decoding."""

from dataclasses import dataclass, field

import torch

from whisper_server.engine.interface import Decode, ModelInfo, Ticket
from whisper_server.engine.tokens import initial_tokens
from whisper_server.engine.torch.kv_cache import Window
from whisper_server.engine.torch.sampling import Beam, BestOf, Search

MAX_GROUP = 8
"""Most rows of one group: beams, or samples to choose from."""


@dataclass(eq=False)
class Text:
    """A Decode under way: in one row, that of its window's slot, or in a group of rows that share the window."""

    ticket: Ticket
    request: Decode
    window: Window
    prompt_length: int
    limit: int
    """Most tokens it may sample."""
    no_speech_prob: float = 0.0
    tokens: list[int] = field(default_factory=list)
    noise: torch.Generator | None = None
    """For sampling at its temperature."""
    search: Search | None = None
    """Of a group."""
    first_row: int = -1
    """Of a group."""
    size: int = 1
    over: bool = False

    @staticmethod
    def of(
        ticket: Ticket, request: Decode, info: ModelInfo, eot: int, row: int, device: torch.device
    ) -> "Text":
        """A text that is about to join, in the row of its window or, for a group, from `row` on."""
        tokens, _ = initial_tokens(info, request)
        text = Text(
            ticket=ticket,
            request=request,
            window=request.window,
            prompt_length=len(tokens),
            limit=min(request.sample_len or info.n_text_ctx // 2, info.n_text_ctx + 1 - len(tokens)),
            size=request.rows,
        )
        if request.temperature > 0:
            text.noise = torch.Generator(device).manual_seed(request.seed)
        if is_group(request):
            text.first_row = row
            if text.noise is not None:
                text.search = BestOf(text.size, request.temperature, text.noise, eot)
            else:
                text.search = Beam(text.size, request.patience, eot)
        return text


def is_group(request: Decode) -> bool:
    """Whether it takes rows of its own. A single beam finds what a greedy row finds, unless it is patient."""
    return request.rows > 1 or (request.temperature == 0 and (request.patience or 1.0) != 1.0)
