"""Who is asking: a registry's challenge, and the credentials that answer it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from arr.errors import ConfigError
from arr.registry.dockerconfig import from_docker_config

USERNAME = "ARR_REGISTRY_USERNAME"
PASSWORD = "ARR_REGISTRY_PASSWORD"

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"[\s,]*({_TOKEN})(?:\s+|\s*(?=,|$))")
_PARAM = re.compile(rf'[\s,]*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))\s*(?=,|$)', re.S)
_TOKEN68 = re.compile(r"[0-9A-Za-z._~+/-]+=*\s*(?=,|$)")


@dataclass(frozen=True, slots=True)
class Credentials:
    username: str
    password: str = field(repr=False)


CredentialSource = Callable[[], Credentials | None]


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way in that a registry offers: the scheme and the parameter names are in lower case."""

    scheme: str
    params: Mapping[str, str]


def find_credentials(host: str, environ: Mapping[str, str], home: Path) -> Credentials | None:
    """The credentials for `host`: the environment's, else those of docker's config.json.

    None if neither knows the host. Raises ConfigError for a file that cannot be read, AuthError
    for a credential helper that fails.
    """
    username, password = environ.get(USERNAME, ""), environ.get(PASSWORD, "")
    if bool(username) != bool(password):
        missing = PASSWORD if username else USERNAME
        raise ConfigError(f"{missing} is not set", f"set both {USERNAME} and {PASSWORD}, or none")
    if username:
        return Credentials(username, password)
    found = from_docker_config(host, environ, home)
    return Credentials(*found) if found else None


def parse_challenges(header: str) -> list[Challenge]:
    """The challenges of a WWW-Authenticate header (RFC 9110, 11.6.1), in their order.

    Reading stops where the text no longer follows the grammar; what came before it is returned.
    """
    found: list[Challenge] = []
    at = 0
    while scheme := _SCHEME.match(header, at):
        at = scheme.end()
        params: dict[str, str] = {}
        while param := _PARAM.match(header, at):
            name, quoted, plain = param.groups()
            value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.S)
            params.setdefault(name.lower(), value)
            at = param.end()
        if not params and (token := _TOKEN68.match(header, at)) and header[at : at + 1] != ",":
            at = token.end()
        found.append(Challenge(scheme[1].lower(), params))
    return found
