"""What a transcript took, for the log and the metrics."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tally:
    """Of one file, and of all files in `total`."""

    windows: int = 0
    tokens: int = 0
    """Of all attempts."""
    fallbacks: Counter[str] = field(default_factory=Counter)
    """Windows tried again at a higher temperature, by the threshold that the text before did not keep."""
    total: "Tally | None" = None

    def window(self) -> None:
        """Note one that is done."""
        self.windows += 1
        if self.total is not None:
            self.total.window()

    def attempt(self, tokens: int, failed: str | None) -> None:
        """Note a text of so many tokens; `failed`: why another one is tried after it."""
        self.tokens += tokens
        if failed is not None:
            self.fallbacks[failed] += 1
        if self.total is not None:
            self.total.attempt(tokens, failed)
