"""Settings: parsed once, refused with one clear line, documented as they are."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import whisper
from whisper.tokenizer import LANGUAGES, TO_LANGUAGE_CODE
from whisper_server import __version__, config, languages
from whisper_server.config import ConfigError, Settings
from whisper_server.engine import hardware

from tests.server.whisper_process import COMMAND, ROOT, free_port, running


def test_defaults() -> None:
    settings = Settings.from_environ({"WHISPER_UNKNOWN": "ignored", "WHISPER_LANGUAGE": "", "PATH": "/bin"})
    assert settings == Settings()
    assert settings.request_timeout_seconds == 600
    assert settings.cors_origins == ("*",)


def test_values() -> None:
    settings = Settings.from_environ(
        {
            "WHISPER_MODEL": "/models/my.pt",
            "WHISPER_LANGUAGE": "yue",
            "WHISPER_MAX_UPLOAD_BYTES": "2048",
            "WHISPER_PROMPT": "x" * 5000,
            "WHISPER_CORS_ORIGINS": "https://a.example, http://localhost:3000",
        }
    )
    assert settings.model == "/models/my.pt"
    assert settings.language == "yue"
    assert settings.max_upload_bytes == 2048
    assert settings.prompt == "x" * 4096
    assert settings.cors_origins == ("https://a.example", "http://localhost:3000")


def test_an_empty_list_of_origins_allows_none() -> None:
    assert Settings.from_environ({"WHISPER_CORS_ORIGINS": ""}).cors_origins == ()


def test_a_misspelt_variable_is_warned_of() -> None:
    variables = {
        "WHISPER_MODLE": "tiny",
        "WHISPER_FLAVOUR": "vanilla",
        "WHISPER_MODEL": "demo",
        "MODLE": "of somebody else",
        # Of Services called whisper and whisper-gpu.
        **{"WHISPER_SERVICE_HOST": "10.0.0.1", "WHISPER_SERVICE_PORT_HTTP": "80"},
        **{"WHISPER_PORT_80_TCP_ADDR": "10.0.0.1", "WHISPER_GPU_PORT": "tcp://10.0.0.1:80"},
    }
    assert config.unknown(variables) == [
        "WHISPER_FLAVOUR is not a setting and changes nothing; whisper-server --help lists them",
        "WHISPER_MODLE is not a setting and changes nothing; is WHISPER_MODEL meant?",
    ]


def test_a_service_of_the_same_name_is_no_setting() -> None:
    """Kubernetes tells all pods of a namespace about its Services, here whisper and whisper-ops."""
    links = {"WHISPER_PORT": "tcp://10.96.0.1:80", "WHISPER_OPS_PORT": "tcp://10.96.0.2:9090"}
    assert Settings.from_environ(links) == Settings()
    with pytest.raises(ConfigError, match="whole number"):
        Settings.from_environ({"WHISPER_MAX_QUEUE": "tcp://10.96.0.1:80"})


def test_the_largest_value_of_each_number_is_one_that_can_be_written() -> None:
    for variable, text in (("UPLOAD", str(2**40)), ("QUEUE", str(2**40))):
        Settings.from_environ({f"WHISPER_MAX_{variable}_BYTES": text})
    with pytest.raises(ConfigError, match=f"from 1024 to {2**40}"):
        Settings.from_environ({"WHISPER_MAX_UPLOAD_BYTES": str(2**40 + 1)})


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WHISPER_MODEL": "huge"}, "WHISPER_MODEL='huge': must be demo, an absolute path"),
        ({"WHISPER_MODEL": "models/my.pt"}, "absolute path"),
        ({"WHISPER_MODEL_DIR": "models"}, "absolute path"),
        ({"WHISPER_ENGINE": "other"}, "must be openai-whisper or faster-whisper"),
        ({"WHISPER_DEVICE": "gpu"}, "must be auto or cuda or cpu"),
        ({"WHISPER_DTYPE": "int4"}, "must be auto or float32 or float16"),
        ({"WHISPER_DTYPE": "int8_float16", "WHISPER_DEVICE": "cpu"}, "not possible on the CPU"),
        ({"WHISPER_VAD": "yes"}, "must be true or false"),
        ({"WHISPER_API_KEYS_DIR": "keys"}, "absolute path"),
        ({"WHISPER_MAX_QUEUE_BYTES": "1G"}, "whole number"),
        ({"WHISPER_MAX_QUEUE_AUDIO_SECONDS": "0"}, "whole number"),
        ({"WHISPER_DTYPE": "float16", "WHISPER_DEVICE": "cpu"}, "not possible on the CPU"),
        ({"WHISPER_LANGUAGE": "english"}, "language code"),
        ({"WHISPER_LANGUAGE": "de", "WHISPER_MODEL": "base.en"}, "knows English only; use base"),
        ({"WHISPER_TASK": "summarize"}, "must be transcribe or translate"),
        ({"WHISPER_TASK": "translate", "WHISPER_MODEL": "base.en"}, "does not translate"),
        ({"WHISPER_TASK": "translate", "WHISPER_MODEL": "turbo"}, "does not translate"),
        ({"WHISPER_TASK": "translate", "WHISPER_MODEL": "large-v3-turbo"}, "does not translate"),
        ({"WHISPER_MAX_UPLOAD_BYTES": "25MB"}, "whole number"),
        ({"WHISPER_MAX_UPLOAD_BYTES": "0"}, "whole number"),
        ({"WHISPER_MAX_AUDIO_SECONDS": "-1"}, "whole number"),
        ({"WHISPER_MAX_AUDIO_SECONDS": "1_000"}, "whole number"),
        ({"WHISPER_MAX_QUEUE": "0"}, "from 1 to 1024"),
        ({"WHISPER_MAX_QUEUE": " 5"}, "whole number"),
        ({"WHISPER_REQUEST_TIMEOUT_SECONDS": "1e3"}, "whole number"),
        ({"WHISPER_PORT": "65536"}, "from 1 to 65535"),
        ({"WHISPER_PORT": "9090"}, "must differ"),
        ({"WHISPER_CORS_ORIGINS": "example.com"}, "'example.com' is no origin"),
        ({"WHISPER_CORS_ORIGINS": "https://a.example/path"}, "is no origin"),
        ({"WHISPER_LOG_FORMAT": "xml"}, "must be plain or json"),
    ],
)
def test_nonsense_is_refused_with_one_line(variables: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        Settings.from_environ(variables)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).startswith("WHISPER_")


def test_lists_are_those_of_openai_whisper() -> None:
    assert set(config.MODELS) == set(whisper.available_models())
    assert list(LANGUAGES.items()) == list(languages.NAMES.items())
    assert languages.CODES == TO_LANGUAGE_CODE


def test_readme_and_help_list_every_setting() -> None:
    rows = [
        tuple(cell.strip() for cell in row)
        for row in re.findall(
            r"^\| (WHISPER_\w+) \|(.*?)\|(.*?)\|$", (ROOT / "server" / "README.md").read_text(), re.MULTILINE
        )
    ]
    assert rows == config.table()
    shown = run("--help").stdout
    assert all(variable in shown for variable, _, _ in config.table())


def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WHISPER_")}
    return subprocess.run(
        [*COMMAND, *arguments], env=environment | variables, capture_output=True, text=True, timeout=120
    )


def test_wrong_settings_end_the_start() -> None:
    result = run(WHISPER_MODEL="huge")
    assert result.returncode == 2
    assert result.stderr.startswith("whisper-server: WHISPER_MODEL='huge': must be")
    assert result.stderr.count("\n") == 1


def test_version() -> None:
    assert run("--version").stdout == f"whisper-server {__version__}\n"


def test_missing_ffmpeg_is_named() -> None:
    result = run(PATH="/nowhere", WHISPER_MODEL="demo")
    assert result.returncode == 1
    assert "ffmpeg and prlimit not found in PATH" in result.stderr


def test_taken_operations_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run(
            WHISPER_MODEL="demo",
            WHISPER_BIND="127.0.0.1",
            WHISPER_OPS_PORT=port,
            WHISPER_PORT=str(free_port()),
        )
    assert result.returncode == 1
    assert f"can't listen on 127.0.0.1 port {port}" in result.stderr
    assert result.stderr.count("\n") == 1


UNREACHABLE = {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "no_proxy": ""}


def test_preload_without_network_fails_in_one_line(tmp_path: Path) -> None:
    assert run("--preload", "demo").stdout == "demo: part of the package, nothing to fetch\n"
    result = run("--preload", "tiny", WHISPER_MODEL_DIR=str(tmp_path), **UNREACHABLE)
    assert result.returncode == 1
    assert result.stderr.startswith(
        "whisper-server: tiny is not in WHISPER_MODEL_DIR and can't be downloaded"
    )
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"WHISPER_MODEL": "/nowhere/my.pt"}, "WHISPER_MODEL=/nowhere/my.pt: no such file"),
        ({"WHISPER_MODEL": str(Path(__file__))}, "not an openai-whisper checkpoint"),
        (
            {"WHISPER_MODEL": "tiny", "WHISPER_MODEL_DIR": "/tmp/nothing-here", **UNREACHABLE},
            "can't be downloaded",
        ),
    ],
    ids=["no file", "not a checkpoint", "no network"],
)
def test_model_that_cannot_be_loaded_ends_the_server(
    tmp_path: Path, settings: dict[str, str], message: str
) -> None:
    with running(tmp_path, **settings) as server:
        assert server.wait() == 3
        lines = [line for line in server.log.splitlines() if "CRITICAL" in line]
        assert len(lines) == 1
        assert message in lines[0]
        assert "Traceback" not in server.log


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="this machine has a GPU, which is not unusable")
def test_unusable_gpu_is_never_replaced_by_the_cpu(tmp_path: Path) -> None:
    with running(tmp_path, WHISPER_DEVICE="cuda") as server:
        assert server.wait() == 3
        assert re.search(
            r"WHISPER_DEVICE=cuda, but CUDA can't be used: .*NVIDIA driver here: none; .*built for CUDA 1\d",
            server.log,
        )


def test_driver_version_is_read(tmp_path: Path) -> None:
    file = tmp_path / "version"
    file.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs)\nGCC version: 12\n"
    )
    assert hardware.driver_version(file) == "580.65.06"
    assert hardware.driver_version(tmp_path / "none") == "none"


def test_nothing_starts_a_thread_before_the_heap_is_set() -> None:
    look = "import sys, whisper_server.__main__; print(sorted({'numpy', 'torch', 'ctranslate2'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_threads_share_a_heap_and_what_is_free_in_it_goes_back() -> None:
    """Many threads take half a gigabyte in pieces that come from the heap; then all but every hundredth is freed."""
    command = [sys.executable, "-m", "tests.server.hoard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    heaps, held, left = map(int, done.stdout.split())
    assert heaps == 1
    assert held > 450 << 20
    assert left < 100 << 20
