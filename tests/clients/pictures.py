"""docs/guides/*.png: the page at /ui, before and after a recording is transcribed.

    PYTHONPATH=server .venv-server/bin/python -m tests.clients.pictures

starts the server with the demo model, opens the page in Chromium, and writes them.
"""

import tempfile
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.server.whisper_process import EXAMPLES, running

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guides"


def main() -> None:
    """Write both pictures."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1000,760"):
        options.add_argument(argument)
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as server:
        server.wait_until_ready()
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
        try:
            browser.get(server.url + "/ui")
            browser.find_element(By.ID, "file").send_keys(str(EXAMPLES / "hello.wav"))
            browser.save_screenshot(str(GUIDES / "ui-before.png"))
            browser.find_element(By.ID, "start").click()
            WebDriverWait(browser, 240).until(
                lambda page: page.find_element(By.ID, "status").text.startswith("Done: ")
            )
            browser.save_screenshot(str(GUIDES / "ui-after.png"))
        finally:
            browser.quit()


if __name__ == "__main__":
    main()
