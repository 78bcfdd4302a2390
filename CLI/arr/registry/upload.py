"""Sending a blob: not at all when it is there, by mount when it is next door, else its bytes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from urllib.parse import quote, urljoin

from arr.errors import AuthError, RegistryError
from arr.registry.content import digest_of, verify
from arr.registry.download import save_blob
from arr.registry.exchange import Answer, Ask
from arr.registry.failures import RegistryNotFound
from arr.registry.wire import Wire

_SLOWEST = 20_000_000  # bytes a second at which a registry is expected to check what it received
_ACCEPTED = frozenset({202})
_CREATED = frozenset({201})


def put_blob(wire: Wire, base: str, name: str, data: bytes | Path, mount_from: str | None) -> str:
    """Make sure that repository `name` has the blob; return its digest. `base` ends in /v2.

    Sending it is one attempt from its start to its end, since a failure loses the upload session.
    """
    digest = digest_of(data)
    size = len(data) if isinstance(data, bytes) else data.stat().st_size

    def attempt() -> None:
        if present(wire, base, name, digest):
            return
        begun = mount(wire, base, name, digest, mount_from) if mount_from else None
        if begun is not None and begun.status == 201:
            return
        begun = begun or wire.once(Ask("POST", _uploads(base, name), _push(name), _ACCEPTED))
        place = _place(begun)
        url = f"{place}{'&' if '?' in place else '?'}digest={quote(digest)}"
        headers = {"Content-Type": "application/octet-stream"}
        ask = Ask("PUT", url, _push(name), _CREATED, headers, data, patience=size / _SLOWEST)
        done = wire.once(ask)
        verify(done.headers.get("docker-content-digest", digest), digest, f"PUT {done.url}")

    wire.retrying(attempt)
    return digest


def copy_blob(wire: Wire, base: str, name: str, digest: str, source: str) -> None:
    """Make sure that repository `name` has a blob of repository `source`."""

    def mounted() -> bool:
        if present(wire, base, name, digest):
            return True
        begun = mount(wire, base, name, digest, source)
        return begun is not None and begun.status == 201

    if wire.retrying(mounted):
        return
    with tempfile.TemporaryDirectory(prefix="arr-blob-") as folder:
        path = Path(folder) / "blob"
        save_blob(wire, base, source, digest, path)
        put_blob(wire, base, name, path, None)


def present(wire: Wire, base: str, name: str, digest: str) -> bool:
    """One attempt; whoever asks this is about to push, and so has the scope for it."""
    try:
        wire.once(Ask("HEAD", f"{base}/{name}/blobs/{digest}", _push(name)))
    except RegistryNotFound:
        return False
    return True


def mount(wire: Wire, base: str, name: str, digest: str, source: str) -> Answer | None:
    """One attempt: 201 is mounted, 202 is an upload session in its place, None is neither."""
    url = f"{_uploads(base, name)}?mount={quote(digest)}&from={quote(source, safe='')}"
    scope = f"{_push(name)} repository:{source}:pull"
    try:
        answer = wire.once(Ask("POST", url, scope, _ACCEPTED | _CREATED))
    except (RegistryNotFound, AuthError):
        return None  # the source is not there, or not for us: that only costs the upload
    if answer.status == 201:
        found = answer.headers.get("docker-content-digest", digest)
        verify(found, digest, f"POST {answer.url}")
    return answer


def _uploads(base: str, name: str) -> str:
    return f"{base}/{name}/blobs/uploads/"


def _push(name: str) -> str:
    return f"repository:{name}:pull,push"


def _place(begun: Answer) -> str:
    """Where to send the bytes: the Location, which may be relative to the request."""
    location = begun.headers.get("location")
    if not location:
        raise RegistryError(f"POST {begun.url}: the registry opened an upload but not where")
    return urljoin(begun.url, location)
