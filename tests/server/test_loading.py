"""From settings to a loaded engine: as many windows as fit, and what a model or a machine can't do is refused at the start."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import whisper
from whisper.model import ModelDimensions
from whisper_server import cgroup
from whisper_server.audio import ffmpeg
from whisper_server.config import Settings
from whisper_server.engine import hardware
from whisper_server.engine.alignment_heads import alignment_heads
from whisper_server.engine.checkpoint import Checkpoint, load_checkpoint
from whisper_server.engine.ctranslate2 import load as faster_whisper
from whisper_server.engine.interface import LoadError
from whisper_server.engine.load import load
from whisper_server.engine.torch import layers, memory
from whisper_server.engine.torch import load as openai_whisper
from whisper_server.engine.torch.engine import OpenAIWhisper

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
    return str(checkpoint_file(tmp_path_factory.mktemp("weights") / "mine.pt", vocabulary=51864))


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
def test_a_queue_too_short_for_the_device_is_told(engine: str, caplog: pytest.LogCaptureFixture) -> None:
    """A large card has room for 128 windows, the default queue for 32 requests."""
    settings = replace(SETTINGS, engine=engine)
    windows = load(replace(settings, max_queue=1000)).decoded_at_once
    assert "limits.maxQueue" not in caplog.text
    load(replace(settings, max_queue=windows - 1))
    assert (
        f"{windows} windows of audio fit on the device at once, and only {windows - 1} requests"
        in caplog.text
    )
    assert f"WHISPER_MAX_QUEUE={windows} (of a WhisperEndpoint, limits.maxQueue)" in caplog.text


def test_windows_that_only_wait_need_no_place_in_the_queue(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With CTranslate2 on a GPU half of them do, in the machine's memory: here with one call at once as there."""
    monkeypatch.setitem(faster_whisper.CALLS_AT_ONCE, "cpu", 1)
    rows = faster_whisper.DECODE_AT_ONCE["cpu"]
    engine = load(replace(SETTINGS, engine="faster-whisper", max_queue=rows))
    assert (engine.windows, engine.decoded_at_once) == (2 * rows, rows)
    assert "limits.maxQueue" not in caplog.text


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


@pytest.mark.parametrize("fixed_shapes", [False, True])
def test_windows_take_what_was_reckoned_with(fixed_shapes: bool) -> None:
    demo = load_checkpoint("demo", None)
    info = openai_whisper.model_info("demo", demo)
    one, three = (
        openai_whisper.make_engine(demo, info, torch.float32, "cpu", windows=count, fixed_shapes=fixed_shapes)
        for count in (1, 3)
    )

    def taken(engine: OpenAIWhisper) -> int:
        slots, copies = engine._slots, engine._runner._group_cross_kv
        kept = slots.cross_kv.kv.nbytes + slots.rows.self_kv.kv.nbytes
        return kept + (copies.kv.nbytes if copies else 0)

    assert taken(three) - taken(one) == 2 * one.window_bytes
    assert taken(one) == one.window_bytes + one.group_bytes


@pytest.mark.parametrize(("windows", "short", "fitting"), [(1, 0, 1), (2, 1, 1), (5, 0, 5), (40, 0, 40)])
def test_as_many_windows_as_ctranslate2_has_memory_for(
    monkeypatch: pytest.MonkeyPatch, windows: int, short: int, fitting: int
) -> None:
    with_free_memory(monkeypatch, faster_whisper, SPARE + windows * 2 * LARGE_CROSS - short)
    assert faster_whisper._fitting(32, 1280, "cuda") == fitting
    # A CPU computes in float32, twice as wide.
    with_free_memory(monkeypatch, faster_whisper, SPARE + windows * 4 * LARGE_CROSS - short)
    assert faster_whisper._fitting(32, 1280, "cpu") == fitting


