"""A plain faster-whisper app, as its users write it, and its batched pipeline for long files.

MODEL=DIRECTORY COMPUTE_TYPE=int8 gunicorn -w 1 --threads 32 -t 600 benchmarks.server.peers.faster:app

BATCH_SIZE is the pipeline's, in windows.
"""

import os
from typing import Any

from faster_whisper import BatchedInferencePipeline, WhisperModel
from flask import Flask, request

app = Flask(__name__)
model = WhisperModel(os.environ["MODEL"], device="cpu", compute_type=os.environ["COMPUTE_TYPE"])
batched = BatchedInferencePipeline(model)


@app.post("/whisper")
def handler() -> dict[str, Any]:
    results = []
    for filename, handle in request.files.items():
        segments, _ = model.transcribe(handle.stream, language="en", beam_size=1, best_of=1)
        results.append({"filename": filename, "transcript": "".join(segment.text for segment in segments)})
    return {"results": results}


@app.post("/batched")
def long_file() -> dict[str, Any]:
    segments, _ = batched.transcribe(
        request.files["file"].stream,
        language="en",
        beam_size=1,
        best_of=1,
        without_timestamps=False,
        batch_size=int(os.environ.get("BATCH_SIZE", "8")),  # 8 is its own default
    )
    return {"text": "".join(segment.text for segment in segments)}
