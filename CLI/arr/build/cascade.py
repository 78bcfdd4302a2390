"""Carrying out a plan: parent before child, independent images at once, the rest of a failure done.

A ready-queue, not levels: an image starts the moment its parents are in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from graphlib import TopologicalSorter

from arr.errors import Interrupted
from arr.stack.plan import Action, Step

Make = Callable[[Step, Mapping[str, str]], str]
"""Makes one image, given the digests of its parents; returns its digest or raises."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of each image of the plan: the digest it has, or why it has none."""

    digests: dict[str, str] = field(default_factory=dict)
    failed: dict[str, Exception] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return not self.failed and not self.skipped


def carry_out(
    steps: Sequence[Step],
    make: Make,
    jobs: int,
    on_skip: Callable[[str, str], None],
    stop: Callable[[], None],
) -> Result:
    """Make every image of the plan that must be built, at most `jobs` at once.

    An image that fails takes its descendants with it (`on_skip(image, failed parent)`); the others
    are finished. On Ctrl-C, `stop()` ends the children; raises Interrupted when all have ended.
    Any other failure of the cascade itself ends them too.
    """
    result = Result()
    by_name = {step.image: step for step in steps}
    sorter = TopologicalSorter({s.image: [p for p in s.parents if p in by_name] for s in steps})
    sorter.prepare()
    running: dict[Future[str], str] = {}
    with ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="arr-image") as pool:
        try:
            while sorter.is_active():
                for image in sorter.get_ready():
                    step = by_name[image]
                    future = _begin(step, result, make, pool, on_skip)
                    if future is None:
                        sorter.done(image)
                    else:
                        running[future] = image
                if running:
                    for image in _collect(running, result):
                        sorter.done(image)
        except BaseException as error:
            for future in running:
                future.cancel()
            stop()
            wait(running)
            if not isinstance(error, KeyboardInterrupt | Interrupted):
                raise
            raise Interrupted(
                "interrupted: nothing is half done",
                "Finished images are kept; the next launch goes on from there.",
            ) from error
    return result


def _begin(
    step: Step,
    result: Result,
    make: Make,
    pool: ThreadPoolExecutor,
    on_skip: Callable[[str, str], None],
) -> Future[str] | None:
    """Start an image whose parents are done; None if there is nothing to be made."""
    lost = next((p for p in step.parents if p in result.failed or p in result.skipped), None)
    if step.action is Action.REUSE:
        result.digests[step.image] = step.found.digest or ""
        return None
    if lost is not None:
        result.skipped[step.image] = lost
        on_skip(step.image, lost)
        return None
    parents = {p: result.digests[p] for p in step.parents}
    return pool.submit(make, step, parents)


def _collect(running: dict[Future[str], str], result: Result) -> list[str]:
    """Wait for the next image to end and note what became of it."""
    done, _pending = wait(running, return_when=FIRST_COMPLETED)
    ended = []
    for future in done:
        image = running.pop(future)
        ended.append(image)
        error = future.exception()
        if isinstance(error, Interrupted):
            raise error
        if isinstance(error, Exception):
            result.failed[image] = error
        elif error is not None:
            raise error
        else:
            result.digests[image] = future.result()
    return ended
