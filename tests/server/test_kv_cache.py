"""All that belongs to a row goes where the row goes: its keys and values, and whatever the filters know of it."""

from dataclasses import fields

import torch
from whisper_server.engine.torch.kv_cache import CacheShape, Slots
from whisper_server.engine.torch.logits import Vocabulary


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
