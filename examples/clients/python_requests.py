"""python python_requests.py FILE prints WebVTT subtitles. Needs `pip install requests`."""

import os
import sys
import time

import requests

key = os.environ.get("WHISPER_API_KEY")
headers = {"Authorization": f"Bearer {key}"} if key else {}
while True:
    with open(sys.argv[1], "rb") as file:
        answer = requests.post(
            os.environ["WHISPER_URL"] + "/v1/audio/transcriptions",
            headers=headers,
            files={"file": file},
            data={"response_format": "vtt"},
            timeout=600,
        )
    if answer.status_code not in (429, 503):
        break
    time.sleep(int(answer.headers.get("Retry-After", 5)))  # busy: it says when to come back
if not answer.ok:
    sys.exit(answer.json()["error"]["message"])
answer.encoding = "utf-8"
print(answer.text, end="")
