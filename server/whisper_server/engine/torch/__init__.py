"""The engine on openai-whisper's weights and torch."""

from whisper_server.engine.torch.load import load

__all__ = ["load"]
