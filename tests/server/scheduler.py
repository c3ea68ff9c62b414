"""A scheduler with an engine in a thread of its own, as a server has them."""

import time
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from whisper_server.config import Settings
from whisper_server.engine.checkpoint import load_checkpoint
from whisper_server.engine.ctranslate2.engine import FasterWhisper
from whisper_server.engine.ctranslate2.load import load
from whisper_server.engine.interface import Engine, Samples
from whisper_server.engine.torch.engine import OpenAIWhisper
from whisper_server.engine.torch.load import make_engine, model_info
from whisper_server.scheduling.scheduler import Scheduler
from whisper_server.transcribe.options import Options
from whisper_server.transcribe.transcript import Transcript

from tests.server.driving import samples_of, turn_of
from tests.server.whisper_process import CLIPS, EXAMPLES, table

GREEDY = Options(language="en", temperatures=(0.0,), condition_on_previous_text=False)


HELLO = samples_of(EXAMPLES / "hello.wav")
LONG = np.concatenate([samples_of(CLIPS / name) for name in table(CLIPS / "manifest.tsv")])


class Running:
    """A scheduler with the demo model, and a look at its engine."""

    def __init__(self, library: str) -> None:
        """`library`: as in WHISPER_ENGINE."""
        self.library = library
        self.engine: OpenAIWhisper | FasterWhisper | None = None
        self.scheduler = Scheduler(self._load)
        self.scheduler.start()
        while not self.scheduler.is_ready():
            time.sleep(0.05)

    def _load(self) -> Engine:
        if self.library == "faster-whisper":
            # In its usual int8 the demo says other words now and then, which is no concern of the scheduler's.
            self.engine = load(replace(Settings(), model="demo", device="cpu", dtype="float32"))
            self.engine.windows = 4
            return self.engine
        checkpoint = load_checkpoint("demo", None)
        torch.set_num_threads(1)
        self.engine = make_engine(checkpoint, model_info("demo", checkpoint), torch.float32, "cpu", windows=4)
        return self.engine

    def wait_until_empty(self) -> None:
        """Nothing of any file may be left in the engine."""
        assert self.engine is not None
        deadline = time.monotonic() + 60
        kept = self.scheduler
        while kept._files or kept._dispatcher._asked or self.engine.busy() or self._held():
            assert time.monotonic() < deadline, "windows are still held"
            time.sleep(0.02)

    def _held(self) -> int:
        """How many windows were not given back."""
        if isinstance(self.engine, FasterWhisper):
            return len(self.engine._taken)
        return 4 - self.engine._slots.free if self.engine else 0


running_with = cache(Running)
"""One scheduler for each engine: its threads live as long as the process."""


with_both_engines = pytest.mark.parametrize("running", ["openai-whisper", "faster-whisper"], indirect=True)


def spoken(file: Samples, options: Options, running: Running) -> Transcript:
    with running.scheduler.submit(file, options, turn_of("a")) as job:
        return job.transcript()
