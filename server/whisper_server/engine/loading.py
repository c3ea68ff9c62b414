"""Which engine the settings ask for."""

from whisper_server.config import Settings
from whisper_server.engine import Engine


def load(settings: Settings) -> Engine:
    """Load the model that `settings` ask for and warm it up: seconds to minutes; raises LoadError.

    Imports the engine's library, torch and all, only now: the process answers its health checks meanwhile.
    """
    if settings.engine == "faster-whisper":
        from whisper_server.engine import faster_whisper

        return faster_whisper.load(settings)
    from whisper_server.engine import openai_whisper

    return openai_whisper.load(settings)
