"""Asking for a blob and fetching it, checked against its digest before anyone uses it."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from arr.registry.content import digest_of, verify
from arr.registry.exchange import Answer, Ask
from arr.registry.failures import RegistryNotFound
from arr.registry.wire import Wire


def blob(wire: Wire, base: str, name: str, digest: str) -> bytes:
    answer = _get(wire, base, name, digest, None)
    verify(digest_of(answer.body), digest, f"GET {answer.url}")
    return answer.body


def save_blob(wire: Wire, base: str, name: str, digest: str, path: Path) -> None:
    """Write it to `path` as it comes; no file is left there when that fails."""
    try:
        with path.open("wb") as file:
            answer = _get(wire, base, name, digest, file)
        verify(digest_of(path), digest, f"GET {answer.url}")
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def has_blob(wire: Wire, base: str, name: str, digest: str) -> bool:
    try:
        wire.send(Ask("HEAD", _url(base, name, digest), _pull(name)))
    except RegistryNotFound:
        return False
    return True


def _get(wire: Wire, base: str, name: str, digest: str, sink: BinaryIO | None) -> Answer:
    return wire.send(Ask("GET", _url(base, name, digest), _pull(name), cap=None, sink=sink))


def _url(base: str, name: str, digest: str) -> str:
    return f"{base}/{name}/blobs/{digest}"


def _pull(name: str) -> str:
    return f"repository:{name}:pull"
