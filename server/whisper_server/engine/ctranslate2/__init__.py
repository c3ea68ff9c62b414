"""The engine on CTranslate2, the library under faster-whisper: the fast choice on a CPU."""
