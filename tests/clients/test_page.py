"""The page at /ui in a real browser: upload, live text, downloads, keys, and the keyboard."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

from tests.clients.conftest import KEY
from tests.server.whisper_process import EXAMPLES, WhisperProcess, table

HELLO = EXAMPLES / "hello.wav"
TEXT = table(EXAMPLES / "transcripts.tsv")["hello.wav"]

# selenium leaves the pipe to its driver to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


class Page:
    """The page, as someone who uses it sees it."""

    def __init__(self, browser: webdriver.Chrome) -> None:
        self.browser = browser

    def __getitem__(self, name: str) -> WebElement:
        return self.browser.find_element(By.ID, name)

    def wait(self, condition: Callable[[], object], seconds: float = 240) -> None:
        """Wait until it is true; fails with what the page shows."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.browser.find_element(By.TAG_NAME, "body").text
            time.sleep(0.05)

    def shown(self, name: str) -> str:
        """The text of an element, empty while it is hidden."""
        return self[name].text

    def results(self) -> list["Result"]:
        """What has come of the files so far."""
        return [Result(each) for each in self.browser.find_elements(By.CLASS_NAME, "result")]

    def result(self) -> "Result":
        """Of the only file."""
        (only,) = self.results()
        return only

    def said(self) -> str:
        """The transcripts as far as they are there, without the times."""
        return " ".join(each.said() for each in self.results())

    def is_done(self) -> bool:
        return self.shown("status").startswith("Done: ")


class Result:
    """One file's transcript on the page."""

    def __init__(self, element: WebElement) -> None:
        self.element = element

    def __getitem__(self, name: str) -> WebElement:
        return self.element.find_element(By.CLASS_NAME, name)

    def said(self) -> str:
        return " ".join(each.text for each in self["lines"].find_elements(By.CSS_SELECTOR, "p span"))


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="session")
def browser(downloads: Path) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,900"):
        options.add_argument(argument)
    # A microphone that hums, and nobody who has to be asked for it.
    options.add_argument("--use-fake-device-for-media-stream")
    options.add_argument("--use-fake-ui-for-media-stream")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    yield made
    made.quit()


@pytest.fixture
def page(browser: webdriver.Chrome, keyed_server: WhisperProcess) -> Iterator[Page]:
    """The page just opened, with the key entered; at the end, the browser must have had nothing to complain about."""
    browser.get(keyed_server.url + "/ui")
    browser.execute_script("sessionStorage.clear()")
    browser.refresh()
    opened = Page(browser)
    opened.wait(lambda: opened["key"].is_displayed())
    opened["key"].send_keys(KEY)
    browser.get_log("browser")
    yield opened
    complaints = [entry for entry in browser.get_log("browser") if "status of 4" not in entry["message"]]
    assert complaints == []


def test_upload_and_text(page: Page) -> None:
    assert not page["start"].is_enabled()
    page["file"].send_keys(str(HELLO))
    Select(page["language"]).select_by_visible_text("English")
    page["start"].click()
    page.wait(page.is_done)
    assert page.said().startswith("hello world please play music")
    assert "of English" in page.shown("status")
    if folder := os.environ.get("WHISPER_SCREENSHOTS"):
        page.browser.save_screenshot(f"{folder}/page.png")


def test_text_comes_while_the_rest_is_transcribed(page: Page, hour: Path, downloads: Path) -> None:
    page["file"].send_keys(str(hour))
    page["start"].click()
    page.wait(lambda: "hello world" in page.said())
    assert page["cancel"].is_displayed()
    assert not page.result()["actions"].is_displayed()
    assert page.result()["lines"].get_attribute("aria-busy") == "true"
    assert not page["start"].is_enabled()
    first, early = page.said(), progress(page)
    page.wait(lambda: page.said() != first)
    page.wait(lambda: progress(page) > early)
    assert 3500 < float(page.result()["progress"].get_attribute("max") or 0) < 3600
    page["cancel"].click()
    page.wait(lambda: page.shown("status") == "Stopped.")
    assert page.said().startswith(first)
    # What has come can be used, and the keyboard is where it goes on.
    assert page.browser.switch_to.active_element == page["start"]
    page.result()["save-txt"].click()
    saved = downloads / "hour.txt"
    page.wait(saved.exists, 30)
    assert saved.read_text().splitlines()[0].startswith("hello")
    assert page.result()["copy"].is_displayed()


def progress(page: Page) -> float:
    return float(page.result()["progress"].get_attribute("value") or 0)


def test_all_of_a_long_file(page: Page, long_audio: Path) -> None:
    page["file"].send_keys(str(long_audio))
    page["start"].click()
    page.wait(page.is_done)
    assert page.said().count("hello world") > 10


