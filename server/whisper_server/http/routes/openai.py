"""OpenAI's audio API, so that programs made for it need another base URL and nothing else."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import PurePosixPath
from typing import Any

from flask import Blueprint, Response, jsonify, request, stream_with_context
from whisper.tokenizer import Tokenizer

from whisper_server.config import Settings
from whisper_server.engine.tokens import tokenizer_of
from whisper_server.http import responses
from whisper_server.http.errors import ClientGone, UnknownModel, explain, openai_form
from whisper_server.http.form.request import TranscriptionRequest, check_duration, parse
from whisper_server.http.lifecycle import Lifecycle, current
from whisper_server.http.uploads import file_of
from whisper_server.scheduling.scheduler import Job
from whisper_server.transcribe.transcript import Transcript, Update

ALIAS = "whisper-1"
"""OpenAI's name for its own Whisper: taken for whatever model is served."""
COMMENT_SECONDS = 15.0
"""Idle connections are cut by proxies; a comment line keeps them."""


def model_id(settings: Settings) -> str:
    """What the model is called in the API: its name, or that of its file."""
    return PurePosixPath(settings.model).stem if settings.model.startswith("/") else settings.model


def blueprint(lifecycle: Lifecycle) -> Blueprint:
    """The routes, wired to their parts."""
    routes = Blueprint("openai", __name__, url_prefix="/v1")
    started = int(time.time())
    names = (model_id(lifecycle.settings), ALIAS)

    def describe(name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": started, "owned_by": "whisper-server"}

    def known(name: str) -> str:
        if name not in names:
            raise UnknownModel(f"the model {name!r} is not served here; use {' or '.join(names)}")
        return name

    @routes.get("/models")
    def models() -> Response:
        """The model served, and the name that OpenAI has for it."""
        return jsonify(object="list", data=[describe(name) for name in names])

    @routes.get("/models/<path:model>")
    def model(model: str) -> Response:
        """One of them."""
        return jsonify(describe(known(model)))

    @routes.post("/audio/transcriptions")
    def transcriptions() -> Response:
        """Speech to text."""
        return serve("transcribe")

    @routes.post("/audio/translations")
    def translations() -> Response:
        """Speech of any language to English text."""
        return serve("translate")

    def serve(task: str) -> Response:
        with ExitStack() as stack:
            place = stack.enter_context(lifecycle.admit())
            lifecycle.receive(place)
            info = lifecycle.scheduler.info
            assert info is not None  # noqa: S101  # requests are admitted once it is loaded
            known(request.form.get("model", "").strip() or ALIAS)
            file = file_of(request)
            asked = parse(request.form, task, lifecycle.settings, info)
            (samples,) = lifecycle.decode([file], place)
            check_duration(asked.options, current().audio_seconds)
            job = stack.enter_context(lifecycle.submit(samples, asked.options))
            if not asked.stream:
                return _whole(lifecycle.wait(job), asked, tokenizer_of(info))
            events = stream_with_context(_events(lifecycle, job, asked, tokenizer_of(info)))
            response = Response(events, mimetype="text/event-stream", headers={"Cache-Control": "no-store"})
            # nginx and others would hold events back to fill a buffer.
            response.headers["X-Accel-Buffering"] = "no"
            # What the times of the events are a part of.
            response.headers["X-Audio-Seconds"] = f"{current().audio_seconds:.3f}"
            # The place is held until the last event is sent, or the client is gone.
            response.call_on_close(stack.pop_all().close)
            return response

    return routes


def _whole(transcript: Transcript, asked: TranscriptionRequest, tokenizer: Tokenizer) -> Response:
    match asked.format:
        case "verbose_json":
            return jsonify(responses.verbose(transcript, asked.options.task, asked.granularities))
        case "text":
            return Response(transcript.text + "\n", mimetype="text/plain")
        case "srt":
            return Response(responses.srt(transcript.segments), mimetype="application/x-subrip")
        case "vtt":
            return Response(responses.vtt(transcript.segments), mimetype="text/vtt")
    return jsonify(responses.json(transcript) | _logprobs(transcript, asked, tokenizer))


def _logprobs(told: Transcript | Update, asked: TranscriptionRequest, tokenizer: Tokenizer) -> dict[str, Any]:
    return {"logprobs": responses.logprobs(told.segments, tokenizer)} if asked.logprobs else {}


def _events(
    lifecycle: Lifecycle, job: Job, asked: TranscriptionRequest, tokenizer: Tokenizer
) -> Iterator[str]:
    """Server-sent events: deltas as text becomes final, then all of it; an error in place of what it prevents."""
    verbose = asked.format == "verbose_json"
    yield ": transcribing\n\n"
    last = time.monotonic()
    try:
        for update in lifecycle.updates(job):
            if update is not None and (update.delta or (verbose and update.segments)):
                yield _event(_delta(update, verbose) | _logprobs(update, asked, tokenizer))
            elif time.monotonic() - last >= COMMENT_SECONDS:
                yield ": still transcribing\n\n"
            else:
                continue
            last = time.monotonic()
    except ClientGone:
        current().failed = ClientGone.code
        return
    except Exception as problem:
        known = explain(problem)
        current().failed = known.code
        yield f"event: error\n{_data(openai_form(known.description or '', known.code or 500))}"
        return
    transcript = job.transcript()
    details = responses.verbose(transcript, asked.options.task, asked.granularities) if verbose else {}
    details |= responses.json(transcript) | _logprobs(transcript, asked, tokenizer)
    yield _event({"type": "transcript.text.done", **details})
    yield "data: [DONE]\n\n"


def _delta(update: Update, verbose: bool) -> dict[str, Any]:
    event: dict[str, Any] = {"type": "transcript.text.delta", "delta": update.delta}
    return event | {"segments": [responses.segment(each) for each in update.segments]} if verbose else event


def _event(data: dict[str, Any]) -> str:
    return f"event: {data['type']}\n{_data(data)}"


def _data(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
