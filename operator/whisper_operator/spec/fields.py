"""Typed reading of a nested dict that anybody may have written: a wrong type is a ValueError that names the field."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Fields:
    """A mapping inside a resource, with its path for messages. A field that is null counts as absent, as in Kubernetes."""

    raw: Mapping[str, Any]
    path: str

    def has(self, name: str) -> bool:
        return self.raw.get(name) is not None

    def sub(self, name: str) -> "Fields":
        """The mapping at `name`; an empty one when absent."""
        return Fields(self._typed(name, dict, "a mapping") or {}, self._at(name))

    def items(self, name: str) -> tuple["Fields", ...]:
        """The list of mappings at `name`."""
        values = self._typed(name, list, "a list") or []
        for index, value in enumerate(values):
            if not isinstance(value, dict):
                raise ValueError(f"{self._at(name)}[{index}] must be a mapping, not {value!r}")
        return tuple(Fields(value, f"{self._at(name)}[{index}]") for index, value in enumerate(values))

    def text(self, name: str, *, required: bool = False) -> str | None:
        value: str | None = self._typed(name, str, "a string")
        if required and value is None:
            raise ValueError(f"{self._at(name)} is missing")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        values = self._typed(name, list, "a list") or []
        for index, value in enumerate(values):
            if not isinstance(value, str):
                raise ValueError(f"{self._at(name)}[{index}] must be a string, not {value!r}")
        return tuple(values)

    def mapping(self, name: str) -> dict[str, str]:
        """A mapping of strings to strings, such as labels."""
        values = self.sub(name).raw
        for key, value in values.items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise ValueError(f"{self._at(name)}.{key} must be a string: put quotes around {value!r}")
        return dict(values)

    def number(self, name: str, default: int) -> int:
        value = self.raw.get(name)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{self._at(name)} must be a whole number, not {value!r}")
        return value

    def flag(self, name: str) -> bool:
        return bool(self._typed(name, bool, "true or false"))

    def quantity(self, name: str) -> str | None:
        """A Kubernetes quantity, which YAML gives as a number or as a string."""
        value = self.raw.get(name)
        if value is not None and (not isinstance(value, str | int | float) or isinstance(value, bool)):
            raise ValueError(f"{self._at(name)} must be a quantity such as 4 or 24Gi, not {value!r}")
        return None if value is None else str(value)

    def _typed(self, name: str, kind: type, words: str) -> Any:
        value = self.raw.get(name)
        if value is not None and not isinstance(value, kind):
            raise ValueError(f"{self._at(name)} must be {words}, not {value!r}")
        return value

    def _at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name