def test_downloads_are_what_the_api_answers(page: Page, downloads: Path) -> None:
    page["file"].send_keys(str(HELLO))
    page["start"].click()
    page.wait(page.is_done)
    page.result()["save-txt"].click()
    page.wait((downloads / "hello.txt").exists, 30)
    lines = (downloads / "hello.txt").read_text().splitlines()
    assert len(lines) > 1
    assert " ".join(lines) == TEXT
    for kind, form in (("srt", "srt"), ("vtt", "vtt")):
        page.result()[f"save-{kind}"].click()
        file = downloads / f"hello.{kind}"
        page.wait(file.exists, 30)
        with HELLO.open("rb") as audio:
            expected = requests.post(
                page.browser.current_url.removesuffix("/ui") + "/v1/audio/transcriptions",
                files={"file": audio},
                data={"response_format": form},
                headers={"Authorization": f"Bearer {KEY}"},
                timeout=60,
            ).text
        assert file.read_text() == expected


def test_wrong_key_is_said_and_can_be_put_right(page: Page) -> None:
    page["key"].clear()
    page["key"].send_keys("sk-wrong")
    page["file"].send_keys(str(HELLO))
    page["start"].click()
    page.wait(lambda: "not known" in page.shown("error"))
    assert page.browser.switch_to.active_element == page["error"]
    assert page["error"].get_attribute("role") == "alert"
    page["key"].clear()
    page["key"].send_keys(KEY)
    page["start"].click()
    page.wait(page.is_done)
    assert not page["error"].is_displayed()


def test_missing_key_is_asked_for(page: Page) -> None:
    page["key"].clear()
    page["file"].send_keys(str(HELLO))
    page["start"].click()
    assert "needs an API key" in page.shown("error")
    assert page.browser.switch_to.active_element == page["key"]


def test_bad_file_is_named(page: Page, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("no audio")
    page["file"].send_keys(str(tmp_path / "letter.txt"))
    page["start"].click()
    page.wait(lambda: "letter.txt: it is not audio" in page.shown("error"))


def test_recording(page: Page) -> None:
    page["file"].send_keys(str(HELLO))
    page["record"].click()
    page.wait(lambda: page["record"].get_attribute("aria-pressed") == "true")
    assert not page["chosen"].is_displayed()  # it is not what will be sent
    assert not page["start"].is_enabled()
    page.wait(lambda: page.shown("elapsed") >= "00:01")
    page.wait(lambda: float(page["level"].get_attribute("value") or 0) > 0.2)  # the microphone beeps
    page["record"].click()
    page.wait(lambda: "recording.webm" in page.shown("chosen"))
    assert not page["elapsed"].is_displayed()
    page["start"].click()
    page.wait(page.is_done)


WATCHED = """
window.heard = [];
const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (wanted) => {
  const stream = await ask(wanted);
  heard.push(...stream.getTracks());
  return stream;
};
"""
HEARD = "return heard.map((track) => track.readyState)"


def test_a_double_click_records_once(page: Page) -> None:
    twice = "const record = document.getElementById('record'); record.click(); record.click();"
    page.browser.execute_script(WATCHED + twice)
    page.wait(lambda: page["record"].get_attribute("aria-pressed") == "true")
    page.wait(lambda: page.shown("elapsed") >= "00:01")
    assert page.browser.execute_script(HEARD) == ["live"]
    page.browser.execute_script(twice)
    page.wait(lambda: "recording.webm" in page.shown("chosen"))
    assert page.browser.execute_script(HEARD) == ["ended"]


def test_a_browser_that_can_not_record_says_so_and_lets_go_of_the_microphone(page: Page) -> None:
    broken = "window.MediaRecorder = class { constructor() { throw new Error('no codec'); } };"
    page.browser.execute_script(WATCHED + broken)
    page["record"].click()
    page.wait(lambda: "can't record (no codec); choose a file" in page.shown("error"))
    assert page.browser.execute_script(HEARD) == ["ended"]
    assert page["record"].get_attribute("aria-pressed") == "false"


def test_where_the_browser_can_not_copy_it_says_so(page: Page) -> None:
    """As on a page that was opened with http://."""
    page["file"].send_keys(str(HELLO))
    page["start"].click()
    page.wait(page.is_done)
    page.browser.execute_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.result()["copy"].click()
    page.wait(lambda: page.shown("status") == "The browser can't copy here; select the text.", 10)


def test_several_files(page: Page, tmp_path: Path) -> None:
    """One after the other, each with its own transcript; a bad one is named and stops no other."""
    (tmp_path / "letter.txt").write_text("no audio")
    fox = EXAMPLES / "fox.flac"
    page["file"].send_keys("\n".join(map(str, (HELLO, tmp_path / "letter.txt", fox))))
    assert page.shown("chosen") == "hello.wav, letter.txt, fox.flac"
    page["start"].click()
    page.wait(page.is_done)
    assert [each["name"].text for each in page.results()] == ["hello.wav", "fox.flac"]
    assert [each.said() for each in page.results()] == [TEXT, table(EXAMPLES / "transcripts.tsv")["fox.flac"]]
    assert "letter.txt: it is not audio" in page.shown("error")
    page["file"].send_keys(str(HELLO))  # and the next ones take their place
    page["start"].click()
    page.wait(lambda: len(page.results()) == 1)


def test_a_click_on_a_time_plays_from_there(page: Page) -> None:
    page["file"].send_keys(str(HELLO))
    page["start"].click()
    page.wait(page.is_done)
    times = page.result()["lines"].find_elements(By.CLASS_NAME, "time")
    assert times[-1].accessible_name == f"Play from {times[-1].text}"
    assert int(times[-1].text[-2:]) > 0
    times[-1].click()
    player = page.result()["player"]
    page.wait(lambda: float(player.get_attribute("currentTime") or 0) >= int(times[-1].text[-2:]), 30)


def test_who_reads_further_up_stays_there(page: Page, hour: Path) -> None:
    page["file"].send_keys(str(hour))
    page["start"].click()

    def measure(name: str) -> float:
        return float(page.result()["lines"].get_property(name) or 0)  # type: ignore[arg-type]

    page.wait(lambda: page.results() and measure("scrollTop") > 100)  # followed as it grows
    page.browser.execute_script("document.querySelector('.lines').scrollTop = 0")
    before = measure("scrollHeight")
    page.wait(lambda: measure("scrollHeight") > before)
    assert measure("scrollTop") == 0
    page["cancel"].click()
    page.wait(lambda: page.shown("status") == "Stopped.")


def test_the_languages_are_those_of_the_model(page: Page) -> None:
    names = [each.text for each in Select(page["language"]).options]
    assert (names[0], len(names)) == ("Detected", 100)
    assert names[1:] == sorted(names[1:])
    assert "Haitian Creole" in names


def test_the_demo_model_says_what_it_is(page: Page) -> None:
    assert "knows some fifty English words" in page.shown("demo")


def test_on_a_phone(page: Page) -> None:
    """Nothing is dropped there, and the transcript is below: it is brought into view."""
    page.browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 760, "deviceScaleFactor": 2, "mobile": True},
    )
    page.browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    page.browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "hover", "value": "none"}, {"name": "pointer", "value": "coarse"}]},
    )
    try:
        assert page.shown("chosen") == "Choose audio or video files"
        assert page.browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        page["file"].send_keys(str(HELLO))
        page["start"].click()
        page.wait(page.is_done)
        top = "return document.getElementById('transcript').getBoundingClientRect().top"
        page.wait(lambda: page.browser.execute_script(top) < 400, 30)
        if folder := os.environ.get("WHISPER_SCREENSHOTS"):
            page.browser.save_screenshot(f"{folder}/phone.png")
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
        page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_stop(page: Page, hour: Path) -> None:
    page["file"].send_keys(str(hour))
    page["start"].click()
    page.browser.execute_script("document.getElementById('cancel').click()")
    page.wait(lambda: page.shown("status") == "Stopped.")
    assert page["start"].is_enabled()
    assert page["empty"].is_displayed()  # nothing had come yet


