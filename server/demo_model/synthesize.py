"""Synthesise phrases with espeak-ng: the speech that the demo model was trained on.

usage, in server/: python -m demo_model.synthesize COUNT SEED OUT.pkl

Writes a pickled list of (text, samples): samples are float16, mono, 16 kHz, -1..1, silence trimmed.
Needs espeak-ng, numpy and scipy.
"""

import argparse
import io
import pickle
import random
import subprocess
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly  # type: ignore[import-untyped]

SAMPLE_RATE = 16000
# In this order: it is part of what a seed means.
_VOCABULARY = """
    zero one two three four five six seven eight nine ten hello world the quick brown fox jumps over lazy dog
    open close door window start stop play music red green blue yellow left right up down yes no please thank
    you whisper speech cluster graph node deploy model audio
"""
WORDS = _VOCABULARY.split()
VOICES = ("en-us", "en-gb", "en-us+m3", "en-us+f2", "en-gb+f3", "en-us+m7")
WORDS_A_PHRASE = (1, 2, 3, 3, 4, 4, 5, 6)  # drawn with equal chance: three and four are the most frequent

Samples = NDArray[np.float32]


class Phrase(NamedTuple):
    """What is said, and how: words a minute and espeak's pitch, 0..99."""

    text: str
    voice: str
    speed: int
    pitch: int


def phrases(rng: random.Random) -> Iterator[Phrase]:
    """Yield random phrases without end."""
    while True:
        count = rng.choice(WORDS_A_PHRASE)
        text = " ".join(rng.choice(WORDS) for _ in range(count))
        yield Phrase(text, rng.choice(VOICES), rng.randint(140, 190), rng.randint(35, 65))


def speak(phrase: Phrase) -> Samples:
    """Return `phrase` spoken: mono, 16 kHz, -1..1, without the silence around it."""
    command = ["espeak-ng", "-v", phrase.voice, "-s", str(phrase.speed), "-p", str(phrase.pitch), "--stdout"]
    output = subprocess.run([*command, phrase.text], capture_output=True, check=True).stdout
    with wave.open(io.BytesIO(output)) as file:
        # Streaming its output, espeak-ng can't know the length when it writes the header: read to the end.
        raw, rate = file.readframes(min(file.getnframes(), 10**7)), file.getframerate()
    recorded = np.frombuffer(raw, np.int16).astype(np.float32) / 32768
    samples: Samples = resample_poly(recorded, SAMPLE_RATE, rate).astype(np.float32)
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    return samples[max(0, loud[0] - 400) : loud[-1] + 800]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("count", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    source = phrases(random.Random(options.seed))
    wanted = [next(source) for _ in range(options.count)]
    with ThreadPoolExecutor() as pool:
        spoken = list(pool.map(speak, wanted))
    clips = [(p.text, samples.astype(np.float16)) for p, samples in zip(wanted, spoken, strict=True)]
    options.out.write_bytes(pickle.dumps(clips))
    seconds = sum(map(len, spoken)) / SAMPLE_RATE
    print(f"{len(clips)} phrases, {seconds / len(clips):.2f} s on average")


if __name__ == "__main__":
    main()
