"""What is logged."""

import json
import logging
from collections.abc import Iterator

import pytest
from whisper_operator.process import logs


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root, kopfs = logging.getLogger(), logging.getLogger("kopf")
    handlers, levels = list(root.handlers), (root.level, kopfs.level)
    root.handlers.clear()  # pytest's own: basicConfig(force=True) would close them
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    kopfs.setLevel(levels[1])


def test_the_level_is_that_of_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    for level, said in (("info", ["a", "b"]), ("warning", ["b"])):
        logs.configure(level)
        logging.getLogger("whisper_operator.apply").info("a")
        logging.getLogger("whisper_operator.apply").warning("b")
        lines = capsys.readouterr().err.splitlines()
        assert [json.loads(line)["message"] for line in lines] == said
    logs.configure()
