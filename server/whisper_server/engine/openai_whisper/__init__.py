"""The engine on openai-whisper's weights and torch."""

from whisper_server.engine.openai_whisper.loading import load

__all__ = ["load"]
