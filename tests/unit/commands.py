"""What pages tell readers to type: the commands in blocks of code, and the blocks of YAML."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "server" / "README.md"])

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
ASSIGNMENT = re.compile(r"^[A-Z_][A-Z0-9_]*=")
INDENTED = re.compile(
    r"^ {4,}(?:\$ )?((?:kubectl|make|whisper-operator|gcloud) .*(?:\\\n.*)*)$", re.MULTILINE
)
INLINE = re.compile(r"(?<!`)`((?:kubectl|make|whisper-operator)\s[^`]+)`(?!`)")
HEREDOC = re.compile(r"<<-?\s*(['\"]?)(\w+)\1(.*?\n).*?^\s*\2$", re.MULTILINE | re.DOTALL)
SHELL = ("sh", "bash", "shell", "console")


class Block(NamedTuple):
    """A block of code of a page; `line` is its first."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """All fenced blocks, less what they are indented by."""
    text = page.read_text()
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        body = re.sub(f"^{match[1]}", "", match[3], flags=re.MULTILINE)
        yield Block(str(page.relative_to(ROOT)), line, match[2], body)


def texts(page: str, language: str) -> list[str]:
    """Of a page's blocks in a language, by the page's path in the repository."""
    return [each.text for each in blocks(ROOT / page) if each.language == language]


def beside(page: Path) -> Iterator[Block]:
    """Commands that stand in a block without a fence, or in the middle of a sentence, each as a block."""
    text = FENCE.sub(lambda match: "\n" * match[0].count("\n"), page.read_text())
    for pattern in (INDENTED, INLINE):
        for match in pattern.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            joined = match[1] if pattern is INDENTED else " ".join(match[1].split())
            yield Block(str(page.relative_to(ROOT)), line, "sh", joined)


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each command in a block for a shell: all lines of one of sh, those after `$ ` of one of console."""
    if block.language not in SHELL:
        return
    text = block.text.replace("\\\n", " ").rstrip(" \\")
    text = HEREDOC.sub(r"\3", text)
    if block.language == "console":
        text = "\n".join(line[2:] for line in text.splitlines() if line.startswith("$ "))
    if text.count("'") % 2:  # a block of one line, whose quotation goes on in the next one
        text = text.partition("'")[0]
    lexer = shlex.shlex(text, posix=True, punctuation_chars="();<>|&\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, "#"
    words: list[str] = []
    for token in lexer:
        if set(token) <= set("();|&\n"):
            yield from _command(words)
            words = []
        else:
            words.append(token)
    yield from _command(words)


def _command(words: list[str]) -> Iterator[list[str]]:
    while words and (ASSIGNMENT.match(words[0]) or words[0] in ("do", "then", "sudo")):
        words = words[1:]
    if words:
        yield words


def objects(block: Block) -> Iterator[dict[str, Any]]:
    """The Kubernetes objects in a block of YAML."""
    for document in yaml.safe_load_all(block.text):
        if isinstance(document, dict) and {"apiVersion", "kind"} <= set(document):
            yield document
