"""The whole line on this machine: this repository's own four images, and a real training run."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from launcher.fakes.fake_vertex import refusal
from launcher.fakes.fake_wandb import KEY
from launcher.fakes.stage import IMAGE
from launcher.in_image import InImage, report

from arr.registry.client import Registry
from arr.registry.content import ImageConfig
from arr.registry.labels import FINGERPRINT_LABEL

TOP = Path(__file__).resolve().parents[1]
IMAGES = ["arr-pytorch-base", "arr-ml-stack", "arr-trainer", "arr-vertex-launcher"]

pytestmark = pytest.mark.timeout(2400)


class Clone:
    """A fresh clone of this repository in an empty folder, used as a newcomer would."""

    def __init__(self, folder: Path, store: Path) -> None:
        subprocess.run(["git", "clone", "--quiet", TOP, folder], check=True)
        self.folder = folder
        # An empty store of its own: what an earlier launch built must not be found again.
        own = {"ARR_ENGINE_NAME": "buildah", "ARR_ENGINE_STORE": str(store)}
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith("ARR_")} | own

    def arr(self, *args: str, expect: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "CLI/cli.py", *args],
            cwd=self.folder, capture_output=True, text=True, check=False, env=self.environ,
        )  # fmt: skip
        assert done.returncode == expect, done.stdout[-6000:] + done.stderr[-3000:]
        return done.stdout

    def commit(self, path: str, addition: str) -> None:
        with (self.folder / path).open("a") as file:
            file.write(addition)
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        git = ["git", *identity, "commit", "--quiet", "--all", "--message", "change"]
        subprocess.run(git, cwd=self.folder, check=True)

    def plan(self, expect: int) -> dict[str, dict[str, object]]:
        rows = json.loads(self.arr("plan", "--json", expect=expect))["images"]
        return {row["image"]: row for row in rows}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    folder = tmp_path_factory.mktemp("line")
    made = Clone(folder / "a clone", folder / "store")
    yield made
    made.arr("registry", "stop")
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text("utf-8").splitlines()]
    for mount in reversed([mount for mount in mounts if mount.startswith(f"{folder}/")]):
        subprocess.run(["umount", mount], check=False)  # buildah leaves its store mounted
    for gigabytes in (folder / "store", made.folder / ".arr" / "registry"):
        shutil.rmtree(gigabytes, ignore_errors=True)


@pytest.fixture(scope="module")
def launched(clone: Clone) -> str:
    """What the first launch prints: it builds the four images and trains by the defaults."""
    before = clone.plan(expect=10)
    assert {row["action"] for row in before.values()} == {"build"}
    out = clone.arr("launch", "--progress", "plain")
    assert all(f"{image}: build\n" in out for image in IMAGES)
    return out


def configs(clone: Clone, names: Sequence[str] = IMAGES) -> dict[str, ImageConfig]:
    url = json.loads(clone.arr("registry", "status", "--json"))["url"]
    with Registry(url) as registry:
        return {name: registry.config(name, "latest") for name in names}


def test_a_launch_builds_everything_and_ends_with_the_result_of_a_real_training(
    clone: Clone, launched: str
) -> None:
    runs = json.loads(clone.arr("runs", "--json"))["runs"]
    assert [run["status"] for run in runs] == ["succeeded"]
    result = runs[0]["result"]
    assert result["accuracy"] > result["chance"] + 0.3
    assert result["accuracy"] > result["accuracies"]["1"] - 0.1
    assert f"run {runs[0]['id']}: succeeded" in launched
    assert f"{result['accuracy']:.1%}" in launched
    checkpoint = Path(runs[0]["folder"]) / str(result["checkpoint"]).removeprefix("/run/arr/")
    assert checkpoint.exists()
    assert str(checkpoint) in launched


def test_after_a_launch_nothing_is_stale_and_the_next_goes_straight_to_the_run(
    clone: Clone, launched: str
) -> None:
    rows = clone.plan(expect=0)
    assert {row["presence"] for row in rows.values()} == {"present"}
    short = ("--set", "steps=2", "--set", "selector_steps=1")
    out = clone.arr("launch", "--progress", "json", *short)
    kinds = {json.loads(line)["event"] for line in out.splitlines()}
    assert "run-finished" in kinds
    assert not kinds & {"image-step", "image-done", "aliases-moved"}


def test_every_image_says_what_it_is_and_runs_as_nobody_special(
    clone: Clone, launched: str
) -> None:
    tags = {name: row["fingerprint"] for name, row in clone.plan(expect=0).items()}
    for name, config in configs(clone).items():
        labels = config.labels
        assert labels["org.opencontainers.image.title"] == name
        assert labels[FINGERPRINT_LABEL] == tags[name]
        assert len(labels["org.opencontainers.image.revision"]) == 40
        assert labels["org.opencontainers.image.created"].endswith("Z")
        assert "org.opencontainers.image.source" in labels
        assert config.raw["config"]["User"] == "1000:1000"
        environment = config.raw["config"]["Env"]
        assert not any(word.startswith("CUDA_VISIBLE_DEVICES") for word in environment)


def host_secrets() -> set[bytes]:
    """What belongs to this machine: certificates that Debian does not ship, indexes and proxies."""
    pem = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
    bundle = Path("/etc/ssl/certs/ca-certificates.crt")
    found = set(pem.findall(bundle.read_bytes())) if bundle.exists() else set()
    for shipped in Path("/usr/share/ca-certificates").rglob("*.crt"):
        found -= set(pem.findall(shipped.read_bytes()))
    pip = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    words = re.findall(r"index-url='([^']+)'|find-links='([^']+)'", pip.stdout)
    found |= {word.encode() for pair in words for word in " ".join(pair).split()}
    proxies = {v for k, v in os.environ.items() if k.lower().endswith("_proxy") and "://" in v}
    return found | {value.encode() for value in proxies}


def small_files(registry: Registry, name: str, digest: str) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a layer in which a host's settings could be."""
    blob = gzip.decompress(registry.blob(name, digest))
    with tarfile.open(fileobj=io.BytesIO(blob)) as archive:
        for member in archive:
            path = member.name.removeprefix("./")
            assert not path.startswith("wheels/"), (name, path)
            settings = path.startswith(("etc/", "root/", "home/", "app/", "usr/local/"))
            named = path.endswith((".crt", ".pem", ".conf", ".cfg", ".toml", ".ini"))
            if member.isfile() and member.size < 2_000_000 and (settings or named):
                content = archive.extractfile(member)
                assert content is not None
                yield path, content.read()


