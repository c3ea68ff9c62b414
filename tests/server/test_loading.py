"""From settings to a loaded engine: what a model can't do is refused at the start."""

from dataclasses import asdict, replace

import pytest
import torch
import whisper
from whisper.model import ModelDimensions
from whisper_server.config import Settings
from whisper_server.engine import LoadError
from whisper_server.engine.loading import load
from whisper_server.engine.openai_whisper import layers

ENGINES = ("openai-whisper", "faster-whisper")
SETTINGS = replace(Settings(), model="demo", device="cpu", dtype="float32")


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
