"""What the benchmarks start for themselves, and end whatever happens: dockerd and a registry."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import bench
import sample
from sample import Sample

from arr.build.find import probe_docker

CHARTPRESS = "chartpress==2.4.0"
_REGISTRY = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "{host}"}}
"""


@dataclass(frozen=True, slots=True)
class Bench:
    """A temporary folder, a registry at `host`, a dockerd, and the environment that names them."""

    folder: Path
    host: str
    environ: Mapping[str, str]

    def sample(self, name: str) -> Sample:
        """Make a repository with the stack, its images named `name-*`."""
        return sample.make_sample(self.folder / name, name, self.host, self.environ)

    def script(self, name: str, lines: Sequence[str]) -> list[str | Path]:
        """Return the command that runs `lines` as one shell script, up to the first failure."""
        path = self.folder / f"{name}.sh"
        path.write_text("set -e\n" + "\n".join(lines) + "\n", "utf-8")
        return ["sh", path]

    def buildah(self, store: str) -> str:
        """Return the start of buildah's command lines, with a store of its own."""
        root = self.folder / f"{store}-store"
        return f"buildah --storage-driver overlay --root {root}/root --runroot {root}/run"


@contextmanager
def services() -> Iterator[Bench]:
    """Start dockerd and docker-registry in a temporary folder; end them and remove it after."""
    _require()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(_folder()))
        host = f"127.0.0.1:{_free_port()}"
        socket_path = folder / "docker.sock"
        home, programs = folder / "home", folder / "programs"
        home.mkdir()
        programs.mkdir()
        environ = sample.environment(home, programs, f"unix://{socket_path}", f"http://{host}")
        stack.enter_context(_running(_registry_command(folder, host), folder / "registry.log"))
        stack.enter_context(_running(_dockerd_command(folder, socket_path), folder / "dockerd.log"))
        _wait(lambda: _answers(host), folder / "registry.log")
        _choose_docker(programs, environ, folder / "dockerd.log")
        yield Bench(folder, host, environ)


def install_chartpress(place: Bench) -> tuple[Path, str]:
    """Return the chartpress program, installed in a virtual environment of its own.

    The second value is empty, or why it could not be installed.
    """
    venv = place.folder / "chartpress-venv"
    pip = [str(venv / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    for command in ([sys.executable, "-m", "venv", str(venv)], [*pip, CHARTPRESS]):
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            why = f"{CHARTPRESS} could not be installed: {bench.last_line(done.stderr)}"
            return venv / "bin" / "chartpress", why
    return venv / "bin" / "chartpress", ""


def _require() -> None:
    needed = ("dockerd", "docker-registry", "buildah", "git", "setpriv")
    missing = [name for name in needed if shutil.which(name) is None]
    missing += [str(sample.SHELL)] if not sample.SHELL.exists() else []
    if missing:
        packages = "docker.io docker-registry buildah busybox-static git"
        sys.exit(f"error: {', '.join(missing)} missing: apt-get install {packages}")
    if os.geteuid() != 0:
        sys.exit("error: this starts a dockerd of its own, which needs root: run it with sudo")


@contextmanager
def _folder() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="arr-bench-")
    try:
        yield folder
    finally:
        for mount in reversed(Path("/proc/self/mounts").read_text("utf-8").splitlines()):
            point = mount.split(" ")[1]
            if point.startswith(f"{folder}/"):
                subprocess.run(["umount", point], check=False)
        shutil.rmtree(folder)


def _registry_command(folder: Path, host: str) -> list[str]:
    config = folder / "registry.yml"
    config.write_text(_REGISTRY.format(folder=folder / "registry", host=host), "utf-8")
    return ["docker-registry", "serve", str(config)]


def _dockerd_command(folder: Path, socket_path: Path) -> list[str]:
    return [
        "dockerd", "--data-root", str(folder / "docker"), "--exec-root", str(folder / "exec"),
        "--host", f"unix://{socket_path}", "--pidfile", str(folder / "dockerd.pid"),
        "--bridge", "none", "--iptables=false", "--ip-masq=false",
    ]  # fmt: skip


@contextmanager
def _running(command: Sequence[str], log: Path) -> Iterator[None]:
    """Run a service; end it by its id at the end, and by the kernel should this process be killed.

    In a session of its own: Ctrl-C reaches us, and we end it in order.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *command],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _choose_docker(programs: Path, environ: Mapping[str, str], log: Path) -> None:
    """Put the docker client that has BuildKit before any other that this machine may have."""
    os.environ["DOCKER_HOST"] = environ["DOCKER_HOST"]
    _wait(lambda: not probe_docker().problem, log)
    (programs / "docker").symlink_to(probe_docker().program)


def _wait(ready: object, log: Path, seconds: float = 60) -> None:
    assert callable(ready)
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            sys.exit(f"error: a service did not come up:\n{log.read_text('utf-8', 'replace')}")
        time.sleep(0.2)


def _answers(host: str) -> bool:
    try:
        with build_opener(ProxyHandler({})).open(f"http://{host}/v2/", timeout=2):
            return True
    except (URLError, OSError):
        return False


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        assert isinstance(port, int)
        return port
