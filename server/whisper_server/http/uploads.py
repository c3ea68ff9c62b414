"""Uploaded files: streamed to disk under no name, so that there is nothing to clean up, whatever happens."""

import errno
import logging
import re
import tempfile
from typing import IO, cast

from flask import Request
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import (
    BadRequest,
    ClientDisconnected,
    RequestEntityTooLarge,
    ServiceUnavailable,
    UnsupportedMediaType,
)
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

from whisper_server.http.connection import Body, Watchdog
from whisper_server.http.errors import BadField, TooSlow, limit

log = logging.getLogger(__name__)

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE}
HOW_TO_CALL = "send a file as multipart/form-data, for example: curl -F file=@speech.wav URL/whisper"


class UploadRequest(Request):
    """A request whose files go to temporary files without a name: gone with the process, even by SIGKILL."""

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        return cast(IO[bytes], tempfile.TemporaryFile())

    def make_form_data_parser(self) -> FormDataParser:
        """Return a parser that says when a body is malformed instead of finding no files in it."""
        parser = super().make_form_data_parser()
        parser.silent = False
        return parser


def read_body(request: Request, watchdog: Watchdog, deadline: float) -> Body:
    """Read the request's form and files, which afterwards `request.form` and `request.files` have.

    Raises werkzeug's 400, 408, 413, 415 or 503, each with a description that says what to do.
    """
    if request.mimetype not in ("", "multipart/form-data"):
        raise UnsupportedMediaType(f"the content type is {request.mimetype}; {HOW_TO_CALL}")
    body = Body(request.environ["wsgi.input"], deadline)
    request.environ["wsgi.input"] = body
    try:
        with watchdog.limit(request.environ.get("gunicorn.socket"), body.is_over):
            request.files  # noqa: B018  # werkzeug parses at first use
    except RequestEntityTooLarge as problem:
        problem.description = (
            f"more than {request.max_content_length} bytes, this server's limit ({limit('WHISPER_MAX_UPLOAD_BYTES')})"
            if request.content_length is None and body.received >= (request.max_content_length or 0)
            else f"a form field is too large for text, or there are too many; {HOW_TO_CALL}"
        )
        raise
    except (
        OSError,
        ValueError,
        ClientDisconnected,
    ) as problem:  # what werkzeug makes of errors while it reads
        if body.too_slow:
            raise TooSlow(
                f"the body came too slowly, {body.received} bytes so far; try again over a faster connection"
            ) from None
        if isinstance(problem, OSError) and problem.errno in _NO_ROOM:
            log.error("an upload can't be kept: %s", problem)
            raise ServiceUnavailable(
                "the server has no room for uploads now; try again later", retry_after=30
            ) from None
        raise BadRequest(f"the body is malformed or incomplete ({problem}); {HOW_TO_CALL}") from None
    # werkzeug takes a part without a name for one of the name None, whatever its types say.
    if any(name is None for name in (*request.form, *request.files)):
        raise BadRequest(f"the body is malformed (a part of it has no name); {HOW_TO_CALL}")
    for file in _files(request):
        file.filename = _filename(file)
    return body


def files_of(request: Request) -> list[FileStorage]:
    """The files of a body that has been read, of any field names, in the order sent within a name; raises werkzeug's 400."""
    files = _files(request)
    if not files:
        raise BadRequest(f"no file in the request; {HOW_TO_CALL}")
    for file in files:
        if not file.filename:
            raise BadRequest(f"a file in field {file.name!r} has no filename; {HOW_TO_CALL}")
    return files


def file_of(request: Request) -> FileStorage:
    """The one file of a body that has been read, in the field `file`, as OpenAI's API has it; raises BadField."""
    if request.form.get("file"):
        raise BadField("file", "this is text; upload a file, for example: curl -F file=@speech.wav")
    files = _files(request)
    if not files:
        raise BadField("file", "missing; upload a file, for example: curl -F file=@speech.wav")
    if len(files) > 1 or files[0].name != "file":
        name = next((file.name for file in files if file.name != "file"), None) or "file"
        raise BadField(name, "one file is transcribed at a time, in the field file")
    return files[0]


def _files(request: Request) -> list[FileStorage]:
    """All of them, each at its beginning. A browser's form sends a file input that was left empty as a part without name and
    content: that is none."""
    every = [file for name in request.files for file in request.files.getlist(name)]
    files = [file for file in every if file.filename or file.stream.seek(0, 2)]
    for file in files:
        file.stream.seek(0)
    return files


def _filename(file: FileStorage) -> str | None:
    """As it was sent: of D:\\rec\\a.wav, werkzeug takes the backslashes away, which few programs escape as they should."""
    sent = file.headers.get("Content-Disposition", "")
    return parse_options_header(re.sub(r'\\([^"\\])', r"\\\\\1", sent))[1].get("filename", file.filename)
