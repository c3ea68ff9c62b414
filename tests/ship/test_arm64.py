"""Every package of the images is published for arm64 too, so that both images can be built on such a machine."""

import os
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Debian bookworm's C library is 2.36.
PLATFORMS = [*(f"manylinux_2_{minor}_aarch64" for minor in range(36, 16, -1)), "manylinux2014_aarch64"]

SOURCE_ONLY = {"openai-whisper": ["more-itertools", "numba", "numpy", "tiktoken", "torch", "tqdm"]}
"""Packages in pure Python that have no wheel, which pip makes anywhere, and what they ask for on arm64."""


@pytest.mark.parametrize("image", ["operator", "server"])
def test_there_are_wheels_for_arm64(image: str, tmp_path: Path) -> None:
    named = tomllib.loads((ROOT / image / "pyproject.toml").read_text())["project"]["dependencies"]
    wanted = [each for name in named for each in SOURCE_ONLY.get(name, [name])]
    done = subprocess.run(
        [
            ROOT / ".venv-release" / "bin" / "python", "-m", "pip", "install", "--dry-run", "--ignore-installed",
            *(f"--platform={platform}" for platform in PLATFORMS),
            "--python-version=3.11", "--only-binary=:all:", f"--target={tmp_path}",
            "--constraint", ROOT / "constraints.txt", *wanted,
        ],
        env=os.environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Would install" in done.stdout
