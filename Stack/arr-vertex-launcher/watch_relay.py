"""Passing the agent's output on: the bytes as they are, at once, whatever anyone makes of them.

One thread reads, one writes, the watch looks at the same bytes in its own time. Both of them may
lag behind by BACKLOG chunks, then the agent has to wait, as it would with any reader.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable

CHUNK = 64 * 1024
BACKLOG = 64
PATIENCE = 0.05
"""Seconds that a line of our own waits for the end of the agent's."""


class Output:
    """Writes to a file descriptor in a thread of its own: a reader who stops blocks nobody else."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._queue: queue.SimpleQueue[bytes | str | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(BACKLOG)
        self._line_open = False
        self._written = 0
        self.broken = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def pass_on(self, chunk: bytes) -> None:
        """Write the agent's bytes. Waits if too many are waiting already."""
        self._room.acquire()
        self._queue.put(chunk)

    def say(self, text: str) -> None:
        """Write lines of our own, on lines of their own. Never waits."""
        self._queue.put(text)

    def close(self, patience: float) -> None:
        """Wait until all is written, or until nothing was for `patience` seconds."""
        self._queue.put(None)
        since = time.monotonic()
        before = self._written
        while self._thread.is_alive() and time.monotonic() - since < patience:
            self._thread.join(0.1)
            if self._written != before:
                since, before = time.monotonic(), self._written

    def _run(self) -> None:
        own = ""  # waits for the end of the agent's line, for a moment
        while True:
            try:
                item = self._queue.get(timeout=PATIENCE if own else None)
            except queue.Empty:
                item = ""
            if isinstance(item, bytes):
                self._room.release()
                end = item.find(b"\n") + 1 if own else 0
                if end:
                    self._write(item[:end] + own.encode("utf-8", "replace"))
                    own = ""
                self._write(item[end:])
                continue
            own += item or ""
            if own and (not item or not self._line_open):
                self._write(b"\n" * self._line_open + own.encode("utf-8", "replace"))
                own = ""
            if item is None:
                return

    def _write(self, data: bytes) -> None:
        if self.broken or not data:
            return
        self._line_open = not data.endswith(b"\n")
        left = memoryview(data)
        try:
            while left:
                count = os.write(self._fd, left)
                left = left[count:]
                self._written += count
        except OSError:  # nobody reads any more, or the disk is full: the agent is still ours
            self.broken = True


class Input:
    """Reads the agent's output in a thread; hands each chunk to `output`, then to `arrived`."""

    def __init__(self, fd: int, output: Output, arrived: Callable[[bytes], None]) -> None:
        self._fd = fd
        self._output = output
        self._arrived = arrived
        self._room = threading.Semaphore(BACKLOG)

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def looked_at(self) -> None:
        """A chunk that arrived is done with."""
        self._room.release()

    def _run(self) -> None:
        """Read until the end, which arrives as an empty chunk."""
        chunk = b"."
        while chunk:
            chunk = b""
            with contextlib.suppress(OSError):
                chunk = os.read(self._fd, CHUNK)
            if chunk:
                self._output.pass_on(chunk)
            self._room.acquire()
            self._arrived(chunk)


def open_standard_streams() -> None:
    """Open the null device for each standard stream that is closed: no pipe may get its number."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
