"""All that belongs to a row goes where the row goes: its keys and values, and whatever the filters know of it."""

from dataclasses import fields

import pytest
import torch
from whisper_server.engine.torch import memory
from whisper_server.engine.torch.kv_cache import CacheShape, Rows, Slots
from whisper_server.engine.torch.logits import Vocabulary

from tests.server.demo_engine import demo_engine


def test_rows_move_with_all_that_belongs_to_them() -> None:
    """As beams do, several of which may go on from one; with every field that a row has, also those that are still to come."""
    shape = CacheShape(layers=2, heads=1, width=4, dtype=torch.float32, device=torch.device("cpu"))
    vocabulary = Vocabulary(size=16, eot=8, timestamp_begin=10, no_speech=9, blank=(1,))
    slots = Slots(shape, vocabulary, count=2, group_rows=4, n_audio_ctx=3, n_text_ctx=5)
    state = slots.rows.state
    tensors = {"kv": slots.rows.self_kv.kv} | {
        field.name: getattr(state, field.name) for field in fields(state)
    }
    generator = torch.Generator().manual_seed(0)
    # Until each row differs from the others, as far as it can: a bool has two values.
    for tensor in tensors.values():
        tensor.copy_(torch.randint(0, 1 << 20, tensor.shape, generator=generator))
        if tensor.dtype == torch.bool:
            tensor[3], tensor[4], tensor[5] = False, True, ~tensor[2]
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    slots.rows.move([3, 4, 2], [4, 3, 5], 5)
    for name, tensor in tensors.items():
        order = [0, 1, 2, 4, 3, 2]
        expected = before[name][:, order] if name == "kv" else before[name][order]
        assert not torch.equal(before[name], expected), "the test would see nothing"
        assert torch.equal(tensor, expected), name


def large_slots() -> Slots:
    """Of a model with 29 MiB of keys and values to a row, all of which have been written to."""
    shape = CacheShape(layers=32, heads=4, width=64, dtype=torch.float32, device=torch.device("cpu"))
    vocabulary = Vocabulary(size=100, eot=50, timestamp_begin=60, no_speech=55, blank=(1,))
    slots = Slots(shape, vocabulary, count=2, group_rows=8, n_audio_ctx=64, n_text_ctx=448)
    for cache in (slots.cross_kv, slots.rows.self_kv):
        cache.kv.fill_(1)
    return slots


def test_windows_change_places_without_memory() -> None:
    slots = large_slots()
    lower, upper = slots.take(), slots.take()
    slots.give_back(lower)
    assert memory._most_taken_by(slots.close_gap) < 8 << 20
    assert upper.slot == 0
    slots.take()
    assert memory._most_taken_by(lambda: slots.exchange(0, 1)) < 8 << 20
    assert upper.slot == 1


def test_beams_change_places_in_memory_for_a_layer() -> None:
    """On a CPU, where a machine without memory ends the process; on a GPU that is rehearsed."""
    rows = list(range(2, 10))
    slots = large_slots()
    taken = memory._most_taken_by(lambda: slots.rows.move(rows[::-1], rows, 448))
    assert taken < 16 << 20
    engine = demo_engine(windows=2, fixed_shapes=True)
    moved: list[tuple[int, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Rows, "move", lambda self, sources, targets, length: moved.append((len(targets), length))
        )
        engine.rehearse()
    assert moved == [(8, 448)]
