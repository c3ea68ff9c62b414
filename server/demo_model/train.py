"""Train the demo model from nothing on phrases that synthesize.py made.

usage, in server/: python -m demo_model.train CLIPS.pkl OUT.pt [--width 128] [--phases "2:48:1200:2e-3 ..."]
                   [--from CHECKPOINT.pt]

OUT.pt is a checkpoint of openai-whisper's own format, float16; beside it OUT.head.pt, the helper of the CTC
loss, for going on later with --from. A phase is SECONDS:BATCH:STEPS:RATE: windows grow from 2 s, where
attention is easily found, to Whisper's 30 s.

Why more than cross-entropy: with so little speech the decoder learns a language model and ignores the
sound. A CTC loss makes the encoder hear words by itself, and a loss on the last layer's cross-attention
points each token at the time of its word.
"""

import argparse
import math
import pickle
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from demo_model.windows import FRAMES, Batch, Guide, Windows
from torch import Tensor, nn
from whisper.model import ModelDimensions, Whisper

HEAD_WIDTH = 64
VOCABULARY = 51865
SAVE_EVERY = 300  # steps


class Phase(NamedTuple):
    """Part of the training: window length in seconds, windows a step, steps, highest learning rate."""

    seconds: int
    batch: int
    steps: int
    rate: float


DEFAULT_PHASES = "2:48:1200:2e-3 4:24:1200:2e-3 10:12:1500:1e-3 30:6:1000:5e-4"


