"""Typed reading of a nested dict that anybody may have written: a wrong type is a ValueError that names the field."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


def without_nulls(value: Any) -> Any:
    """A null in a file means absent, wherever it stands; in a list it stays, as it is nobody's field."""
    if isinstance(value, Mapping):
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Fields:
    """A mapping inside a resource, with its path for messages."""

    raw: Mapping[str, Any]
    path: str

    def has(self, name: str) -> bool:
        return name in self.raw

    def only(self, *known: str) -> None:
        """Raise ValueError if there is anything else."""
        for name in self.raw:
            if name not in known:
                raise ValueError(
                    f"{self._at(name)} is not a setting; the settings here are {', '.join(sorted(known))}"
                )

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
        value = self.raw.get(name)
        if isinstance(value, int | float):  # a version, say, of which YAML has made a number
            raise ValueError(f"{self._at(name)} must be a string: put {value!r} in quotes")
        value = self._typed(name, str, "a string")
        if required and value is None:
            raise ValueError(f"{self._at(name)} is missing")
        return None if value is None else str(value)

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
                raise ValueError(f"{self._at(name)}.{key} must be a string: put {value!r} in quotes")
        return dict(values)

    def number(self, name: str, default: int, *, least: int | None = None, most: int | None = None) -> int:
        value = self.raw.get(name)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{self._at(name)} must be a whole number, not {value!r}")
        if least is not None and value < least:
            raise ValueError(f"{self._at(name)} must be at least {least}, not {value}")
        if most is not None and value > most:
            raise ValueError(f"{self._at(name)} must be at most {most}, not {value}")
        return value

    def flag(self, name: str, *, default: bool = False) -> bool:
        value = self._typed(name, bool, "true or false")
        return default if value is None else bool(value)

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