def test_keyboard_alone_suffices(page: Page) -> None:
    page["file"].send_keys(str(HELLO))
    page["key"].click()
    visited = []
    for _ in range(12):
        ActionChains(page.browser).send_keys(Keys.TAB).perform()
        visited.append(page.browser.switch_to.active_element.get_attribute("id"))
        if visited[-1] == "start":
            break
    assert visited == ["file", "record", "language", "task", "prompt", "vad", "start"]
    ActionChains(page.browser).send_keys(Keys.ENTER).perform()
    page.wait(page.is_done)


def test_everything_has_a_name_for_screen_readers(page: Page) -> None:
    for element in page.browser.find_elements(By.CSS_SELECTOR, "input, select, button, a[href]"):
        if element.is_displayed():
            assert element.accessible_name, element.get_attribute("outerHTML")
    assert page["status"].aria_role == "status"
    page["file"].send_keys(str(HELLO))
    page["start"].click()
    page.wait(page.is_done)
    assert page.result()["lines"].get_attribute("aria-live") == "polite"
    for name in ("player", "progress", "lines", "level", "elapsed"):
        found = page.browser.find_elements(By.CSS_SELECTOR, f".{name}, #{name}")
        assert name == "player" or found[0].get_attribute("aria-label")
    assert page.browser.find_element(By.TAG_NAME, "html").get_attribute("lang") == "en"


def test_nothing_comes_from_elsewhere(page: Page, keyed_server: WhisperProcess) -> None:
    script = "return JSON.stringify(performance.getEntriesByType('resource').map(each => each.name))"
    loaded = json.loads(page.browser.execute_script(script))
    assert loaded
    assert all(name.startswith(keyed_server.url) for name in loaded)
    policy = requests.get(keyed_server.url + "/ui", timeout=10).headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
