"""The one kind of error that the development cluster raises by itself."""


class DevclusterError(Exception):
    """Something a person can put right; the message says what."""
