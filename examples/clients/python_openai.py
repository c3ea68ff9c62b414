"""python python_openai.py FILE. Needs `pip install openai`."""

import os
import sys

from openai import OpenAI

# The client tries again by itself when the server is busy; a long file may take minutes.
client = OpenAI(
    base_url=os.environ["WHISPER_URL"] + "/v1",
    api_key=os.environ.get("WHISPER_API_KEY", "none"),
    max_retries=5,
    timeout=600,
)
with open(sys.argv[1], "rb") as file:
    stream = client.audio.transcriptions.create(file=file, model="whisper-1", stream=True)
    for event in stream:
        if event.type == "transcript.text.delta":
            print(event.delta, end="", flush=True)
print()
