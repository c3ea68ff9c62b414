"""A request's body: a form with one file, made while it is sent."""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from whisper_operator.plugin.failure import Failure
from whisper_operator.plugin.sources import Source

CHUNK = 1 << 16


@dataclass(frozen=True)
class Form:
    fields: Sequence[tuple[str, str]]
    source: Source
    boundary: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def content_type(self) -> str:
        return f"multipart/form-data; boundary={self.boundary}"

    @property
    def length(self) -> int:
        return len(self._head()) + self.source.size + len(self._tail())

    def chunks(self) -> Iterator[bytes]:
        """Raises Failure if the file can't be read any more as it was."""
        yield self._head()
        left = self.source.size
        try:
            with self.source.open() as file:
                while left and (chunk := file.read(min(CHUNK, left))):
                    left -= len(chunk)
                    yield chunk
        except OSError as error:
            raise Failure(f"{self.source.name} can't be read: {error.strerror}") from None
        if left:
            raise Failure(f"{self.source.name} has become shorter while it was sent")
        yield self._tail()

    def _head(self) -> bytes:
        parts = [
            f'--{self.boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in self.fields
        ]
        parts.append(
            f'--{self.boundary}\r\nContent-Disposition: form-data; name="file"; '
            f'filename="{_quoted(self.source.filename)}"\r\nContent-Type: application/octet-stream\r\n\r\n'
        )
        # A file's name may be no text at all.
        return "".join(parts).encode("utf-8", "replace")

    def _tail(self) -> bytes:
        return f"\r\n--{self.boundary}--\r\n".encode()


def _quoted(name: str) -> str:
    """As browsers write it."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
