"""`:latest` of several images moves as one, against a real registry."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable

import pytest

from arr.errors import RegistryError
from arr.registry import aliases
from arr.registry.client import Registry
from arr.registry.content import OCI_MANIFEST

Names = tuple[str, str]


@pytest.fixture
def names() -> Names:
    """Two repositories that no other test has."""
    lead = f"aliases/{uuid.uuid4().hex}"
    return f"{lead}/one", f"{lead}/two"


def push(registry: Registry, repository: str, text: str) -> str:
    """Put some manifest there under its own tag; return its digest."""
    config = registry.put_blob(repository, b"{}")
    body = (
        f'{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":'
        f'"application/vnd.oci.empty.v1+json","digest":"{config}","size":2}},"layers":[],'
        f'"annotations":{{"text":"{text}"}}}}'
    )
    return registry.put_manifest(repository, text, OCI_MANIFEST, body.encode())


def latest(registry: Registry, names: Names) -> list[str | None]:
    return [registry.head(name, "latest") for name in names]


def test_all_move_and_a_second_time_none(registry, names):
    old = {name: push(registry, name, "old") for name in names}
    new = {name: push(registry, name, "new") for name in names}
    assert aliases.move(registry, old) == list(names)
    assert latest(registry, names) == list(old.values())
    assert aliases.move(registry, old) == []
    assert aliases.move(registry, {**old, names[1]: new[names[1]]}) == [names[1]]
    assert latest(registry, names) == [old[names[0]], new[names[1]]]
    assert aliases.move(registry, new) == [names[0]]


def test_another_alias(registry, names):
    digest = push(registry, names[0], "old")
    assert aliases.move(registry, {names[0]: digest}, "deployed") == [names[0]]
    assert registry.head(names[0], "deployed") == digest
    assert registry.head(names[0], "latest") is None


def test_all_or_none(registry, names):
    old = {name: push(registry, name, "old") for name in names}
    aliases.move(registry, old)
    new = {names[0]: push(registry, names[0], "new"), names[1]: "sha256:" + "0" * 64}
    with pytest.raises(RegistryError, match=names[1]):
        aliases.move(registry, new)
    assert latest(registry, names) == list(old.values())


class Rude(Registry):
    """Calls `hook` before each tag is given."""

    hook: Callable[[str], None]

    def retag(self, repository: str, reference: str, new_tag: str) -> str:
        self.hook(repository)
        return super().retag(repository, reference, new_tag)


def test_a_fault_of_our_own_puts_back_what_was_moved(embedded_url, names):
    with Rude(embedded_url) as registry:
        registry.hook = lambda repository: None
        old = {name: push(registry, name, "old") for name in names}
        new = {name: push(registry, name, "new") for name in names}
        aliases.move(registry, old)

        def fail(repository: str) -> None:
            if repository == names[1]:
                raise TypeError("a fault")

        registry.hook = fail
        with pytest.raises(TypeError, match="a fault"):
            aliases.move(registry, new)
        assert latest(registry, names) == list(old.values())


def test_ctrl_c_waits_until_all_are_moved(embedded_url, names):
    with Rude(embedded_url) as registry:
        registry.hook = lambda repository: os.kill(os.getpid(), signal.SIGINT)
        digests = {name: push(registry, name, "old") for name in names}
        with pytest.raises(KeyboardInterrupt):
            aliases.move(registry, digests)
        assert latest(registry, names) == list(digests.values())
