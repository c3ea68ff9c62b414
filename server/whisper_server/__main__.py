"""The command line: `whisper-server` runs the server, configured by environment variables."""

import argparse
import os
import sys
import textwrap

from whisper_server import __version__, config, heap


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status: 2 for wrong settings, 1 for what the machine lacks."""
    options = _parser().parse_args(arguments)
    try:
        settings = config.Settings.from_environ(
            {**os.environ, "WHISPER_MODEL": options.preload} if options.preload else os.environ
        )
    except config.ConfigError as problem:
        return _fail(2, problem)
    if options.preload:
        return _preload(settings)
    if settings.keeps_memory:
        heap.keep()
    else:
        heap.share()
    # Late, so that --help, --version and wrong settings answer at once.
    from whisper_server.audio.ffmpeg import missing_tools

    if missing := missing_tools():
        tools = " and ".join(missing)
        return _fail(1, f"{tools} not found in PATH; on Debian: apt install ffmpeg util-linux")
    from whisper_server.http.auth import ApiKeys, KeysError
    from whisper_server.http.server import Server, allow_files, open_socket

    try:
        api_keys = ApiKeys(settings.api_keys_dir) if settings.api_keys_dir else None
    except KeysError as problem:
        return _fail(2, problem)
    try:
        ops_socket = open_socket(settings)
    except OSError as problem:
        where = f"{settings.bind} port {settings.ops_port}"
        return _fail(1, f"can't listen on {where} ({problem.strerror}); set WHISPER_BIND or WHISPER_OPS_PORT")
    allow_files()
    Server(settings, ops_socket, api_keys).run()
    return 0


def _preload(settings: config.Settings) -> int:
    from whisper_server.engine import download
    from whisper_server.engine.interface import LoadError

    try:
        if settings.engine == "faster-whisper":
            from whisper_server.engine.ctranslate2 import convert

            print(convert.preload(settings.model, settings.model_dir))
        else:
            print(download.preload(settings.model, settings.model_dir))
    except LoadError as problem:
        return _fail(1, problem)
    return 0


def _fail(status: int, problem: object) -> int:
    print(f"whisper-server: {problem}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    lines = []
    for variable, default, meaning in config.table():
        text = f"{meaning.replace('`', '')}{f' [{default}]' if default else ''}"
        lines.append(f"  {variable}\n{textwrap.indent(textwrap.fill(text, 90), '      ')}")
    parser = argparse.ArgumentParser(
        prog="whisper-server",
        description="Serves speech-to-text over HTTP. Configured by environment variables.",
        epilog="environment variables [defaults]:\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"whisper-server {__version__}")
    parser.add_argument(
        "--preload",
        metavar="MODEL",
        help="download MODEL's weights into WHISPER_MODEL_DIR, check them, convert them if WHISPER_ENGINE "
        "wants that, and exit; for building images",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
