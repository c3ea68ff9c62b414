"""Make test clips: phrases with pauses and a little noise, and a manifest of what is said in them.

usage, in server/: python -m demo_model.clips COUNT SECONDS SEED DIRECTORY

Writes clip-NN.flac (mono, 16 kHz) and manifest.tsv (file, text) into DIRECTORY.
Needs espeak-ng, ffmpeg, numpy and scipy.
"""

import argparse
import random
import subprocess
from pathlib import Path

import numpy as np
from demo_model.synthesize import SAMPLE_RATE, Samples, phrases, speak

NOISE = 10 ** (-75 / 20)  # amplitude; -75 dB of full scale, so that flac stays small


def clip(rng: random.Random, seconds: int) -> tuple[str, Samples]:
    """Return (text, samples): as many whole phrases, 0.2..1 s apart, as fit into `seconds`."""
    noise = np.random.default_rng(rng.getrandbits(32))
    samples = noise.normal(0, NOISE, seconds * SAMPLE_RATE).astype(np.float32)
    texts = []
    end = 0
    for phrase in phrases(rng):
        spoken = speak(phrase)
        start = end + int(rng.uniform(0.2, 1.0) * SAMPLE_RATE)
        end = start + len(spoken)
        if end > len(samples):
            break
        samples[start:end] += spoken
        texts.append(phrase.text)
    return " ".join(texts), samples


def write(samples: Samples, path: Path) -> None:
    """Encode samples into the format that the path's suffix names."""
    pcm = (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
    command = ["ffmpeg", "-v", "error", "-y", "-f", "s16le", "-ar", str(SAMPLE_RATE), "-ac", "1", "-i", "-"]
    subprocess.run([*command, "-bitexact", str(path)], input=pcm, check=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("count", type=int)
    parser.add_argument("seconds", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("directory", type=Path)
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    rng = random.Random(options.seed)
    lines = ["file\ttext"]
    for number in range(options.count):
        text, samples = clip(rng, options.seconds)
        name = f"clip-{number:02}.flac"
        write(samples, options.directory / name)
        lines.append(f"{name}\t{text}")
    (options.directory / "manifest.tsv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
