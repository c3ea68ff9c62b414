"""How one file is to be transcribed: what a request may ask for, by openai-whisper's names where it has one."""

from dataclasses import dataclass

FALLBACK_TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The arguments of openai-whisper's `transcribe` with its defaults, and four of our own: `fast_detection`, `vad`, `parallel`
    and `seed`."""

    language: str | None = None
    """A code such as "en"; None: detect it."""
    fast_detection: bool = False
    """Whether to detect the language from the first window as it is transcribed, instead of with silence behind a short file."""
    task: str = "transcribe"
    """"transcribe", or "translate" into English."""
    initial_prompt: str | None = None
    """Text that precedes the speech."""
    carry_initial_prompt: bool = False
    """Whether the prompt precedes each window, not only the first."""
    condition_on_previous_text: bool = True
    temperatures: tuple[float, ...] = FALLBACK_TEMPERATURES
    """Tried one after the other until a window's result is good enough. Not empty."""
    beam_size: int | None = None
    """At temperature 0; None: greedy."""
    patience: float | None = None
    best_of: int | None = None
    """Samples to choose from at temperatures above 0."""
    length_penalty: float | None = None
    suppress_tokens: tuple[int, ...] = (-1,)
    """-1 stands for openai-whisper's set of symbols that are no speech."""
    compression_ratio_threshold: float | None = 2.4
    logprob_threshold: float | None = -1.0
    no_speech_threshold: float | None = 0.6
    without_timestamps: bool = False
    word_timestamps: bool = False
    clip_timestamps: tuple[float, ...] = ()
    """Seconds: start, end, start, end, ...; a last end may be absent. Empty: the whole file."""
    hallucination_silence_threshold: float | None = None
    """Seconds. Needs alignment of words, which is then done, and told only if `word_timestamps` asks for it."""
    vad: bool = False
    """Whether to transcribe only the spans in which a voice is heard."""
    parallel: bool = False
    """Whether the spans of a long file are transcribed side by side, each without the text before it."""
    seed: int = 0
    """Of the noise that sampling at temperatures above 0 uses."""
