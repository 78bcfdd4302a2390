"""What every Dockerfile of the stack must hold to, whichever engine builds it."""

from __future__ import annotations

import re

import pytest

from .dockerfiles import DOCKERFILES, STACK, global_arguments, instructions

# PyTorch's own table of releases that belong together.
TORCHVISION_OF = {"2.5.1": "0.20.1", "2.6.0": "0.21.0", "2.7.1": "0.22.1", "2.8.0": "0.23.0"}

every_dockerfile = pytest.mark.parametrize("dockerfile", DOCKERFILES)


@every_dockerfile
def test_no_frontend_is_fetched(dockerfile: str) -> None:
    """A `# syntax=` line makes the engine fetch its parser from a hub before it reads a line."""
    assert "syntax=" not in (STACK / dockerfile).read_text()


@every_dockerfile
def test_ends_as_the_ordinary_user(dockerfile: str) -> None:
    """By number: a runtime that must refuse root cannot tell who a name is."""
    users = [i.arguments for i in instructions(dockerfile) if i.keyword == "USER"]
    assert users[-1] == "1000:1000"


@every_dockerfile
def test_the_only_label_is_the_title(dockerfile: str) -> None:
    labels = [i.arguments for i in instructions(dockerfile) if i.keyword == "LABEL"]
    assert labels == [f'org.opencontainers.image.title="{dockerfile.split("/")[0]}"']


@every_dockerfile
def test_nothing_of_the_host_is_written_in(dockerfile: str) -> None:
    text = (STACK / dockerfile).read_text()
    assert set(re.findall(r"https?://([^/\s]+)", text)) <= {"github.com"}
    assert not re.search(r"proxy|trusted-host|index-url|PIP_CERT|--cert", text, re.IGNORECASE)


@every_dockerfile
def test_gpus_are_chosen_at_run_time(dockerfile: str) -> None:
    assert "CUDA_VISIBLE_DEVICES" not in (STACK / dockerfile).read_text()


@every_dockerfile
def test_pip_can_be_given_a_wheelhouse(dockerfile: str) -> None:
    """Every RUN that installs a requirements file comes after the ARGs, in the same stage."""
    given: set[tuple[int, str]] = set()
    for i in instructions(dockerfile):
        if i.keyword == "ARG":
            given.add((i.stage, i.arguments))
        if i.keyword == "RUN" and "pip install" in i.arguments and " -r " in i.arguments:
            assert {(i.stage, "PIP_FIND_LINKS"), (i.stage, "PIP_NO_INDEX")} <= given


def test_a_change_of_the_code_touches_the_last_layer_only() -> None:
    layers = [
        i for i in instructions("arr-trainer/Dockerfile") if i.keyword in {"RUN", "COPY", "ADD"}
    ]
    assert (layers[-1].keyword, layers[-1].arguments) == ("COPY", "ARR_COC/ /app/ARR_COC/")
    assert not any(i.keyword == "COPY" and "ARR_COC" in i.arguments for i in layers[:-1])


def test_torch_and_torchvision_are_mates() -> None:
    arguments = global_arguments("arr-pytorch-base/Dockerfile")
    assert arguments["TORCHVISION_VERSION"] == TORCHVISION_OF[arguments["PYTORCH_VERSION"]]


@every_dockerfile
def test_what_is_copied_is_in_the_manifest_and_in_the_context(dockerfile: str) -> None:
    folder, name = dockerfile.split("/")
    target = "local" if name == "Dockerfile.cpu" else "gcp"
    listed = set()
    for line in (STACK / folder / ".image-manifest").read_text().splitlines():
        if line and not line.startswith("#"):
            only, _, path = line.rpartition(" ")
            if only in {"", f"@{target}"}:
                listed.add(path)
    context = f"Stack/{folder}/" if folder == "arr-vertex-launcher" else ""
    let_in = (STACK / folder / "Dockerfile.dockerignore").read_text().splitlines()

    for i in instructions(dockerfile):
        if i.keyword == "COPY":
            *sources, _ = i.arguments.split()
            for source in sources:
                assert {context + source, f"{context}{source}**"} & listed
                assert f"!{source.rstrip('/')}" in let_in
