from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_registry import FakeRegistry

from arr.registry.client import Registry
from arr.registry.embedded import Embedded


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.naps: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def connect(time: Time) -> Iterator[Callable[..., Registry]]:
    """Makes registries that sleep on the test's clock, and closes them."""
    made: list[Registry] = []

    def make(url: str, **options: Any) -> Registry:
        given = {"sleep": time.sleep, "clock": time.clock, "chance": lambda: 0.0, "timeout": 10.0}
        made.append(Registry(url, **(given | options)))
        return made[-1]

    yield make
    for registry in made:
        registry.close()


@pytest.fixture
def fakes(connect: object) -> Iterator[Callable[[], FakeRegistry]]:
    """Makes fake registries; a request that none of them was told about fails the test."""
    made: list[FakeRegistry] = []

    def make() -> FakeRegistry:
        made.append(FakeRegistry())
        return made[-1]

    yield make
    for fake in made:
        fake.close()
    assert [one for fake in made for one in fake.unexpected] == []


@pytest.fixture
def fake(fakes: Callable[[], FakeRegistry]) -> FakeRegistry:
    return fakes()


@pytest.fixture(scope="session")
def embedded_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real docker-registry, one for all tests: each uses repositories of its own name."""
    embedded = Embedded(Path(tmp_path_factory.mktemp("embedded")))
    yield embedded.start()
    assert embedded.stop()


@pytest.fixture
def registry(embedded_url: str, connect: Callable[..., Registry]) -> Registry:
    return connect(embedded_url)
