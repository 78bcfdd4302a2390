"""What images a repository has, newest first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from arr.errors import ArrError, AuthError, RegistryError
from arr.registry import records
from arr.registry.client import Registry
from arr.registry.failures import PlatformMissing, RegistryNotFound
from arr.registry.labels import BUILT_AT, FINGERPRINT_LABEL, REASON

_WORKERS = 16
K = TypeVar("K")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A tag of a repository. `digest` is what the tag names; `size` is in bytes, as stored.

    `size`, `created` and `fingerprint` are None for an index without an image for the platform;
    `built_at` and `reason` come from the record beside the image, None when it has none.
    """

    repository: str
    tag: str
    digest: str
    size: int | None
    created: str | None
    fingerprint: str | None
    built_at: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class _Failed:
    error: ArrError


def list_images(
    registry: Registry, repository: str, platform: str = "linux/amd64"
) -> list[StoredImage]:
    """The repository's images, newest first, without the records; [] if it is not known.

    Raises one error that names all look-ups that failed.
    """
    tags = registry.tags(repository)
    recorded = {tag for tag in tags if records.is_record_tag(tag)}

    def look_up(tag: str) -> StoredImage | None:
        has_record = records.record_tag(tag) in recorded
        return _stored(registry, repository, tag, platform, has_record)

    found = _in_parallel(look_up, [tag for tag in tags if tag not in recorded])
    return sorted((image for image in found.values() if image), key=_age)


def _stored(
    registry: Registry, repository: str, tag: str, platform: str, has_record: bool
) -> StoredImage | None:
    """One row; None for a tag that was deleted since the tags were listed."""
    digest = registry.head(repository, tag)
    if digest is None:
        return None
    notes = records.read_annotations(registry, repository, tag) if has_record else None
    built_at, reason = (notes or {}).get(BUILT_AT), (notes or {}).get(REASON)
    try:
        config = registry.config(repository, digest, platform)
    except PlatformMissing:
        return StoredImage(repository, tag, digest, None, None, None, built_at, reason)
    except RegistryNotFound:
        return None
    fingerprint = config.labels.get(FINGERPRINT_LABEL)
    return StoredImage(
        repository, tag, digest, config.size, config.created, fingerprint, built_at, reason
    )


def _age(image: StoredImage) -> tuple[float, str]:
    """Sorts newest first; an image of unknown age comes last. Equal ages go by tag."""
    for text in (image.built_at, image.created):
        try:
            moment = datetime.fromisoformat(text or "")
        except ValueError:
            continue
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return -moment.timestamp(), image.tag
    return float("inf"), image.tag


def _in_parallel(look_up: Callable[[K], T], keys: Iterable[K]) -> dict[K, T]:
    """Look all keys up at the same time; raise one error for all that failed."""
    keys = list(keys)
    if not keys:
        return {}

    def guarded(key: K) -> T | _Failed:
        try:
            return look_up(key)
        except (RegistryError, AuthError) as error:
            return _Failed(error)

    pool = ThreadPoolExecutor(min(_WORKERS, len(keys)), thread_name_prefix="arr-registry")
    try:
        results = list(pool.map(guarded, keys))
    finally:
        pool.shutdown(cancel_futures=True)
    failed = [result.error for result in results if isinstance(result, _Failed)]
    if failed:
        raise _joined(failed)
    return {k: r for k, r in zip(keys, results, strict=True) if not isinstance(r, _Failed)}


def _joined(failed: list[ArrError]) -> ArrError:
    """One error for several: for all the same reason of its kind, else of the registry's."""
    if len(failed) == 1:
        return failed[0]
    kind = AuthError if all(isinstance(error, AuthError) for error in failed) else RegistryError
    messages = "\n".join(f"  {error.message}" for error in failed)
    hints = "\n".join(dict.fromkeys(error.hint for error in failed if error.hint))
    return kind(f"{len(failed)} look-ups in the registry failed:\n{messages}", hints)
