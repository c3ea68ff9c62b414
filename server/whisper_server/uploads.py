"""Uploaded files: streamed to disk under no name, so that there is nothing to clean up, whatever happens."""

import tempfile
from typing import IO, cast

from flask import Request
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.formparser import FormDataParser

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


def files_of(request: Request) -> list[FileStorage]:
    """Read the request's body and return its files, of any field names, in the order sent within a name.

    Raises werkzeug's 400, 413 or 415, each with a description that says what to do.
    """
    limit = request.max_content_length
    if request.mimetype not in ("", "multipart/form-data"):
        raise UnsupportedMediaType(f"the content type is {request.mimetype}; {HOW_TO_CALL}")
    try:
        files = [file for name in request.files for file in request.files.getlist(name)]
    except RequestEntityTooLarge as problem:
        problem.description = (
            f"more than {limit} bytes, this server's limit (WHISPER_MAX_UPLOAD_BYTES)"
            if request.content_length is None
            else f"a form field is too large for text, or there are too many; {HOW_TO_CALL}"
        )
        raise
    except ValueError as problem:
        raise BadRequest(f"the body is malformed or incomplete ({problem}); {HOW_TO_CALL}") from None
    # A browser's form sends a file input that was left empty as a part without name and content.
    files = [file for file in files if file.filename or file.stream.seek(0, 2)]
    if not files:
        raise BadRequest(f"no file in the request; {HOW_TO_CALL}")
    for file in files:
        if not file.filename:
            raise BadRequest(f"a file in field {file.name!r} has no filename; {HOW_TO_CALL}")
        file.stream.seek(0)
    return files
