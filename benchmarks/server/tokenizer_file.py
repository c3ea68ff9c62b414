"""openai-whisper's tokenizer in the file format of the library that faster-whisper reads it with, so that it fetches none."""

import itertools
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from whisper.tokenizer import get_tokenizer


def write(path: Path) -> None:
    """Write tokenizer.json of the multilingual models."""
    encoding = get_tokenizer(True, num_languages=99).encoding
    ranks = encoding._mergeable_ranks
    names = {token: _printable(token) for token in ranks}
    vocabulary = {names[token]: rank for token, rank in ranks.items()}
    merges = [
        (names[left], names[right])
        for token, rank in sorted(ranks.items(), key=lambda item: item[1])
        if len(token) > 1
        for left, right in [_parts(ranks, token, rank)]
    ]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = sorted(encoding._special_tokens.items(), key=lambda item: item[1])
    tokenizer.add_tokens([_filler(number) for number in range(len(ranks), special[0][1])])
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name, _ in special])
    for name, number in special:
        if tokenizer.token_to_id(name) != number:
            raise ValueError(f"{name} would be {tokenizer.token_to_id(name)} instead of {number}")
    tokenizer.save(str(path))


def _filler(number: int) -> AddedToken:
    return AddedToken(f"<|unused-{number}|>")


def _printable(token: bytes) -> str:
    return "".join(_BYTES[byte] for byte in token)


def _byte_names() -> dict[int, str]:
    """GPT-2's way to write bytes: as they are where they can be printed, else from 256 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + n) for n, byte in enumerate(hidden)}


_BYTES = _byte_names()


def _parts(ranks: dict[bytes, int], token: bytes, below: int) -> tuple[bytes, bytes]:
    """The two tokens that this one is merged from: those that are left when all merges before it are done."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        pairs = [ranks.get(left + right, below) for left, right in itertools.pairwise(parts)]
        best = pairs.index(min(pairs))
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts[0], parts[1]
