"""Where a registry is, and the names that may be asked of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from arr.errors import ConfigError, UsageError

# The grammar of the OCI Distribution specification, "Pulling manifests".
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Address:
    """A registry's URL taken apart: `path` leads every repository name on the wire."""

    url: str
    origin: str
    host: str
    path: str
    insecure: bool

    @property
    def prefix(self) -> str:
        """What an image reference begins with."""
        return f"{self.host}/{self.path}" if self.path else self.host

    def wire_name(self, repository: str) -> str:
        """The repository's name in a request. Raises UsageError if it is not a valid name."""
        name = f"{self.path}/{repository}" if self.path else repository
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"not a valid repository name: {repository!r}",
                "use lower case letters, digits and single . _ - between them",
            )
        return name

    def reference(self, repository: str, reference: str) -> str:
        """The image reference as docker writes it."""
        mark = "@" if is_digest(reference) else ":"
        return f"{self.prefix}/{repository}{mark}{reference}"


def parse_address(url: str) -> Address:
    """Take a registry's URL apart. Raises ConfigError; a password in it is not repeated there."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid or "@" in parts.netloc or parts.query or parts.fragment:
        shown = "(it holds a user name)" if "@" in url else repr(url)
        raise ConfigError(
            f"not a registry's address: {shown}",
            "write http://HOST:PORT or https://HOST/PATH; for a password: docker login HOST",
        )
    path = parts.path.strip("/")
    if path and not _NAME.fullmatch(path):
        raise ConfigError(f"not a registry's address: {url!r}: its path is no repository name")
    origin = f"{parts.scheme}://{parts.netloc}"
    insecure = parts.scheme == "http"
    return Address(f"{origin}/{path}".rstrip("/"), origin, parts.netloc, path, insecure)


def is_digest(reference: str) -> bool:
    return _DIGEST.fullmatch(reference) is not None


def checked_reference(reference: str) -> str:
    """Return a tag or digest as it is. Raises UsageError for anything else."""
    if not is_digest(reference) and not _TAG.fullmatch(reference):
        raise UsageError(f"neither a tag nor a sha256 digest: {reference!r}")
    return reference


def checked_digest(digest: str) -> str:
    """Return a digest as it is. Raises UsageError for anything else, a tag included."""
    if not is_digest(digest):
        raise UsageError(f"not a sha256 digest: {digest!r}", "ask for the digest with head()")
    return digest
