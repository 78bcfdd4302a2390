"""The wheels of an image, fetched on the host: the build itself needs no network.

So no CA bundle, proxy or index setting of the host is in any layer: pip uses them here, outside.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from pathlib import Path

from arr.build.engine import Work, advice
from arr.errors import BuildError, ConfigError
from arr.exclusive import only_one
from arr.process import describe_exit

# What glibc the images have at least; pip wants each older name spelt out.
_GLIBC = (5, 12, 17, 24, 26, 27, 28, 31, 34, 35, 36)
_MACHINES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}


def key(requirements: str, python: str, platform: str) -> str:
    """Return the name of the wheelhouse: a hash of the pins and of what they are resolved for."""
    pins = sorted("".join(pin.split()) for pin in _pins(requirements))
    text = "\n".join([python, platform, *pins])
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:32]


def require_pinned(requirements: str, path: str) -> None:
    """Raise ConfigError for a line that is not `name==version`: it would change day by day."""
    for pin in _pins(requirements):
        if not re.match(r"[A-Za-z0-9._-]+(\[[^\]]*\])?\s*==\s*[^\s;*]+\s*(;.*)?\Z", pin):
            raise ConfigError(
                f"{path}: {pin!r} is not an exact pin",
                "Write name==version; without that, one tag could mean two contents.",
            )


def fetch(requirements: str, python: str, platform: str, cache: Path, work: Work) -> Path:
    """Return the folder with the wheels of the pinned `requirements`, fetching them if need be.

    Called again, or by several launches at once, it fetches once. Raises BuildError with pip's own
    words when a wheel is not to be had.
    """
    name = key(requirements, python, platform)
    folder = cache / name
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with only_one(
        cache / f"{name}.lock", lambda who: work.on_line(f"waiting: {who} fetches these wheels")
    ):
        if folder.is_dir():
            return folder
        partial = cache / f"{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        pins = work.scratch / "requirements.txt"
        pins.write_text("\n".join(_pins(requirements)) + "\n", "utf-8")
        argv = _download(pins, python, platform, partial)
        code, tail = work.run_code(argv)
        if code:
            shutil.rmtree(partial, ignore_errors=True)
            raise _not_fetched(code, tail)
        partial.rename(folder)
    return folder


def _pins(requirements: str) -> list[str]:
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in requirements.splitlines())
    return [line for line in lines if line]


def _download(pins: Path, python: str, platform: str, folder: Path) -> list[str]:
    if platform not in _MACHINES:
        raise ConfigError(
            f"wheels cannot be fetched for the platform {platform}",
            f"The platforms are: {', '.join(_MACHINES)}.",
        )
    machine = _MACHINES[platform]
    digits = python.replace(".", "")
    tags = [f"manylinux_2_{minor}_{machine}" for minor in _GLIBC]
    tags += [f"manylinux2014_{machine}", f"manylinux1_{machine}", f"linux_{machine}", "any"]
    return [
        sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps",
        "--only-binary=:all:", "--implementation", "cp", "--python-version", python,
        "--abi", f"cp{digits}", "--abi", "abi3", "--abi", "none",
        *(word for tag in tags for word in ("--platform", tag)),
        "--progress-bar", "off", "--requirement", str(pins), "--dest", str(folder),
    ]  # fmt: skip


def _not_fetched(code: int, tail: list[str]) -> BuildError:
    text = "\n".join(tail)
    missing = re.search(r"No matching distribution found for (\S+)", text)
    if missing and "+cpu" in missing[1]:
        return BuildError(
            f"pip finds no {missing[1]} on the package indexes it is set up with",
            "PyTorch publishes its CPU builds on an index of its own: pytorch.org/get-started "
            "names it (choose CPU); then `pip config set global.extra-index-url URL`.",
        )
    words = next((line for line in reversed(tail) if line.startswith("ERROR")), "".join(tail[-1:]))
    ended = f"pip: {describe_exit(code)}"
    return BuildError(f"the wheels could not be fetched ({ended}): {words}", advice(tail))
