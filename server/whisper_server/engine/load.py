"""Which engine the settings ask for."""

import logging
from collections.abc import Callable

from whisper_server.config import Settings
from whisper_server.engine.interface import Engine, LoadError, ModelInfo

log = logging.getLogger(__name__)


def load(settings: Settings) -> Engine:
    """Load the model that `settings` ask for and warm it up: seconds to minutes; raises LoadError.

    Imports the engine's library, torch and all, only now: the process answers its health checks meanwhile.
    """
    from whisper_server.engine.hardware import use_cpus

    use_cpus()
    load_engine: Callable[[Settings], Engine]
    if settings.engine == "faster-whisper":
        from whisper_server.engine.ctranslate2.load import load as load_engine
    else:
        from whisper_server.engine.torch.load import load as load_engine
    engine = load_engine(settings)
    _check_defaults(settings, engine.info)
    if engine.decoded_at_once > settings.max_queue:
        log.warning(
            "%d windows of audio fit on the device at once, and only %d requests are taken at a time: for short files, set "
            "WHISPER_MAX_QUEUE=%d (of a WhisperEndpoint, limits.maxQueue), or part of the device stays idle",
            engine.decoded_at_once,
            settings.max_queue,
            engine.decoded_at_once,
        )
    return engine


def _check_defaults(settings: Settings, info: ModelInfo) -> None:
    """Refuse defaults that the model can't serve: settings tell that by an official name, of a path only what was loaded does."""
    if settings.language is not None and settings.language not in info.languages:
        known = f"{len(info.languages)} languages, not this one" if info.is_multilingual else "English only"
        better = "large-v3 or turbo" if info.is_multilingual else "a multilingual model"
        raise LoadError(
            f"WHISPER_LANGUAGE={settings.language}: the model {info.name} knows {known}; leave it out, or use {better}"
        )
    if settings.task == "translate" and not info.translates:
        raise LoadError(
            f"WHISPER_TASK=translate: the model {info.name} does not translate; use large-v3 or medium"
        )
