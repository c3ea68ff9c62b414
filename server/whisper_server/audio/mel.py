"""The log-mel spectrogram of a whole file, and the windows cut from it."""

from dataclasses import dataclass

import numpy as np
import torch
from whisper.audio import HOP_LENGTH, N_FRAMES, log_mel_spectrogram

from whisper_server.engine.interface import Mel, Samples

_SILENT_FRAMES = 4
"""Frames computed beyond the end. The last of them hears nothing but padding, and so would all after it."""


@dataclass(frozen=True)
class Spectrogram:
    """Equal to openai-whisper's, which is computed with 30 s of silence behind the file; here those are not stored."""

    mel: Mel
    """Shape (n_mels, frames + 4)."""
    frames: int
    """How many frames of 10 ms the file has."""

    def window(self, seek: int, size: int) -> Mel:
        """`size` frames from `seek` on, then zeros: what the decoder's window is made from. Shape (n_mels, 3000)."""
        window = np.zeros((self.mel.shape[0], N_FRAMES), np.float32)
        window[:, :size] = self.mel[:, seek : seek + size]
        return window

    def beginning(self) -> Mel:
        """The first 30 s, then silence: what a language is detected from. Shape (n_mels, 3000)."""
        window = np.empty((self.mel.shape[0], N_FRAMES), np.float32)
        there = min(N_FRAMES, self.mel.shape[1])
        window[:, :there] = self.mel[:, :there]
        window[:, there:] = self.mel[:, -1:]
        return window


def spectrogram(samples: Samples, n_mels: int) -> Spectrogram:
    """Compute it; as much memory as 32 values for each 10 ms and mel band for a moment."""
    audio = torch.from_numpy(samples.astype(np.float32) / 32768.0)
    mel = log_mel_spectrogram(audio, n_mels, padding=_SILENT_FRAMES * HOP_LENGTH)
    return Spectrogram(mel.numpy(), len(samples) // HOP_LENGTH)
