"""The engine on openai-whisper's weights and torch."""
