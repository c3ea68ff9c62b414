"""What is wrong with something that a schema refuses, in words that say what to write instead."""

import difflib

import jsonschema

LONGEST = 300
"""Characters of one complaint; it may quote what it is about."""


def said(error: jsonschema.ValidationError) -> str:
    """What is wrong, and what to write instead where that can be told."""
    if error.validator == "additionalProperties":
        known = sorted(error.schema["properties"])
        return "; ".join(_unknown(name, known) for name in error.instance if name not in known)
    if (
        error.validator == "type"
        and "string" in error.validator_value
        and not isinstance(error.instance, list | dict)
    ):
        return f"{error.instance!r} is no text: put it in quotes"
    return str(error.message)


def at(path: str, message: str) -> str:
    return f"{path}: {message}" if path else message


def short(text: str) -> str:
    """What is wrong stands at one end of a complaint or the other, and what is quoted between."""
    half = (LONGEST - 4) // 2
    return text if len(text) <= LONGEST else f"{text[:half]}....{text[-half:]}"


def _unknown(name: object, known: list[str]) -> str:
    meant = difflib.get_close_matches(str(name), known, n=1)
    return f"unknown field {name!r}: " + (f"did you mean {meant[0]}?" if meant else f"use {', '.join(known)}")