def test_a_large_model_without_memory_for_a_window_is_refused_by_ctranslate2(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_free_memory(monkeypatch, faster_whisper, SPARE + 2 * LARGE_CROSS - 1)
    with pytest.raises(LoadError) as refusal:
        faster_whisper._fitting(32, 1280, "cuda")
    assert str(refusal.value) == (
        "the GPU has no memory left for a single window beside the model's weights: a window takes 468 MiB, "
        "1024 MiB more are needed, 1492 MiB are free; use a smaller model or a larger GPU"
    )


@pytest.mark.parametrize(
    ("engine", "loading", "one", "windows"),
    [
        # Both leave some memory free; here less, and the most work at once takes none.
        ("openai-whisper", memory, 17 * DEMO_SELF + DEMO_CROSS - SPARE + memory.SPARE_MEMORY, 1),
        # Encoded windows lie in the machine's memory: while one is decoded, the next can be there.
        ("faster-whisper", faster_whisper, 2 * DEMO_CROSS, 2),
    ],
    ids=ENGINES,
)
def test_a_server_with_room_for_one_window_starts_and_with_less_it_does_not(
    monkeypatch: pytest.MonkeyPatch, engine: str, loading: ModuleType, one: int, windows: int
) -> None:
    monkeypatch.setattr(memory, "_most_taken_by", lambda work: work() or 0)
    with_free_memory(monkeypatch, loading, SPARE + one)
    assert load(replace(SETTINGS, engine=engine)).windows == windows
    with_free_memory(monkeypatch, loading, SPARE + one - 1)
    message = "machine has no memory left for a single window .* use a smaller model or a larger machine"
    with pytest.raises(LoadError, match=message):
        load(replace(SETTINGS, engine=engine))


def checkpoint_file(
    path: Path, *, vocabulary: int = 51866, layers: tuple[int, int] = (1, 1), heads: int = 1
) -> Path:
    """A model of random weights with so many layers on its two sides."""
    dims = ModelDimensions(80, 1500, 64, heads, layers[0], vocabulary, 448, 64, heads, layers[1])
    model = whisper.model.Whisper(dims)
    torch.save({"dims": asdict(dims), "model_state_dict": model.half().state_dict()}, path)
    return path


@pytest.mark.parametrize("engine", ENGINES)
def test_turbo_is_known_by_its_shape_and_not_by_its_name(engine: str, tmp_path: Path) -> None:
    settings = replace(SETTINGS, engine=engine, task="translate")
    turbo = checkpoint_file(tmp_path / "mine.pt", layers=(32, 4))
    with pytest.raises(
        LoadError, match=r"WHISPER_TASK=translate: .*mine\.pt does not translate; use large-v3"
    ):
        load(replace(settings, model=str(turbo)))
    other = checkpoint_file(tmp_path / "turbo.pt", layers=(2, 2))
    assert load(replace(settings, model=str(other))).info.translates


@pytest.mark.parametrize("name", whisper.available_models())
def test_alignment_heads_of_an_official_model_are_those_that_openai_whisper_sets(name: str) -> None:
    layers, heads = {
        "tiny": (4, 6),
        "base": (6, 8),
        "small": (12, 12),
        "medium": (24, 16),
        "large": (32, 20),
    }["large" if name == "turbo" else re.split("[.-]", name)[0]]
    layers = 4 if "turbo" in name else layers
    dims = ModelDimensions(80, 4, heads, heads, 1, 4, 4, heads, heads, layers)
    model = whisper.model.Whisper(dims)
    assert alignment_heads(dims, None) == as_pairs(model)
    model.set_alignment_heads(whisper._ALIGNMENT_HEADS[name])
    assert alignment_heads(dims, name) == as_pairs(model)


def as_pairs(model: Any) -> tuple[tuple[int, ...], ...]:
    return tuple(map(tuple, model.alignment_heads.coalesce().indices().T.tolist()))


@pytest.mark.parametrize("blocked", [0, 1, 2], ids=["kept beside it", "kept in the cache", "kept nowhere"])
def test_an_official_file_is_recognised_and_not_hashed_at_each_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, blocked: int
) -> None:
    path = checkpoint_file(tmp_path / "mine.pt", vocabulary=51864, layers=(4, 4), heads=6)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(whisper._MODELS, "tiny.en", f"https://example.com/{digest}/tiny.en.pt")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if blocked > 0:
        (tmp_path / ".mine.pt.sha256.json").mkdir()
    if blocked > 1:
        (tmp_path / "cache").touch()
    hashed: list[str] = []
    original = hashlib.file_digest

    def watch(file: Any, kind: str) -> Any:
        hashed.append(file.name)
        return original(file, kind)

    monkeypatch.setattr(hashlib, "file_digest", watch)
    dims = load_checkpoint(str(path), None).dims
    for _ in range(2):
        assert load_checkpoint(str(path), None).alignment_heads == alignment_heads(dims, "tiny.en")
    assert len(hashed) == (1 if blocked < 2 else 3)
    # Another model in its place is seen to be another one.
    checkpoint_file(path, vocabulary=51864, layers=(4, 4), heads=6)
    assert load_checkpoint(str(path), None).alignment_heads == alignment_heads(dims, None)


