"""The embedded registry: Debian's docker-registry on a loopback port, its data in a folder."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from arr.errors import ConfigError, MissingTool, RegistryError
from arr.registry.loopback import answers, config_text, port_for
from arr.registry.process_identity import ProcessIdentity, command_line, end, identify

_PROGRAM = "docker-registry"
_GRACE = 5.0  # seconds from TERM to KILL
_POLL = 0.02
_ATTEMPTS = 3  # another program can take a port between our look and docker-registry's


@dataclass(frozen=True, slots=True)
class _Running:
    process: ProcessIdentity
    port: int
    name: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class Embedded:
    """The registry of one folder. It outlives the command that starts it, until `stop`."""

    folder: Path
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, compare=False)
    sleep: Callable[[float], None] = field(default=time.sleep, compare=False)
    clock: Callable[[], float] = field(default=time.monotonic, compare=False)

    def find(self) -> str | None:
        """Its URL when it runs and answers; None if not. Starts and ends nothing."""
        running = self._recorded()
        return running.url if running and answers(running.port, running.name) else None

    def start(self, wait: float = 10.0) -> str:
        """Its URL, once it answers; a registry that runs already is left as it is.

        The port is the one it had before, when that is free. Raises MissingTool, ConfigError for
        a folder that cannot be written, RegistryError with its last words if it does not come up.
        """
        if (url := self.find()) is not None:
            return url
        program = shutil.which(_PROGRAM, path=self.environ.get("PATH", ""))
        if program is None:
            raise MissingTool(f"{_PROGRAM} is not installed", f"run: apt-get install {_PROGRAM}")
        with self._locked():
            slow = self._recorded()
            if slow is not None and self._came_up(slow, wait):
                return slow.url
            self._end()
            for attempt in range(_ATTEMPTS):
                try:
                    running = self._spawn(program)
                except OSError as error:
                    raise self._unusable(error) from error
                if self._came_up(running, wait):
                    return running.url
                self._end()
                if attempt + 1 == _ATTEMPTS or "address already in use" not in self._log():
                    break
        raise RegistryError(
            f"the embedded registry did not come up at {running.url}:\n{self._log()}",
            f"read {self._path('registry.log')}",
        )

    def stop(self) -> bool:
        """End it; False when it was not running. No other process is ever touched."""
        if not self.folder.is_dir():
            return False
        with self._locked():
            return self._end()

    def _path(self, name: str) -> Path:
        return self.folder.resolve() / name

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the folder's lock, against other threads and processes alike."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = self._path("lock").open("wb")
        except OSError as error:
            raise self._unusable(error) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _unusable(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"the folder {self.folder} cannot be used: {error}",
            "make it writable with some space on its disk, or choose another",
        )

    def _spawn(self, program: str) -> _Running:
        """Start the program in a session of its own, and write down which process it is."""
        port, name = port_for(self.folder.resolve()), secrets.token_hex(8)
        config = self._path("config.yml")
        config.touch(mode=0o600)
        config.write_text(config_text(port, name, self._path("data")), encoding="utf-8")
        # Settings for docker-registry in the environment would go before those of the file.
        environ = {
            k: v for k, v in self.environ.items() if not k.startswith(("REGISTRY_", "OTEL_"))
        }
        with self._path("registry.log").open("wb") as log:
            # The shell ends at once: so it is nobody's child, and no one has to wait for it.
            shell = subprocess.run(
                ["/bin/sh", "-c", '"$@" >&2 & echo $!', "sh", program, "serve", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environ,
                start_new_session=True,
                check=True,
            )
        pid = int(shell.stdout)
        running = _Running(identify(pid) or ProcessIdentity(pid, 0), port, name)
        record = {"pid": pid, "started": running.process.started, "port": port, "name": name}
        fresh = self._path("process.json.new")
        fresh.write_text(json.dumps(record), encoding="utf-8")
        fresh.replace(self._path("process.json"))
        return running

    def _came_up(self, running: _Running, wait: float) -> bool:
        """Wait until it answers. False when it has ended, or the time is over."""
        deadline = self.clock() + wait
        while identify(running.process.pid) == running.process:
            if answers(running.port, running.name):
                return True
            if self.clock() >= deadline:
                return False
            self.sleep(_POLL)
        return False

    def _recorded(self) -> _Running | None:
        """The process that was written down, if it is alive and still that one."""
        try:
            record = json.loads(self._path("process.json").read_bytes())
            process = ProcessIdentity(int(record["pid"]), int(record["started"]))
            running = _Running(process, int(record["port"]), str(record["name"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        ours = identify(process.pid) == process and self._is_ours(process.pid)
        return running if ours else None

    def _is_ours(self, pid: int) -> bool:
        return command_line(pid)[-2:] == ["serve", str(self._path("config.yml"))]

    def _end(self) -> bool:
        running = self._recorded()
        ended = running is not None and end(running.process, self._is_ours, _GRACE)
        with suppress(OSError):
            self._path("process.json").unlink()
        return ended

    def _log(self) -> str:
        text = self._path("registry.log").read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.strip().splitlines()[-10:])
