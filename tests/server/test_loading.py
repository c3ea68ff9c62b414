"""From settings to a loaded engine: as many windows as fit, and what a model or a machine can't do is refused at the start."""

from dataclasses import asdict, replace
from types import ModuleType

import pytest
import torch
import whisper
from whisper.model import ModelDimensions
from whisper_server.config import Settings
from whisper_server.engine import download as weights
from whisper_server.engine.checkpoint import Checkpoint
from whisper_server.engine.ctranslate2 import load as faster_whisper
from whisper_server.engine.interface import LoadError
from whisper_server.engine.load import load
from whisper_server.engine.torch import layers
from whisper_server.engine.torch import load as openai_whisper
from whisper_server.engine.torch.sequence import MAX_GROUP

ENGINES = ("openai-whisper", "faster-whisper")
SETTINGS = replace(Settings(), model="demo", device="cpu", dtype="float32")

LARGE = Checkpoint(ModelDimensions(128, 1500, 1280, 20, 32, 51866, 448, 1280, 20, 32), {}, ())
"""Its shape alone."""
LARGE_CROSS, LARGE_SELF = 245_760_000, 73_400_320
"""Bytes of one row's keys and values in float16: 32 layers, keys and values, 1280 channels, 1500 and 448 positions, 2 bytes."""
DEMO_CROSS, DEMO_SELF = 3_072_000, 917_504
"""The same of the demo in float32: 2 layers, 128 channels, 4 bytes."""
SPARE = 1 << 30


@pytest.fixture(scope="module")
def english_only(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a model that knows English only, which its name does not say."""
    dims = ModelDimensions(80, 1500, 64, 1, 1, 51864, 448, 64, 1, 1)
    path = tmp_path_factory.mktemp("weights") / "mine.pt"
    model = whisper.model.Whisper(dims)
    torch.save({"dims": asdict(dims), "model_state_dict": model.state_dict()}, path)
    return str(path)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_default_language_that_the_model_does_not_know_is_refused(engine: str, english_only: str) -> None:
    settings = replace(SETTINGS, engine=engine)
    message = (
        "WHISPER_LANGUAGE=yue: the model demo knows 99 languages, not this one; .* or use large-v3 or turbo"
    )
    with pytest.raises(LoadError, match=message):
        load(replace(settings, language="yue"))
    with pytest.raises(LoadError, match=r"WHISPER_LANGUAGE=de: .*mine\.pt knows English only; leave it out"):
        load(replace(settings, model=english_only, language="de"))
    assert load(replace(settings, model=english_only, language="en")).info.languages == ("en",)
    assert load(replace(settings, language="su")).info.languages[-1] == "su"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_default_task_that_the_model_was_not_trained_for_is_refused(engine: str, english_only: str) -> None:
    settings = replace(SETTINGS, engine=engine, task="translate")
    with pytest.raises(
        LoadError, match=r"WHISPER_TASK=translate: .*mine\.pt does not translate; use large-v3"
    ):
        load(replace(settings, model=english_only))
    load(settings)


def test_a_cpu_without_bfloat16_is_told_what_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    with pytest.raises(
        LoadError, match="WHISPER_DTYPE=bfloat16: this CPU can't compute in it; use float32 or auto"
    ):
        load(replace(SETTINGS, dtype="bfloat16"))
    # What is not packed computes in anything, if slowly.
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert layers.computes_bfloat16()


def with_free_memory(patch: pytest.MonkeyPatch, loading: ModuleType, size: int) -> None:
    patch.setattr(loading, "free_memory", lambda device: size)


@pytest.mark.parametrize(
    ("windows", "short", "fitting"), [(1, 0, 1), (2, 1, 1), (5, 0, 5), (5, 1, 4), (32, 0, 32), (33, 0, 32)]
)
def test_as_many_windows_as_there_is_memory_for(
    monkeypatch: pytest.MonkeyPatch, windows: int, short: int, fitting: int
) -> None:
    """Beside them two groups of rows, with a cache of their own each."""
    groups = 2 * MAX_GROUP * LARGE_SELF
    free = SPARE + groups + windows * (LARGE_CROSS + LARGE_SELF) - short
    with_free_memory(monkeypatch, openai_whisper, free)
    assert openai_whisper._windows(LARGE, torch.float16, "cuda") == fitting


def test_windows_take_what_was_reckoned_with() -> None:
    demo = weights.load("demo", None)
    info = openai_whisper.model_info("demo", demo)
    one, three = (
        openai_whisper.make_engine(demo, info, torch.float32, "cpu", windows=count)._slots for count in (1, 3)
    )
    taken = [slots.cross.kv.nbytes + slots.own.kv.nbytes for slots in (one, three)]
    assert taken[1] - taken[0] == 2 * openai_whisper.window_bytes(demo, torch.float32)


@pytest.mark.parametrize(("windows", "short", "fitting"), [(1, 0, 1), (2, 1, 1), (5, 0, 5), (40, 0, 40)])
def test_as_many_windows_as_ctranslate2_has_memory_for(
    monkeypatch: pytest.MonkeyPatch, windows: int, short: int, fitting: int
) -> None:
    with_free_memory(monkeypatch, faster_whisper, SPARE + windows * 2 * LARGE_CROSS - short)
    assert faster_whisper._fitting(1280, "cuda") == fitting
    # A CPU computes in float32, twice as wide.
    with_free_memory(monkeypatch, faster_whisper, SPARE + windows * 4 * LARGE_CROSS - short)
    assert faster_whisper._fitting(1280, "cpu") == fitting


def test_a_large_model_without_memory_for_a_window_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    free = SPARE + 2 * MAX_GROUP * LARGE_SELF + LARGE_CROSS + LARGE_SELF - 1
    with_free_memory(monkeypatch, openai_whisper, free)
    with pytest.raises(LoadError) as refusal:
        openai_whisper._windows(LARGE, torch.float16, "cuda")
    assert str(refusal.value) == (
        "the GPU has no memory left for a single window beside the model's weights: a window takes 304 MiB, "
        "2144 MiB more are needed, 2448 MiB are free; use a smaller model or a larger GPU"
    )
    with_free_memory(monkeypatch, faster_whisper, SPARE + 2 * LARGE_CROSS - 1)
    with pytest.raises(LoadError) as refusal:
        faster_whisper._fitting(1280, "cuda")
    assert str(refusal.value) == (
        "the GPU has no memory left for a single window beside the model's weights: a window takes 468 MiB, "
        "1024 MiB more are needed, 1492 MiB are free; use a smaller model or a larger GPU"
    )


@pytest.mark.parametrize(
    ("engine", "loading", "one", "windows"),
    [
        ("openai-whisper", openai_whisper, 17 * DEMO_SELF + DEMO_CROSS, 1),
        # Encoded windows lie in the machine's memory: while one is decoded, the next can be there.
        ("faster-whisper", faster_whisper, 2 * DEMO_CROSS, 2),
    ],
    ids=ENGINES,
)
def test_a_server_with_room_for_one_window_starts_and_with_less_it_does_not(
    monkeypatch: pytest.MonkeyPatch, engine: str, loading: ModuleType, one: int, windows: int
) -> None:
    with_free_memory(monkeypatch, loading, SPARE + one)
    assert load(replace(SETTINGS, engine=engine)).windows == windows
    with_free_memory(monkeypatch, loading, SPARE + one - 1)
    message = "machine has no memory left for a single window .* use a smaller model or a larger machine"
    with pytest.raises(LoadError, match=message):
        load(replace(SETTINGS, engine=engine))
