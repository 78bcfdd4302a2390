"""The cascade: parents first, independent images at once, the truth about what became of each."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arr.build import cascade
from arr.build.cascade import Result
from arr.errors import BuildError, Interrupted, RegistryError
from arr.stack.inputs import Inputs
from arr.stack.plan import Action, Found, Presence, Step

WAIT = 30
"""Seconds after which a test that waits for what does not come has failed."""

Parents = Mapping[str, Sequence[str]]


def step(image: str, parents: Sequence[str] = (), digest: str | None = None) -> Step:
    """A step that builds, or one that reuses `digest`."""
    return Step(
        image=image,
        repository=image,
        inputs=Inputs(image, None, "linux/amd64", {}, {}, {}, {}),
        parents=tuple(parents),
        found=Found(Presence.PRESENT if digest else Presence.ABSENT, digest),
        action=Action.REUSE if digest else Action.BUILD,
        reason="",
        changed=(),
        usual_seconds=None,
    )


def carry_out(
    steps: Sequence[Step],
    make: Callable[[Step, Mapping[str, str]], str],
    jobs: int = 2,
    skipped: Callable[[str, str], None] = lambda image, parent: None,
    stop: Callable[[], None] = lambda: pytest.fail("stopped"),
) -> Result:
    return cascade.carry_out(steps, make, jobs, skipped, stop)


def digest(step: Step, parents: Mapping[str, str]) -> str:
    return f"digest of {step.image}"


def test_each_image_is_given_the_digests_of_its_parents():
    seen: dict[str, dict[str, str]] = {}

    def make(one: Step, parents: Mapping[str, str]) -> str:
        seen[one.image] = dict(parents)
        return digest(one, parents)

    result = carry_out([step("a"), step("b", ["a"]), step("c", ["b", "a"])], make)
    assert seen == {
        "a": {},
        "b": {"a": "digest of a"},
        "c": {"b": "digest of b", "a": "digest of a"},
    }
    assert result.digests == {name: f"digest of {name}" for name in "abc"}
    assert result.complete


def test_what_is_there_is_reused_and_not_made():
    made: list[str] = []

    def make(one: Step, parents: Mapping[str, str]) -> str:
        made.append(one.image)
        assert parents == {"a": "sha256:a"}
        return "sha256:b"

    result = carry_out([step("a", digest="sha256:a"), step("b", ["a"])], make)
    assert made == ["b"]
    assert result.digests == {"a": "sha256:a", "b": "sha256:b"}


def test_independent_images_are_made_at_once():
    both = threading.Barrier(2)

    def make(one: Step, parents: Mapping[str, str]) -> str:
        both.wait(WAIT)  # breaks, and fails the image, if the other is not under way too
        return digest(one, parents)

    assert carry_out([step("a"), step("b")], make, jobs=2).complete


def test_no_more_are_made_at_once_than_asked():
    lock = threading.Lock()
    under_way, most = 0, 0

    def make(one: Step, parents: Mapping[str, str]) -> str:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        with lock:
            under_way -= 1
        return digest(one, parents)

    assert carry_out([step(name) for name in "abcdef"], make, jobs=1).complete
    assert most == 1


def test_an_image_starts_when_its_parents_are_in_whatever_else_goes_on():
    """A ready-queue, not levels: the slow image ends only after the grandchild of the quick one."""
    grandchild_made = threading.Event()

    def make(one: Step, parents: Mapping[str, str]) -> str:
        if one.image == "slow":
            assert grandchild_made.wait(WAIT)
        if one.image == "grandchild":
            grandchild_made.set()
        return digest(one, parents)

    steps = [step("slow"), step("quick"), step("child", ["quick"]), step("grandchild", ["child"])]
    assert carry_out(steps, make, jobs=2).complete


def test_a_failure_skips_its_descendants_and_nothing_else():
    failed = threading.Event()
    skips: list[tuple[str, str]] = []

    def make(one: Step, parents: Mapping[str, str]) -> str:
        if one.image == "bad":
            failed.set()
            raise BuildError("it broke")
        assert failed.wait(WAIT)
        return digest(one, parents)

    steps = [
        step("bad"), step("good"), step("child", ["bad"]), step("grandchild", ["child"]),
        step("other", ["good"]), step("mixed", ["good", "bad"]),
    ]  # fmt: skip
    result = carry_out(steps, make, skipped=lambda *skip: skips.append(skip))
    assert set(result.digests) == {"good", "other"}
    assert {name: str(error) for name, error in result.failed.items()} == {"bad": "it broke"}
    assert result.skipped == {"child": "bad", "grandchild": "child", "mixed": "bad"}
    assert dict(skips) == result.skipped
    assert not result.complete


def test_a_fault_of_our_own_is_a_failure_of_that_image_alone():
    def make(one: Step, parents: Mapping[str, str]) -> str:
        if one.image == "a":
            raise TypeError("a fault")
        return digest(one, parents)

    result = carry_out([step("a"), step("b")], make)
    assert isinstance(result.failed["a"], TypeError)
    assert result.digests == {"b": "digest of b"}


def test_ctrl_c_stops_the_children_and_waits_for_their_end(monkeypatch):
    waiting, stopped = threading.Event(), threading.Event()
    begun: list[str] = []
    ended: list[str] = []
    wait = cascade.wait

    def wait_and_say(*args: object, **options: object) -> object:
        waiting.set()  # all that can be begun has been handed out
        return wait(*args, **options)

    def interrupt() -> None:
        assert waiting.wait(WAIT)
        os.kill(os.getpid(), signal.SIGINT)

    both = threading.Barrier(2, action=interrupt)

    def make(one: Step, parents: Mapping[str, str]) -> str:
        begun.append(one.image)
        both.wait(WAIT)
        assert stopped.wait(WAIT)
        ended.append(one.image)
        raise Interrupted("interrupted")

    monkeypatch.setattr(cascade, "wait", wait_and_say)
    steps = [step("a"), step("b"), step("queued"), step("child", ["a"])]
    with pytest.raises(Interrupted) as caught:
        carry_out(steps, make, jobs=2, stop=stopped.set)
    assert caught.value.exit_code == 130
    assert sorted(ended) == ["a", "b"]
    assert sorted(begun) == ["a", "b"], "what had not begun must not begin"


def test_an_image_that_ends_as_interrupted_interrupts_the_cascade():
    def make(one: Step, parents: Mapping[str, str]) -> str:
        raise Interrupted("interrupted")

    stops: list[int] = []
    with pytest.raises(Interrupted):
        carry_out([step("a"), step("b", ["a"])], make, stop=lambda: stops.append(1))
    assert stops == [1]


def test_a_failure_of_the_cascade_itself_leaves_nothing_going_on():
    """The screen is gone when a skip is to be told: what is under way is ended, not waited for."""
    stopped = threading.Event()

    def make(one: Step, parents: Mapping[str, str]) -> str:
        if one.image == "bad":
            raise BuildError("it broke")
        assert stopped.wait(WAIT)
        raise Interrupted("interrupted")

    def skipped(image: str, parent: str) -> None:
        raise BrokenPipeError

    steps = [step("slow"), step("bad"), step("child", ["bad"])]
    with pytest.raises(BrokenPipeError):
        carry_out(steps, make, skipped=skipped, stop=stopped.set)
    assert stopped.is_set()


@st.composite
def stacks(draw: st.DrawFn) -> tuple[list[Step], set[str]]:
    """A random stack, parents first, some of it present; and which images fail."""
    steps: list[Step] = []
    for number in range(draw(st.integers(0, 9))):
        earlier = [one.image for one in steps]
        parents = (
            draw(st.lists(st.sampled_from(earlier), unique=True, max_size=3)) if earlier else []
        )
        present = draw(st.booleans()) and draw(st.booleans())
        steps.append(step(f"image{number}", parents, f"digest {number}" if present else None))
    names = [one.image for one in steps]
    failing = set(draw(st.lists(st.sampled_from(names), unique=True))) if names else set()
    return draw(st.permutations(steps)), failing


@given(stacks(), st.integers(1, 4))
@settings(deadline=None, max_examples=150)
def test_every_image_has_one_end_and_its_parents_were_done_before(stack, jobs):
    steps, failing = stack
    lock = threading.Lock()
    made: list[str] = []

    def make(one: Step, parents: Mapping[str, str]) -> str:
        with lock:
            done = {s.image for s in steps if s.action is Action.REUSE} | set(made)
            assert set(one.parents) <= done
            assert parents == {p: result_of(p) for p in one.parents}
        if one.image in failing:
            raise RegistryError("no")
        with lock:
            made.append(one.image)
        return f"made {one.image}"

    def result_of(image: str) -> str:
        found = next(s for s in steps if s.image == image)
        return found.found.digest or f"made {image}"

    skips: dict[str, str] = {}
    result = carry_out(steps, make, jobs, skips.__setitem__)
    ends = [*result.digests, *result.failed, *result.skipped]
    assert sorted(ends) == sorted(one.image for one in steps)
    assert len(made) == len(set(made))
    assert all(isinstance(error, RegistryError) for error in result.failed.values())
    lost = set(result.failed) | set(result.skipped)
    for one in steps:
        if one.action is Action.REUSE:
            assert result.digests[one.image] == one.found.digest
        elif set(one.parents) & lost:
            assert result.skipped[one.image] in lost & set(one.parents)
        elif one.image in failing:
            assert one.image in result.failed
        else:
            assert result.digests[one.image] == f"made {one.image}"
    assert skips == result.skipped
    assert result.complete == (not lost)
