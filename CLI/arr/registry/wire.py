"""The way to one registry: pooled connections, authorization, retries, refusals as errors."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable
from http import HTTPStatus
from typing import TypeVar

import httpx2

from arr.errors import RegistryError
from arr.registry.address import Address
from arr.registry.auth import CredentialSource
from arr.registry.exchange import Answer, Ask, exchange
from arr.registry.failures import failure
from arr.registry.retry import Retrier, Transient, retry_after
from arr.registry.tokens import Tokens

T = TypeVar("T")

_TRANSIENT = frozenset({429, 500, 502, 503, 504})
_LIMITS = httpx2.Limits(max_connections=64, max_keepalive_connections=32, keepalive_expiry=30.0)


class Wire:
    """Safe for threads. An answer that it returns has one of the statuses that were expected."""

    def __init__(
        self,
        address: Address,
        source: CredentialSource,
        transport: httpx2.BaseTransport | None,
        retrier: Retrier,
        timeout: float,
    ) -> None:
        self._origin = httpx2.URL(address.origin).origin
        self._timeout = timeout
        self._retrier = retrier
        local = address.insecure and _loopback(self._origin.host)
        self._client = httpx2.Client(
            transport=transport,
            # On plain loopback no CA is loaded (that takes longer than a whole look-up): a redirect
            # from there to https fails its check. Nor has a proxy anything to do there.
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if local else True,
            trust_env=not local,
            limits=_LIMITS,
            headers={"User-Agent": "arr"},
        )
        self._tokens = Tokens(
            address.host, not address.insecure, source, self._fetch_token, retrier.clock
        )

    def send(self, ask: Ask) -> Answer:
        """`once`, tried again while the failure is one that passes."""
        return self._retrier(lambda: self.once(ask))

    def retrying(self, attempt: Callable[[], T]) -> T:
        """Run `attempt`, which may ask several times by `once`, again from its start."""
        return self._retrier(attempt)

    def once(self, ask: Ask) -> Answer:
        """Send `ask`, answering a challenge. Raises Transient, AuthError, RegistryError."""
        ours = httpx2.URL(ask.url).origin == self._origin
        header = self._tokens.header(ask.scope) if ours else None
        answer = exchange(self._client, ask, header, self._timeout)
        if answer.status == HTTPStatus.UNAUTHORIZED and ours and answer.home:
            header = self._tokens.renew(ask.scope, answer, header)
            answer = exchange(self._client, ask, header, self._timeout)
        if answer.status in ask.expect:
            return answer
        raise self._refusal(answer)

    def _refusal(self, answer: Answer) -> Exception:
        error = failure(answer)
        if answer.status in _TRANSIENT and isinstance(error, RegistryError):
            return Transient(error, retry_after(answer.headers))
        return error

    def _fetch_token(self, ask: Ask, authorization: str | None) -> Answer:
        answer = exchange(self._client, ask, authorization, self._timeout)
        if answer.status in _TRANSIENT:
            raise self._refusal(answer)
        return answer

    def close(self) -> None:
        self._client.close()


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
