"""Moving `:latest` of several images together: last, and all of them or none."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from arr.errors import ArrError
from arr.exclusive import uninterrupted
from arr.registry.client import Registry

LATEST = "latest"


def move(registry: Registry, digests: Mapping[str, str], alias: str = LATEST) -> list[str]:
    """Let `alias` of each repository name the digest given; return the repositories it moved in.

    If one cannot be moved, those moved before are put back and the error is raised; an alias that
    was not there before stays, since registries remove images, not tags. Signals wait until it is
    done. Called again it changes nothing.
    """
    moved: dict[str, str | None] = {}
    with uninterrupted():
        try:
            for repository, digest in digests.items():
                before = registry.head(repository, alias)
                if before != digest:
                    registry.retag(repository, digest, alias)
                    moved[repository] = before
        except BaseException:
            for repository, old in moved.items():
                if old is not None:
                    with contextlib.suppress(ArrError):  # the first error is the one to tell
                        registry.retag(repository, old, alias)
            raise
    return list(moved)
