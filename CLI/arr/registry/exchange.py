"""One HTTP exchange with a registry: redirects followed, the answer read whole."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import httpx2

from arr.errors import RegistryError
from arr.registry.retry import Transient

OK = frozenset({200})
JSON_CAP = 4 * 1024 * 1024  # the specification's limit of a manifest
_ERROR_CAP = 64 * 1024
_CHUNK = 1024 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
_CONNECT = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class Ask:
    """A request: `expect` are the statuses that mean success; `sink` takes a large body.

    `cap` is the most bytes to keep of a body without a sink; None is without limit.
    `patience` is how many seconds longer than usual the registry may take to answer.
    """

    method: str
    url: str
    scope: str = ""
    expect: frozenset[int] = OK
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Path | None = None
    cap: int | None = JSON_CAP
    sink: BinaryIO | None = None
    patience: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A response; `url` is fit to be shown (no query), `home` tells that no other host gave it."""

    method: str
    url: str
    status: int
    headers: httpx2.Headers
    body: bytes
    home: bool


def exchange(client: httpx2.Client, ask: Ask, authorization: str | None, timeout: float) -> Answer:
    """Send `ask` once. `authorization` goes to the host of `ask.url` and to no other.

    Raises Transient for a connection that fails or ends early, RegistryError for an answer that
    cannot be used. Every status is returned.
    """
    url = _url(ask.url)
    home = True
    for _ in range(_MOST_REDIRECTS + 1):
        answer = _once(client, ask, url, authorization if home else None, timeout, home)
        location = answer.headers.get("location")
        if answer.status not in _REDIRECTS or not location or ask.method not in ("GET", "HEAD"):
            return answer
        target = url.join(_url(location))
        if url.scheme == "https" and target.scheme != "https":
            raise RegistryError(f"{ask.method} {shown(url)}: redirected to plain {target.scheme}")
        home = home and target.origin == url.origin
        url = target
    raise RegistryError(f"{ask.method} {shown(ask.url)}: more than {_MOST_REDIRECTS} redirects")


def shown(url: httpx2.URL | str) -> str:
    """The URL without its query and user: those can hold a signature or a password."""
    parts = httpx2.URL(url)
    return str(parts.copy_with(query=None, fragment=None, userinfo=b""))


def _url(text: str) -> httpx2.URL:
    try:
        return httpx2.URL(text)
    except httpx2.InvalidURL as error:
        plain = text.partition("?")[0]
        raise RegistryError(f"the registry named an address that is none: {plain!r}") from error


def _once(
    client: httpx2.Client,
    ask: Ask,
    url: httpx2.URL,
    authorization: str | None,
    timeout: float,
    home: bool,
) -> Answer:
    headers = {"Accept-Encoding": "identity", **ask.headers}
    if authorization is not None:
        headers["Authorization"] = authorization
    content: bytes | Iterator[bytes] | None = None
    if isinstance(ask.body, Path):
        headers["Content-Length"] = str(ask.body.stat().st_size)
        content = _chunks(ask.body)
    else:
        content = ask.body
    request = client.build_request(
        ask.method,
        url,
        headers=headers,
        content=content,
        timeout=httpx2.Timeout(
            timeout, connect=min(timeout, _CONNECT), read=timeout + ask.patience, pool=None
        ),
    )
    try:
        response = client.send(request, stream=True, follow_redirects=False)
        try:
            body = _read(response, ask, shown(url))
        finally:
            response.close()
    except httpx2.TransportError as error:
        raise _unreachable(ask, url, error) from error
    return Answer(ask.method, shown(url), response.status_code, response.headers, body, home)


def _read(response: httpx2.Response, ask: Ask, where: str) -> bytes:
    wanted = response.status_code in ask.expect
    if wanted and ask.sink is not None:
        ask.sink.seek(0)
        ask.sink.truncate()
        for chunk in response.iter_raw(_CHUNK):
            ask.sink.write(chunk)
        return b""
    cap = ask.cap if wanted else _ERROR_CAP
    kept = bytearray()
    for chunk in response.iter_raw():
        kept += chunk
        if cap is not None and len(kept) > cap:
            if not wanted:
                return bytes(kept[:cap])
            raise RegistryError(f"{ask.method} {where}: the answer is longer than {cap} bytes")
    return bytes(kept)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _unreachable(ask: Ask, url: httpx2.URL, error: httpx2.TransportError) -> Exception:
    what = f"{ask.method} {shown(url)}: {_plain(error)}"
    if isinstance(error, (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)):
        return RegistryError(what, "check the registry's address")
    tls = _tls_failure(error)
    if isinstance(tls, ssl.SSLCertVerificationError):
        hint = "if its certificate is your own, name the CA file in SSL_CERT_FILE"
        return RegistryError(what, hint)
    if tls is not None and "WRONG_VERSION_NUMBER" in str(tls):
        return RegistryError(what, "it does not speak TLS: is its address http:// ?")
    return Transient(RegistryError(what, "is the registry running, and is the address right?"))


def _plain(error: httpx2.TransportError) -> str:
    if isinstance(error, httpx2.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, httpx2.TimeoutException):
        return "no answer in time"
    return str(error) or type(error).__name__


def _tls_failure(error: BaseException | None) -> ssl.SSLError | None:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return error
        error = error.__cause__ or error.__context__
    return None