class Trainer:
    """The model, its helpers and the losses."""

    def __init__(self, windows: Windows, width: int) -> None:
        heads = width // HEAD_WIDTH
        self.dims = ModelDimensions(
            n_mels=80, n_audio_ctx=1500, n_audio_state=width, n_audio_head=heads, n_audio_layer=2,
            n_vocab=VOCABULARY, n_text_ctx=448, n_text_state=width, n_text_head=heads, n_text_layer=2,
        )  # fmt: skip
        self.windows = windows
        self.used = torch.tensor(windows.used)
        self.model: Any = Whisper(self.dims)
        for name, parameter in self.model.named_parameters():
            if parameter.dim() > 1:
                std = 0.02 if "embedding" in name else 1 / math.sqrt(parameter[0].numel())
                nn.init.normal_(parameter, std=std)
        nn.init.normal_(self.model.decoder.positional_embedding, std=0.02)
        self.embedding = nn.Parameter(torch.randn(len(windows.used), width) * 0.02)
        self.head = nn.Linear(width, len(windows.words) + 1)  # for CTC: its blank, then the words

    def parameters(self) -> list[nn.Parameter]:
        """Everything that is trained; the full embedding is replaced by the used rows of it."""
        named = self.model.named_parameters()
        parameters = [tensor for name, tensor in named if name != "decoder.token_embedding.weight"]
        return [*parameters, self.embedding, *self.head.parameters()]

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return (cross-entropy, CTC, attention)."""
        logits, heard, attention = self._forward(batch.mels, batch.inputs)
        attention_loss = _attention_loss(attention, batch.guides)
        ctc_loss = self._ctc_loss(heard, batch.heard)
        return F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten()), ctc_loss, attention_loss

    def _forward(self, mels: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (B, T, used + 1), the encoder's output, and the last layer's attention (B, T, F).

        Whisper's own forward, but for windows of any length and with the attention in view.
        """
        encoder, decoder = self.model.encoder, self.model.decoder
        hidden = F.gelu(encoder.conv2(F.gelu(encoder.conv1(mels)))).permute(0, 2, 1)
        hidden = hidden + encoder.positional_embedding[: hidden.shape[1]]
        for block in encoder.blocks:
            hidden = block(hidden)
        hidden = encoder.ln_post(hidden)
        state = F.embedding(inputs, self.embedding) + decoder.positional_embedding[: inputs.shape[1]]
        for block in decoder.blocks:
            state = state + block.attn(block.attn_ln(state), mask=decoder.mask)[0]
            cross = block.cross_attn
            query = _heads(cross.query(block.cross_attn_ln(state)), cross.n_head) * HEAD_WIDTH**-0.25
            key = _heads(cross.key(hidden), cross.n_head) * HEAD_WIDTH**-0.25
            attention = (query @ key.transpose(-1, -2)).softmax(-1)
            values = (attention @ _heads(cross.value(hidden), cross.n_head)).transpose(1, 2).flatten(2)
            state = state + cross.out(values)
            state = state + block.mlp(block.mlp_ln(state))
        logits = decoder.ln(state) @ self.embedding.T
        # The unused rows are zero, so each of their logits is: one column stands for all of them.
        unused = torch.full((*logits.shape[:2], 1), math.log(VOCABULARY - len(self.used)))
        return torch.cat([logits, unused], -1), hidden, attention.mean(1)

    def _ctc_loss(self, hidden: Tensor, heard: list[list[int] | None]) -> Tensor:
        rows = [row for row, words in enumerate(heard) if words]
        if not rows:
            return hidden.sum() * 0
        targets = [words for words in heard if words]
        log_probs = self.head(hidden[rows]).log_softmax(-1).transpose(0, 1)
        flat = torch.tensor([word + 1 for words in targets for word in words])
        lengths = torch.full((len(rows),), log_probs.shape[0], dtype=torch.long)
        target_lengths = torch.tensor([len(words) for words in targets])
        return F.ctc_loss(log_probs, flat, lengths, target_lengths, zero_infinity=True)

    def save(self, path: Path) -> None:
        """Write the checkpoint and, beside it, the CTC head."""
        with torch.no_grad():
            weight = self.model.decoder.token_embedding.weight
            weight.zero_()
            weight[self.used] = self.embedding
        state = {name: tensor.half() for name, tensor in self.model.state_dict().items()}
        state.pop("decoder.mask", None)
        torch.save({"dims": vars(self.dims), "model_state_dict": state}, path)
        torch.save(self.head.state_dict(), path.with_suffix(".head.pt"))

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint of `save`, and from its CTC head where it is there."""
        checkpoint = torch.load(path, weights_only=True)
        state = {name: tensor.float() for name, tensor in checkpoint["model_state_dict"].items()}
        self.model.load_state_dict(state, strict=False)
        with torch.no_grad():
            self.embedding.copy_(self.model.decoder.token_embedding.weight[self.used])
        head = path.with_suffix(".head.pt")
        if head.exists():
            self.head.load_state_dict(torch.load(head, weights_only=True))

    def train(self, phases: Sequence[Phase], out: Path) -> None:
        """Run the phases, saving to `out` now and then and at the end."""
        parameters = self.parameters()
        optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98))
        begin = time.monotonic()
        step = 0
        for phase in phases:
            running: list[float] = []
            for number in range(phase.steps):
                for group in optimizer.param_groups:
                    group["lr"] = phase.rate * min(1, (step + 1) / 150) * _schedule(phase, number)
                losses = self.losses(self.windows.batch(phase.batch, phase.seconds))
                cross_entropy, ctc, attention = losses
                optimizer.zero_grad()
                total = cross_entropy + 0.3 * ctc + 0.5 * attention
                total.backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                step += 1
                now = [loss.item() for loss in losses]
                running = (
                    [0.97 * old + 0.03 * new for old, new in zip(running, now, strict=True)]
                    if running
                    else now
                )
                if number % 50 == 0:
                    values = "loss {:.3f} ctc {:.3f} att {:.3f}".format(*running)
                    elapsed = time.monotonic() - begin
                    print(f"{phase.seconds}s step {number}/{phase.steps} {values} {elapsed:.0f}s", flush=True)
                if number % SAVE_EVERY == SAVE_EVERY - 1:
                    self.save(out)
        self.save(out)


def _schedule(phase: Phase, number: int) -> float:
    """Constant at first, then falling along a cosine: to 0.4 for 10 s windows, to 0.1 for 30 s windows."""
    floor = {10: 0.4, 30: 0.1}.get(phase.seconds)
    if floor is None:
        return 1.0
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * number / phase.steps))


def _attention_loss(attention: Tensor, guides: list[list[Guide]]) -> Tensor:
    """How much attention (B, T, F) falls outside the guides, on the tokens that have one."""
    rows, tokens, frames = attention.shape
    low, high = torch.zeros(rows, tokens), torch.zeros(rows, tokens)
    guided = torch.zeros(rows, tokens, dtype=torch.bool)
    for row, row_guides in enumerate(guides):
        for position, guide in enumerate(row_guides[1:][:tokens]):
            if guide:
                low[row, position] = max(0, guide[0] - 0.1) * FRAMES
                high[row, position] = min(frames, (guide[1] + 0.1) * FRAMES)
                guided[row, position] = True
    frame = torch.arange(frames)
    inside = ((frame >= low[..., None]) & (frame <= high[..., None])).float()
    if not guided.any():  # silence only
        return attention.sum() * 0
    return -((attention * inside).sum(-1) + 1e-5).log()[guided].mean()


def _heads(tensor: Tensor, heads: int) -> Tensor:
    """Split channels: (B, T, C) to (B, heads, T, C / heads)."""
    return tensor.view(*tensor.shape[:2], heads, -1).transpose(1, 2)


def _phases(text: str) -> list[Phase]:
    read: tuple[Callable[[str], Any], ...] = (int, int, int, float)
    return [Phase(*(f(x) for f, x in zip(read, part.split(":"), strict=True))) for part in text.split()]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--phases", type=_phases, default=_phases(DEFAULT_PHASES))
    parser.add_argument("--from", dest="start", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    trainer = Trainer(Windows(pickle.loads(options.clips.read_bytes()), random.Random(0)), options.width)
    if options.start:
        trainer.resume(options.start)
    trainer.train(options.phases, options.out)


if __name__ == "__main__":
    main()
