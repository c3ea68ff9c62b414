"""examples/clients as they stand, each against a server that needs a key, and the curl one where none is needed."""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.clients.conftest import KEY
from tests.server.whisper_process import EXAMPLES, ROOT, WhisperProcess, table

CLIENTS = ROOT / "examples" / "clients"
NODE = Path(__file__).parent / "node"
HELLO = EXAMPLES / "hello.wav"
TEXT = table(EXAMPLES / "transcripts.tsv")["hello.wav"]

# selenium leaves the pipe to its driver to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

COMMANDS = {
    "curl.sh": ("sh",),
    "python_openai.py": (sys.executable,),
    "python_requests.py": (sys.executable,),
    "node_openai.mjs": ("node",),
}
FORM = {
    "curl.sh": TEXT + "\n",
    "python_openai.py": TEXT + "\n",
    "python_requests.py": "WEBVTT\n\n00:0",
    "node_openai.mjs": "0.44 - 1.42 hello world\n",
}
"""What each prints, or how that begins."""


def run(
    name: str, server: WhisperProcess, folder: Path, key: str | None, audio: Path = HELLO
) -> subprocess.CompletedProcess[str]:
    """Run a copy in a folder that has what a user installs."""
    shutil.copy(CLIENTS / name, folder)
    if name.endswith(".mjs") and not (folder / "node_modules").exists():
        if not (NODE / "node_modules" / "openai").is_dir():
            pytest.fail("OpenAI's client for Node is missing: run scripts/environment clients")
        (folder / "node_modules").symlink_to(NODE / "node_modules")
    environment = {each: value for each, value in os.environ.items() if not each.startswith("WHISPER_")}
    environment["WHISPER_URL"] = server.url
    if key is not None:
        environment["WHISPER_API_KEY"] = key
    return subprocess.run(
        [*COMMANDS[name], name, str(audio)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_every_example_is_run() -> None:
    assert {each.name for each in CLIENTS.iterdir()} == {*COMMANDS, "browser.html"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_program(name: str, keyed_server: WhisperProcess, tmp_path: Path) -> None:
    audio = tmp_path / "the first; ünder, way.wav"
    shutil.copy(HELLO, audio)
    done = run(name, keyed_server, tmp_path, KEY, audio)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(FORM[name])
    wrong = run(name, keyed_server, tmp_path, "sk-wrong")
    assert wrong.returncode != 0
    assert "this API key is not known" in wrong.stdout + wrong.stderr


def test_curl_without_a_key_is_told_that_it_needs_one(keyed_server: WhisperProcess, tmp_path: Path) -> None:
    told = run("curl.sh", keyed_server, tmp_path, None)
    assert told.returncode == 22
    assert "an API key is needed" in told.stdout


@pytest.fixture
def site() -> Iterator[str]:
    """Another origin than the server's, with the page."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(CLIENTS))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


def test_the_page(keyed_server: WhisperProcess, site: str) -> None:
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    try:
        browser.get(f"{site}/browser.html")

        def send(url: str, key: str) -> str:
            for name, value in (("url", url), ("key", key)):
                field = browser.find_element(By.NAME, name)
                field.clear()
                field.send_keys(value)
            browser.find_element(By.TAG_NAME, "button").click()
            deadline = time.monotonic() + 120
            while (said := browser.find_element(By.TAG_NAME, "output").text) in ("", "…"):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            browser.execute_script("document.querySelector('output').textContent = ''")
            return said

        browser.find_element(By.NAME, "file").send_keys(str(HELLO))
        assert send(keyed_server.url, KEY) == TEXT
        assert "not known" in send(keyed_server.url, "sk-wrong")
        assert send("http://127.0.0.1:9", KEY).startswith("No answer: ")
    finally:
        browser.quit()
