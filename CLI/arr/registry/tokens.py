"""The Authorization header of each request: Basic, or a Bearer token a scope, renewed in time."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Lock
from urllib.parse import urlencode, urlsplit

import msgspec

from arr.errors import AuthError, RegistryError
from arr.registry.auth import Challenge, Credentials, CredentialSource, parse_challenges
from arr.registry.exchange import Answer, Ask
from arr.registry.failures import failure, login_hint

_EARLY = 10.0  # seconds before its end in which a token is no longer used


class _TokenForm(msgspec.Struct):
    token: str | None = None
    access_token: str | None = None
    expires_in: float | None = None


@dataclass(frozen=True, slots=True)
class _Token:
    header: str
    until: float


class Tokens:
    """Answers a registry's challenges. Safe for threads: one renewal a scope at a time."""

    def __init__(
        self,
        host: str,
        secure: bool,
        source: CredentialSource,
        fetch: Callable[[Ask, str | None], Answer],
        clock: Callable[[], float],
    ) -> None:
        self._host = host
        self._secure = secure
        self._source = source
        self._fetch = fetch
        self._clock = clock
        self._guard = Lock()
        self._locks: dict[str, Lock] = {}
        self._tokens: dict[str, _Token] = {}
        self._basic: str | None = None
        self._known: tuple[Credentials | None] | None = None

    def header(self, scope: str) -> str | None:
        """What to send with a request of `scope`; None until the registry has asked for it."""
        token = self._tokens.get(scope)
        if token is not None:
            return token.header if self._clock() < token.until else None
        return self._basic

    def renew(self, scope: str, refused: Answer, tried: str | None) -> str:
        """The header that answers the challenge in `refused`, a 401 to a request with `tried`.

        Raises AuthError when there is none that could be better than `tried`.
        """
        with self._guard:
            lock = self._locks.setdefault(scope, Lock())
        with lock:
            current = self.header(scope)
            if current is not None and current != tried:
                return current  # another thread was first
            offers = [
                offer
                for text in refused.headers.get_list("www-authenticate")
                for offer in parse_challenges(text)
            ]
            for offer in offers:
                if offer.scheme == "bearer":
                    self._tokens[scope] = self._bearer(scope, offer)
                    return self._tokens[scope].header
            if any(offer.scheme == "basic" for offer in offers):
                self._basic = self._renew_basic(refused, tried)
                return self._basic
        raise failure(refused)

    def _renew_basic(self, refused: Answer, tried: str | None) -> str:
        credentials = self._credentials(again=tried is not None)
        if credentials is None or (header := _basic(credentials)) == tried:
            raise failure(refused)
        return header

    def _bearer(self, scope: str, offer: Challenge) -> _Token:
        realm = offer.params.get("realm", "")
        parts = urlsplit(realm)
        if parts.scheme not in ("https", "http") or not parts.netloc or "@" in parts.netloc:
            raise AuthError(f"{self._host} names no valid token service: {realm!r}")
        if self._secure and parts.scheme == "http":
            raise AuthError(
                f"{self._host} names a token service without TLS: {parts.netloc}",
                "no password is sent there: ask who runs the registry",
            )
        query = [("service", offer.params["service"])] if "service" in offer.params else []
        query += [("scope", one) for one in merged([scope, offer.params.get("scope", "")])]
        ask = Ask("GET", f"{realm}{'&' if parts.query else '?'}{urlencode(query)}")
        credentials = self._credentials()
        answer = self._fetch(ask, _basic(credentials) if credentials else None)
        if answer.status in (401, 403):  # credentials can be short-lived too
            fresh = self._credentials(again=True)
            if fresh is not None and fresh != credentials:
                answer = self._fetch(ask, _basic(fresh))
        return self._read(answer)

    def _read(self, answer: Answer) -> _Token:
        where = f"{answer.method} {answer.url}"
        if answer.status != 200:
            told = failure(answer)
            raise AuthError(told.message, login_hint(self._host))
        try:
            form = msgspec.json.decode(answer.body, type=_TokenForm, strict=False)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RegistryError(f"{where}: the token service's answer is no token") from error
        token = form.token or form.access_token or ""
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise RegistryError(f"{where}: the token service's answer holds no token")
        lasts = 60.0 if form.expires_in is None else form.expires_in  # 60: the specification's
        return _Token(f"Bearer {token}", self._clock() + max(lasts - _EARLY, lasts / 2))

    def _credentials(self, again: bool = False) -> Credentials | None:
        with self._guard:
            if self._known is None or again:
                self._known = (self._source(),)
            return self._known[0]


def merged(scopes: Iterable[str]) -> list[str]:
    """The scopes (TYPE:NAME:ACTION,ACTION, space-separated) with one entry a resource."""
    actions: dict[str, dict[str, None]] = {}
    for scope in " ".join(scopes).split():
        resource, _, wanted = scope.rpartition(":")
        actions.setdefault(resource, {}).update(dict.fromkeys(wanted.split(",")))
    return [f"{resource}:{','.join(wanted)}" for resource, wanted in actions.items()]


def _basic(credentials: Credentials) -> str:
    pair = f"{credentials.username}:{credentials.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"
