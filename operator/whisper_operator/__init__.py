"""whisper-operator: WhisperEndpoint resources become speech-to-text APIs on Kubernetes."""

__version__ = "0.1.0"
