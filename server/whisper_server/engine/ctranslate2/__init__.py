"""The engine on CTranslate2, the library under faster-whisper: the fast choice on a CPU."""

from whisper_server.engine.ctranslate2.load import load, preload

__all__ = ["load", "preload"]
