"""The commands of someone who builds the stack by hand, image by image, with one engine."""

from __future__ import annotations

from collections.abc import Sequence

from sample import PARENTS, Sample


def docker_build(sample: Sample, parts: Sequence[str] = tuple(PARENTS)) -> list[str]:
    """Build with docker (BuildKit), parents first."""
    return [
        f"docker build --progress plain --network host --tag {sample.image(part)}:latest "
        f"{sample.folder(part)}"
        for part in parts
    ]


def docker_publish(sample: Sample, host: str, parts: Sequence[str] = tuple(PARENTS)) -> list[str]:
    """Build with docker and push to the registry at `host`."""
    lines = docker_build(sample, parts)
    for name in map(sample.image, parts):
        lines += [
            f"docker tag {name}:latest {host}/{name}:latest",
            f"docker push {host}/{name}:latest",
        ]
    return lines


def buildah_build(sample: Sample, buildah: str, parts: Sequence[str] = tuple(PARENTS)) -> list[str]:
    """Build with buildah and its cache of layers, parents first."""
    return [
        f"{buildah} build --layers --isolation chroot --network host --pull=never "
        f"--ignorefile {sample.folder(part)}/Dockerfile.dockerignore "
        f"--tag localhost/{sample.image(part)}:latest {sample.folder(part)}"
        for part in parts
    ]


def buildah_publish(
    sample: Sample, buildah: str, host: str, parts: Sequence[str] = tuple(PARENTS)
) -> list[str]:
    """Build with buildah and push to the registry at `host`."""
    pushes = [
        f"{buildah} push --tls-verify=false localhost/{name}:latest docker://{host}/{name}:latest"
        for name in map(sample.image, parts)
    ]
    return buildah_build(sample, buildah, parts) + pushes
