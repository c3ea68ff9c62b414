"""Text that was heard in silence: openai-whisper's rules of `hallucination_silence_threshold`, given the times of words."""

from collections.abc import Sequence
from dataclasses import dataclass

from whisper.audio import FRAMES_PER_SECOND, HOP_LENGTH, N_FRAMES, SAMPLE_RATE

from whisper_server.transcribe import words
from whisper_server.transcribe.transcript import Segment, Word

PUNCTUATION = "\"'“¿([{-\"'.。,，!！?？:：”)]}、"


@dataclass(frozen=True)
class Place:
    """Where in the file a window is. Frames of 10 ms; seconds."""

    seek: int
    size: int
    """Of the window, in frames."""
    frames: int
    """Of the whole file."""
    last_speech: float
    ended: bool
    """Whether the speech ended before the window did."""
    threshold: float
    """How long a silence makes what it surrounds doubtful."""

    @property
    def offset(self) -> float:
        return float(self.seek * HOP_LENGTH / SAMPLE_RATE)

    @property
    def window_end(self) -> float:
        return float((self.seek + N_FRAMES) * HOP_LENGTH / SAMPLE_RATE)


def skip_leading_silence(segments: Sequence[Segment], place: Place) -> int | None:
    """Where to listen again if the first words are doubtful and come after silence; else None."""
    first = next((segment for segment in segments if segment.words), None)
    if first is None or not is_anomalous(first):
        return None
    gap = first.start - place.offset
    return place.seek + round(gap * FRAMES_PER_SECOND) if gap > place.threshold else None


def without(segments: Sequence[Segment], place: Place, after: int) -> tuple[list[Segment], int]:
    """The segments up to the first doubtful one that silence surrounds, and where the next window begins."""
    if not place.ended:
        last_word = words.end_of(segments)
        if last_word is not None and last_word > place.offset:
            far_from_end = place.window_end - last_word > place.threshold
            after = round(last_word * FRAMES_PER_SECOND) if far_from_end else place.seek + place.size
    last_end = place.last_speech
    for index, segment in enumerate(segments):
        if not segment.words:
            continue
        if is_anomalous(segment):
            following = next((later for later in segments[index + 1 :] if later.words), None)
            if _is_surrounded(segment, following, last_end, place):
                again = round(max(place.offset + 1, segment.start) * FRAMES_PER_SECOND)
                content_seconds = float(place.frames * HOP_LENGTH / SAMPLE_RATE)
                at_the_end = content_seconds - segment.end < place.threshold
                return list(segments[:index]), place.frames if at_the_end else again
        last_end = segment.end
    return list(segments), after


def _is_surrounded(segment: Segment, following: Segment | None, last_end: float, place: Place) -> bool:
    threshold = place.threshold
    size_seconds = place.size * HOP_LENGTH / SAMPLE_RATE
    next_start = following.words[0].start if following and following.words else place.offset + size_seconds
    before = (
        segment.start - last_end > threshold
        or segment.start < threshold
        or segment.start - place.offset < 2.0
    )
    after = (
        next_start - segment.end > threshold
        or (following is not None and is_anomalous(following))
        or place.window_end - segment.end < 2.0
    )
    return before and after


def is_anomalous(segment: Segment) -> bool:
    """Whether its first words are improbable, too short or too long to be speech."""
    if not segment.words:
        return False
    first = [word for word in segment.words if word.word not in PUNCTUATION][:8]
    score = sum(_strangeness(word) for word in first)
    return score >= 3 or score + 0.01 >= len(first)


def _strangeness(word: Word) -> float:
    duration = word.end - word.start
    score = 1.0 if word.probability < 0.15 else 0.0
    if duration < 0.133:
        score += (0.133 - duration) * 15
    if duration > 2.0:
        score += duration - 2.0
    return score