def test_a_model_of_no_official_shape_is_not_hashed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = checkpoint_file(tmp_path / "mine.pt")
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert load_checkpoint(str(path), None).alignment_heads == ((0, 0),)


CPU_LIMITS = {
    "v2, none": ({"cpu.max": "max 100000"}, 8),
    "v2, half a CPU": ({"cpu.max": "50000 100000"}, 1),
    "v2, two and a half": ({"cpu.max": "250000 100000"}, 2),
    "v2, more than there are": ({"cpu.max": "6400000 100000"}, 8),
    "v1, none": ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
    "v1, three": ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
    "unreadable": ({"cpu.max": "bad"}, 8),
    "no cgroups": ({}, 8),
}


def contained(patch: pytest.MonkeyPatch, folder: Path, files: Mapping[str, str]) -> None:
    """A container with those limits on a machine with eight cores."""
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    patch.setattr(cgroup, "FOLDER", folder)
    patch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    patch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.mark.parametrize(("files", "expected"), CPU_LIMITS.values(), ids=CPU_LIMITS)
def test_a_containers_cpu_limit_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: Mapping[str, str], expected: int
) -> None:
    contained(monkeypatch, tmp_path, files)
    assert cgroup.usable_cpus() == expected
    assert ffmpeg.usable_decoders() == max(2, min(4, expected))


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_computes_with_as_many_threads_as_the_container_may_keep_busy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: str
) -> None:
    """torch's, which all use for spectrograms; that a GPU does the rest changes nothing in that."""
    contained(monkeypatch, tmp_path, {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"})
    before = torch.get_num_threads()
    torch.set_num_threads(8)
    try:
        load(replace(SETTINGS, engine=engine))
        assert torch.get_num_threads() == 1
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        torch.set_num_threads(3)
        load(replace(SETTINGS, engine=engine))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


STAT = "anon 700\nshmem 50\n{0}inactive_file 200\n{0}active_file 100\n"
MEMORY_LIMITS = {
    # What was read from files gives way: of 1,000 bytes 900 are used, 300 of them for that.
    "v2": ({"memory.max": "1000", "memory.current": "900", "memory.stat": STAT.format("")}, 400),
    "v1": (
        {
            "memory/memory.limit_in_bytes": "1000",
            "memory/memory.usage_in_bytes": "900",
            "memory/memory.stat": STAT.format("") + STAT.format("total_"),
        },
        400,
    ),
    "over its limit": ({"memory.max": "1000", "memory.current": "1900", "memory.stat": STAT.format("")}, 0),
    "more than the machine has": (
        {"memory.max": "99999999", "memory.current": "1", "memory.stat": STAT.format("")},
        5 << 10,
    ),
    "none": ({"memory.max": "max", "memory.current": "900", "memory.stat": STAT.format("")}, 5 << 10),
    "no cgroups": ({}, 5 << 10),
}


@pytest.mark.parametrize(("files", "expected"), MEMORY_LIMITS.values(), ids=MEMORY_LIMITS)
def test_a_containers_memory_limit_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: Mapping[str, str], expected: int
) -> None:
    contained(monkeypatch, tmp_path, files)
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:      9 kB\nMemAvailable:      5 kB\n")
    assert hardware.free_memory("cpu", meminfo) == expected
