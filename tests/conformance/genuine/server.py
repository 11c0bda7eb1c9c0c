"""Starts and stops a genuine ComfyUI as a process of its own."""

import http.client
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.conformance.genuine.install import GenuineInstallation

_HOST = "127.0.0.1"
_PROBE_INTERVAL = 0.1


class ServerStartError(RuntimeError):
    """ComfyUI ended or stayed silent while starting; the message ends with its last log lines."""


class GenuineServer:
    """One ComfyUI on 127.0.0.1, with its outputs, inputs, database and log below ``directory``.

    A context manager: started on entry, stopped on exit. The port (a free one by default) and the
    directory stay the same over ``kill`` and ``restart``; what ComfyUI holds in memory, its queue
    and history, does not. All methods block: call them through ``asyncio.to_thread`` where an
    event loop has to go on.
    """

    def __init__(
        self,
        installation: GenuineInstallation,
        directory: Path,
        *,
        port: int = 0,
        start_timeout: float = 120.0,
    ) -> None:
        self._installation = installation
        self._directory = directory.resolve()
        self._port = port
        self._start_timeout = start_timeout
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash; known once the server was started."""
        return f"http://{_HOST}:{self._port}"

    @property
    def pid(self) -> int:
        """The process id of the running server; RuntimeError when none runs."""
        if self._process is None:
            raise RuntimeError("this ComfyUI is not running")
        return self._process.pid

    @property
    def output_directory(self) -> Path:
        return self._directory / "output"

    @property
    def input_directory(self) -> Path:
        return self._directory / "input"

    @property
    def log(self) -> Path:
        """All that the server printed, over all its starts."""
        return self._directory / "server.log"

    def start(self) -> None:
        """Starts the server and returns when it answers HTTP, after about 10 s.

        Raises OSError when the port is taken, ServerStartError when the server does not come up
        within ``start_timeout`` seconds, and RuntimeError when it runs already.
        """
        if self._process is not None:
            raise RuntimeError(f"this ComfyUI runs already, as process {self._process.pid}")
        self._port = _bindable_port(self._port)
        for name in ("output", "input", "temp", "user", "front_end"):
            (self._directory / name).mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            # A session of its own: a Ctrl-C in the terminal reaches only us, and we stop it.
            self._process = subprocess.Popen(
                self._command(),
                cwd=self._installation.server,
                env=self._installation.environment_variables(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_healthy(self._process)
        except BaseException:
            self.kill()
            raise

    def stop(self, grace: float = 10.0) -> None:
        """Ends the server with SIGTERM, and with SIGKILL when it outlives ``grace`` seconds."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """Ends the server with SIGKILL, as a crash or the kernel's OOM killer would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Stops the server if it runs and starts it with the same port and directories."""
        self.stop()
        self.start()

    def wait(self) -> int:
        """Blocks until the server ends by itself and returns its exit code."""
        if self._process is None:
            raise RuntimeError("this ComfyUI is not running")
        return self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _command(self) -> list[str]:
        return [
            str(self._installation.python),
            "main.py",
            "--cpu",
            "--use-pytorch-cross-attention",
            # Later versions turn previews on per prompt; this one only as a whole.
            "--preview-method=latent2rgb",
            f"--listen={_HOST}",
            f"--port={self._port}",
            "--disable-api-nodes",
            "--disable-all-custom-nodes",
            # Part of ComfyUI itself, though it lies among the custom nodes: SaveImageWebsocket.
            "--whitelist-custom-nodes=websocket_image_save.py",
            f"--front-end-root={self._directory / 'front_end'}",
            f"--output-directory={self._directory / 'output'}",
            f"--input-directory={self._directory / 'input'}",
            f"--temp-directory={self._directory / 'temp'}",
            f"--user-directory={self._directory / 'user'}",
            f"--database-url=sqlite:///{self._directory / 'comfyui.db'}",
        ]

    def _wait_until_healthy(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self._start_timeout
        while not self._answers():
            if time.monotonic() > deadline:
                raise ServerStartError(
                    f"ComfyUI did not answer within {self._start_timeout:g} s. {self._last_lines()}"
                )
            try:
                code = process.wait(_PROBE_INTERVAL)
            except subprocess.TimeoutExpired:
                continue
            raise ServerStartError(f"ComfyUI ended with {code} at its start. {self._last_lines()}")

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(_HOST, self._port, timeout=5.0)
        try:
            connection.request("GET", "/system_stats")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _last_lines(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-15:]
        return "\n".join([f"The end of {self.log}:", *lines])


def _bindable_port(port: int) -> int:
    """The port itself, or for 0 a free one; OSError when something listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise OSError(
                error.errno, f"cannot listen on {_HOST}:{port}: {error.strerror}"
            ) from error
        bound: int = probe.getsockname()[1]
        return bound
