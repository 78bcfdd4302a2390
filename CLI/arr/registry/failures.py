"""What a refusal means: from an answer of the registry to the error that a person reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from arr.errors import ArrError, AuthError, RegistryError
from arr.registry.exchange import Answer

_LONGEST = 400
_DISK_FULL = 28  # ENOSPC, as docker-registry gives it in an error's detail


class RegistryNotFound(RegistryError):
    """The registry answered 404: it does not have what was asked for.

    `codes` are the specification's words for it, such as NAME_UNKNOWN; () if it gave none.
    """

    def __init__(self, message: str, hint: str = "", codes: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint)
        self.codes = codes


class PlatformMissing(RegistryError):
    """An index of images that has none for the wanted platform."""


@contextmanager
def expected_parts(of: str) -> Iterator[None]:
    """Within it a 404 is a broken image, no absent one: `of` was there and names the lost part."""
    try:
        yield
    except RegistryNotFound as lost:
        raise RegistryError(
            f"{of} is broken: the registry has lost a part of it\n{lost.message}",
            "build and push it again",
        ) from lost


def failure(answer: Answer) -> ArrError:
    """The error for an answer whose status is not what was asked for."""
    said = words(answer)
    what = f"{answer.method} {answer.url}: {answer.status} {_phrase(answer.status)}".rstrip()
    what = f"{what}: {said}" if said else what
    host = urlsplit(answer.url).netloc
    if answer.status == HTTPStatus.UNAUTHORIZED and answer.home:
        return AuthError(what, login_hint(host))
    if answer.status == HTTPStatus.FORBIDDEN and answer.home:
        return AuthError(what, f"this account may not do that at {host}: ask for the right to it")
    if answer.status == HTTPStatus.NOT_FOUND and answer.home:
        hint = "check the name, and that it was pushed to this registry"
        return RegistryNotFound(what, hint, _codes(answer))
    return RegistryError(what, _hint(answer, said))


def login_hint(host: str) -> str:
    """What to do when a registry wants to know who is asking."""
    if host.endswith(".pkg.dev"):
        return f"run: gcloud auth configure-docker {host}"
    return f"run: docker login {host}\nor set ARR_REGISTRY_USERNAME and ARR_REGISTRY_PASSWORD"


def words(answer: Answer) -> str:
    """What the registry itself says of the failure, on one line, without control characters."""
    kind = answer.headers.get("content-type", "")
    if "html" in kind:
        return "(an HTML page: is a proxy or a login page in between?)"
    text = answer.body.decode("utf-8", "replace")
    with suppress(ValueError, RecursionError):
        text = _told(json.loads(text))
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."


def _codes(answer: Answer) -> tuple[str, ...]:
    try:
        return tuple(str(entry.get("code", "")) for entry in _entries(json.loads(answer.body)))
    except (ValueError, RecursionError):
        return ()


def _entries(content: Any) -> list[dict[str, Any]]:
    found = content.get("errors") if isinstance(content, dict) else None
    return [e for e in found if isinstance(e, dict)] if isinstance(found, list) else []


def _told(content: Any) -> str:
    if entries := _entries(content):
        return "; ".join(_entry(entry) for entry in entries)
    if isinstance(content, dict):  # a token service has its own forms
        for key in ("error_description", "message", "details", "error"):
            if isinstance(content.get(key), str):
                return str(content[key])
    return json.dumps(content)


def _entry(entry: dict[str, Any]) -> str:
    told = " ".join(str(entry[key]) for key in ("code", "message") if entry.get(key))
    if not (detail := entry.get("detail")):
        return told
    if isinstance(detail, dict) and _errno(detail) == _DISK_FULL:
        return f"{told} (no space left on device)"
    return f"{told} ({detail if isinstance(detail, str) else json.dumps(detail)})"


def _errno(detail: dict[str, Any]) -> Any:
    inner = detail.get("Enclosed", detail)
    return inner.get("Err") if isinstance(inner, dict) else None


def _hint(answer: Answer, said: str) -> str:
    if answer.status == HTTPStatus.INSUFFICIENT_STORAGE or "no space left" in said.lower():
        return "the registry's disk is full: free space there (delete old images), then try again"
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        return "the registry limits how often it may be asked: wait a while, or raise its quota"
    if answer.status == HTTPStatus.METHOD_NOT_ALLOWED:
        return "the registry does not allow this (is deletion switched off in its settings?)"
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "the registry is in trouble: try again later, or read its log"
    return "check the registry's address and what it says above"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
