"""An HTTP server that turns speech into text with OpenAI's Whisper models."""

__version__ = "0.1.0"
