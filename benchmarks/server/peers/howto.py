"""The how-to's app: openai-whisper behind Flask, one request at a time.

MODEL=base.pt gunicorn -w 1 -t 600 benchmarks.server.peers.howto:app
"""

import os
from tempfile import NamedTemporaryFile
from typing import Any

import whisper
from flask import Flask, request

app = Flask(__name__)
model = whisper.load_model(os.environ["MODEL"], device="cpu")


@app.post("/whisper")
def handler() -> dict[str, Any]:
    results = []
    for filename, handle in request.files.items():
        with NamedTemporaryFile() as temp:
            handle.save(temp.name)
            result = model.transcribe(temp.name, language="en", fp16=False)
        results.append({"filename": filename, "transcript": result["text"]})
    return {"results": results}
