"""The OCI Distribution API as arr needs it.

Our own, as no kept library has it all: HEAD of three values, mount, retries, several threads.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import httpx2

from arr.registry import content, download, upload
from arr.registry.address import checked_digest, checked_reference, is_digest, parse_address
from arr.registry.auth import Credentials, CredentialSource
from arr.registry.content import ImageConfig, Manifest
from arr.registry.exchange import Ask
from arr.registry.failures import RegistryNotFound, expected_parts
from arr.registry.pages import pages
from arr.registry.retry import Retrier, Retry
from arr.registry.wire import Wire

_ACCEPT = {"Accept": ", ".join(content.MANIFEST_TYPES)}


class Registry:
    """One registry, safe for threads. Each method is done when it returns and may be repeated.

    A failure that passes is tried again (see Retry). Raises AuthError, RegistryError, and
    UsageError for a name that no registry can have. `credentials` may be a function: it is then
    asked only once the registry wants to know, and again when what it gave is refused.
    """

    def __init__(
        self,
        url: str,
        *,
        credentials: Credentials | CredentialSource | None = None,
        transport: httpx2.BaseTransport | None = None,
        retry: Retry = Retry(),  # noqa: B008
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        timeout: float = 30.0,
    ) -> None:
        self._address = parse_address(url)
        self.url = self._address.url
        self.prefix = self._address.prefix
        self.insecure = self._address.insecure
        self._base = f"{self._address.origin}/v2"
        source = credentials if callable(credentials) else lambda: credentials
        retrier = Retrier(retry, sleep, clock, chance)
        self._wire = Wire(self._address, source, transport, retrier, timeout)

    def ping(self) -> None:
        """Return if the registry answers as one and accepts the credentials."""
        self._wire.send(Ask("GET", f"{self._base}/"))

    def head(self, repository: str, reference: str) -> str | None:
        """The manifest's digest; None only when the registry says that it is not there."""
        url, scope = self._manifest(repository, reference)
        try:
            answer = self._wire.send(Ask("HEAD", url, scope, headers=_ACCEPT))
        except RegistryNotFound:
            return None
        digest = answer.headers.get("docker-content-digest", "")
        if not is_digest(digest):
            return self.manifest(repository, reference).digest
        content.media_type(answer.headers.get("content-type"), f"HEAD {answer.url}")
        if is_digest(reference):
            content.verify(digest, reference, f"HEAD {answer.url}")
        return digest

    def manifest(self, repository: str, reference: str) -> Manifest:
        """A manifest or index, checked against its digest. Raises RegistryNotFound."""
        url, scope = self._manifest(repository, reference)
        answer = self._wire.send(Ask("GET", url, scope, headers=_ACCEPT))
        where = f"GET {answer.url}"
        kind = content.media_type(answer.headers.get("content-type"), where)
        digest = content.digest_of(answer.body)
        content.verify(digest, answer.headers.get("docker-content-digest", digest), where)
        if is_digest(reference):
            content.verify(digest, reference, where)
        return content.read_manifest(answer.body, kind, where)

    def config(self, repository: str, reference: str, platform: str = "linux/amd64") -> ImageConfig:
        """The image's configuration; `platform` chooses among an index, and only there.

        Raises RegistryNotFound if the image is not there, PlatformMissing (a RegistryError) if
        the index has none for the platform.
        """
        manifest = self.manifest(repository, reference)
        where = self._address.reference(repository, reference)
        with expected_parts(where):
            if manifest.media_type in content.INDEX_TYPES:
                digest = content.pick_platform(manifest, platform, where)
                manifest = self.manifest(repository, digest)
            config, _ = content.parts(manifest, where)
            return content.image_config(manifest, self.blob(repository, config.digest), where)

    def blob(self, repository: str, digest: str) -> bytes:
        """A blob as bytes, checked against its digest; for a large one, save_blob."""
        name = self._address.wire_name(repository)
        return download.blob(self._wire, self._base, name, checked_digest(digest))

    def save_blob(self, repository: str, digest: str, path: Path) -> None:
        """Write a blob to a file, checked; no file is left there when that fails."""
        name = self._address.wire_name(repository)
        download.save_blob(self._wire, self._base, name, checked_digest(digest), path)

    def has_blob(self, repository: str, digest: str) -> bool:
        name = self._address.wire_name(repository)
        return download.has_blob(self._wire, self._base, name, checked_digest(digest))

    def put_blob(
        self, repository: str, data: bytes | Path, *, mount_from: str | None = None
    ) -> str:
        """Make sure that the repository has the blob, sending it only if needed; its digest."""
        name = self._address.wire_name(repository)
        source = self._address.wire_name(mount_from) if mount_from else None
        return upload.put_blob(self._wire, self._base, name, data, source)

    def copy_blob(self, repository: str, digest: str, source: str) -> None:
        """Make sure that `repository` has a blob of repository `source`: mounted, else sent."""
        name, other = self._address.wire_name(repository), self._address.wire_name(source)
        upload.copy_blob(self._wire, self._base, name, checked_digest(digest), other)

    def put_manifest(
        self,
        repository: str,
        reference: str,
        media_type: str,
        body: bytes,
        references: Sequence[str] = (),
    ) -> str:
        """Store the bytes under `reference`, then under each of `references`; their digest."""
        digest = content.digest_of(body)
        for one in (reference, *references):
            url, pull = self._manifest(repository, one)
            headers = {"Content-Type": media_type}
            push = f"{pull},push"
            answer = self._wire.send(Ask("PUT", url, push, frozenset({201}), headers, body))
            stored = answer.headers.get("docker-content-digest", digest)
            content.verify(stored, digest, f"PUT {answer.url}")
        return digest

    def retag(self, repository: str, reference: str, new_tag: str) -> str:
        """Give what is under `reference` another tag as well: the same bytes, the same digest."""
        manifest = self.manifest(repository, reference)
        return self.put_manifest(repository, new_tag, manifest.media_type, manifest.body)

    def tags(self, repository: str) -> list[str]:
        """The repository's tags, sorted; [] when the registry does not know the repository."""
        name = self._address.wire_name(repository)
        url = f"{self._base}/{name}/tags/list?n=1000"
        try:
            return sorted(pages(self._wire, url, f"repository:{name}:pull", "tags"))
        except RegistryNotFound as error:
            if "NAME_UNKNOWN" in error.codes:
                return []
            raise

    def repositories(self) -> list[str]:
        """The repositories below this address, sorted. Not every registry can tell."""
        lead = f"{self._address.path}/" if self._address.path else ""
        url = f"{self._base}/_catalog?n=1000"
        found = pages(self._wire, url, "registry:catalog:*", "repositories")
        return sorted(name.removeprefix(lead) for name in found if name.startswith(lead))

    def delete(self, repository: str, digest: str) -> bool:
        """Remove a manifest, and with it every tag on it; False if it was not there."""
        url, pull = self._manifest(repository, checked_digest(digest))
        scope = f"{pull.removesuffix('pull')}delete"
        try:
            self._wire.send(Ask("DELETE", url, scope, frozenset({200, 202, 204})))
        except RegistryNotFound:
            return False
        return True

    def close(self) -> None:
        self._wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _manifest(self, repository: str, reference: str) -> tuple[str, str]:
        """The URL of a manifest, and the scope in which it is read."""
        name = self._address.wire_name(repository)
        url = f"{self._base}/{name}/manifests/{checked_reference(reference)}"
        return url, f"repository:{name}:pull"