def test_no_layer_holds_anything_of_the_host(clone: Clone, launched: str) -> None:
    secrets = host_secrets()
    url = json.loads(clone.arr("registry", "status", "--json"))["url"]
    with Registry(url) as registry:
        seen: set[str] = set()
        for name, config in configs(clone).items():
            history = json.dumps(config.raw).lower()
            assert "_proxy" not in history
            assert "index-url" not in history
            assert not any(secret.decode("latin-1") in history for secret in secrets)
            for layer in config.layers:
                if layer.digest in seen:
                    continue
                seen.add(layer.digest)
                for path, content in small_files(registry, name, layer.digest):
                    assert path not in ("etc/pip.conf", "etc/apt/sources.list"), name
                    held = [secret[:80] for secret in secrets if secret in content]
                    assert not held, (name, path, held)


@pytest.fixture
def in_image(clone: Clone, launched: str, tmp_path: Path) -> Iterator[InImage]:
    """The launcher's image as it was built, with stand-ins for W&B and Vertex AI around it."""
    config = configs(clone, ["arr-vertex-launcher"])["arr-vertex-launcher"]
    fingerprint = config.labels[FINGERPRINT_LABEL]
    image = f"localhost/arr-vertex-launcher:{fingerprint[-7:]}"
    store = clone.folder.parent / "store"
    with InImage(tmp_path, store, image, config.raw["config"]["Entrypoint"]) as stage:
        yield stage


def test_the_launchers_image_takes_an_item_to_a_spot_job_and_ends_when_idle(
    in_image: InImage,
) -> None:
    item = in_image.push()
    # Whoever sets PYTHONPATH anew must not start an agent without the patch.
    agent = in_image.start_in_image(ARR_IDLE_TIMEOUT="30", PYTHONPATH="/nowhere")
    assert agent.wait() == 0, agent.output
    assert (item.state, item.error) == ("FINISHED", "")
    job = in_image.vertex.only()
    assert job.states == ["QUEUED", "PENDING", "RUNNING", "SUCCEEDED"]
    assert job.spec["scheduling"]["strategy"] == "SPOT"
    assert job.spec["workerPoolSpecs"][0]["containerSpec"]["imageUri"] == IMAGE
    assert job.env.items() >= {"ARR_TRAIN_STEPS": "20", "WANDB_RUN_ID": item.run}.items()
    assert not any(KEY.encode() in call.body for call in in_image.vertex.calls)
    said = report(agent)
    assert (said["end"], said["class"], said["exit_code"]) == ("idle", None, 0)
    assert (said["taken"], said["succeeded"], said["running"]) == (1, 1, 0)
    assert in_image.wandb.agents["A1"].status == "KILLED"
    assert in_image.wandb.rejected == in_image.vertex.rejected == []


def test_in_the_launchers_image_a_refused_job_ends_with_the_exit_code_of_its_class(
    in_image: InImage,
) -> None:
    denied = "Permission 'aiplatform.customJobs.create' denied on resource '//aiplatform'"
    in_image.vertex.failing = lambda call: refusal(403, denied) if call.method == "POST" else None
    item = in_image.push()
    agent = in_image.start_in_image()
    assert agent.wait() == 13, agent.output
    assert (item.state, denied in item.error) == ("FAILED", True)
    said = report(agent)
    assert (said["end"], said["class"], said["exit_code"]) == ("fault", "permission", 13)
    assert (said["taken"], said["failed"], said["running"]) == (1, 1, 0)


def test_a_code_change_rebuilds_the_trainer_alone_and_only_its_last_small_layer(
    clone: Clone, launched: str
) -> None:
    old = configs(clone)
    clone.commit("ARR_COC/__init__.py", "# changed\n")
    stale = {name for name, row in clone.plan(expect=10).items() if row["action"] == "build"}
    assert stale == {"arr-trainer"}
    assert "~ ARR_COC/__init__.py" in clone.arr("why", "arr-trainer")
    clone.arr("build", "--progress", "plain")
    new = configs(clone)
    for name in set(IMAGES) - {"arr-trainer"}:
        assert new[name].digest == old[name].digest
    before, after = old["arr-trainer"].layers, new["arr-trainer"].layers
    assert len(before) == len(after)
    assert before[:-1] == after[:-1]
    assert before[-1] != after[-1]
    assert after[-1].size < 200_000
