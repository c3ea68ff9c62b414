"""An engine of torch with the demo's model, driven without threads."""

from typing import Any

import torch
from whisper_server.audio.mel import spectrogram
from whisper_server.engine.checkpoint import load_checkpoint
from whisper_server.engine.interface import Decode, Encode, Ticket
from whisper_server.engine.torch.engine import OpenAIWhisper
from whisper_server.engine.torch.load import make_engine, model_info
from whisper_server.transcribe.options import Options

from tests.server.driving import samples_of
from tests.server.whisper_process import EXAMPLES

GREEDY = Options(language="en", temperatures=(0.0,), condition_on_previous_text=False)
HELLO = samples_of(EXAMPLES / "hello.wav")


def demo_engine(windows: int, lag: int = 0, **how: Any) -> OpenAIWhisper:
    checkpoint = load_checkpoint("demo", None)
    info = model_info("demo", checkpoint)
    return make_engine(checkpoint, info, torch.float32, "cpu", windows=windows, lag=lag, **how)


def encoded(engine: OpenAIWhisper, count: int) -> list[Any]:
    """So many windows of one sound."""
    mel = spectrogram(HELLO, 80).beginning()
    for number in range(count):
        engine.submit(number, Encode(mel=mel))
    windows: dict[Ticket, Any] = {}
    while engine.busy():
        windows |= engine.step()
    return [windows[number] for number in range(count)]


def decoded(engine: OpenAIWhisper, requests: dict[Ticket, Decode], steps: int = 10**6) -> dict[Ticket, Any]:
    """What was answered in so many steps at most."""
    for ticket, request in requests.items():
        engine.submit(ticket, request)
    answers: dict[Ticket, Any] = {}
    while engine.busy() and steps:
        answers |= engine.step()
        steps -= 1
    return answers
