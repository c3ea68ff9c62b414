"""What precedes a text: the tokens a decoder begins with, and those it must not say, as in openai-whisper's DecodingTask."""

from functools import lru_cache

from whisper.tokenizer import Tokenizer, get_tokenizer

from whisper_server.engine.interface import Align, Decode, ModelInfo


@lru_cache(maxsize=512)
def tokenizer(is_multilingual: bool, num_languages: int, language: str | None, task: str) -> Tokenizer:
    """openai-whisper's tokenizer for one language and task."""
    return get_tokenizer(is_multilingual, num_languages=num_languages, language=language, task=task)


def tokenizer_of(info: ModelInfo, language: str | None = "en", task: str = "transcribe") -> Tokenizer:
    """The tokenizer of a loaded model."""
    return tokenizer(info.is_multilingual, info.num_languages, language, task)


def initial_tokens(info: ModelInfo, request: Decode) -> tuple[list[int], int]:
    """The tokens that a text begins with, and which of them is the start of transcript."""
    chosen = tokenizer_of(info, request.language, request.task)
    start = list(
        chosen.sot_sequence_including_notimestamps if request.without_timestamps else chosen.sot_sequence
    )
    prompt = list(request.prompt)
    if not prompt:
        return start, 0
    before = [chosen.sot_prev, *prompt[-(info.n_text_ctx // 2 - 1) :]]
    return before + start, len(before)


def alignment_tokens(info: ModelInfo, request: Align) -> tuple[list[int], int]:
    """The whole text as the decoder hears it again, and how many tokens precede what is aligned."""
    chosen = tokenizer_of(info, request.language, request.task)
    start = list(chosen.sot_sequence)
    return [*start, chosen.no_timestamps, *request.text_tokens, chosen.eot], len(start)


@lru_cache(maxsize=512)
def suppressed_tokens(info: ModelInfo, asked: tuple[int, ...], *, no_timestamps: bool) -> tuple[int, ...]:
    """The tokens that never come; `asked` as in Decode.suppress_tokens, where () suppresses nothing at all."""
    chosen = tokenizer_of(info)
    tokens: set[int] = {chosen.no_timestamps} if no_timestamps else set()
    if asked:
        tokens |= {token for token in asked if token >= 0}
        tokens |= set(chosen.non_speech_tokens) if -1 in asked else set()
        tokens |= {chosen.transcribe, chosen.translate, chosen.sot, chosen.sot_prev, chosen.sot_lm}
        tokens.add(chosen.no_speech)
    return tuple(sorted(tokens))
