"""A real registry: what is pushed can be found again; many look-ups at once tell the truth."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from fake_registry import Reply, digest, refusal

from arr.errors import RegistryError
from arr.registry import records
from arr.registry.client import Registry
from arr.registry.content import OCI_INDEX, OCI_MANIFEST
from arr.registry.images import list_images
from arr.registry.labels import BUILT_AT, FINGERPRINT_LABEL, REASON

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"


class Counted(httpx2.BaseTransport):
    """A real connection that remembers what went over it."""

    def __init__(self) -> None:
        self._inner = httpx2.HTTPTransport()
        self.seen: list[tuple[str, int]] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = self._inner.handle_request(request)
        self.seen.append((request.method, response.status_code))
        return response

    def close(self) -> None:
        self._inner.close()


def push(
    registry: Registry, repository: str, *tags: str, layer: bytes = b"layer", **config: object
) -> str:
    """Push a small image under the tags; its manifest's digest."""
    body = json.dumps({"os": "linux", "architecture": "amd64", **config}).encode()
    content = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": CONFIG_TYPE,
            "digest": registry.put_blob(repository, body),
            "size": len(body),
        },
        "layers": [
            {
                "mediaType": LAYER_TYPE,
                "digest": registry.put_blob(repository, layer),
                "size": len(layer),
            }
        ],
    }
    manifest = json.dumps(content).encode()
    return registry.put_manifest(repository, tags[0], OCI_MANIFEST, manifest, tags[1:])


def test_what_is_pushed_can_be_pulled(registry):
    registry.ping()
    pushed = push(registry, "pull/app", "t1", "latest", layer=b"some layer")
    assert registry.head("pull/app", "t1") == pushed
    assert registry.head("pull/app", "latest") == pushed
    assert registry.head("pull/app", pushed) == pushed
    assert registry.head("pull/app", "t2") is None
    assert registry.head("pull/none", "t1") is None
    manifest = registry.manifest("pull/app", "t1")
    assert (manifest.digest, manifest.media_type) == (pushed, OCI_MANIFEST)
    config = registry.config("pull/app", "t1")
    assert registry.blob("pull/app", config.layers[0].digest) == b"some layer"
    assert config.manifest_digest == pushed
    assert registry.tags("pull/app") == ["latest", "t1"]
    assert registry.tags("pull/none") == []
    assert "pull/app" in registry.repositories()


def test_a_repeated_push_sends_nothing(embedded_url, connect, tmp_path):
    wire = Counted()
    registry = connect(embedded_url, transport=wire)
    file = tmp_path / "layer"
    file.write_bytes(b"l" * 3_000_000)
    wanted = digest(file.read_bytes())
    assert not registry.has_blob("once/app", wanted)
    assert registry.put_blob("once/app", file) == wanted
    assert registry.has_blob("once/app", wanted)
    wire.seen.clear()
    assert registry.put_blob("once/app", file) == wanted
    assert wire.seen == [("HEAD", 200)]
    registry.save_blob("once/app", wanted, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == file.read_bytes()


def test_a_blob_from_next_door_is_mounted(embedded_url, connect):
    wire = Counted()
    registry = connect(embedded_url, transport=wire)
    wanted = registry.put_blob("door/base", b"shared layer")
    wire.seen.clear()
    assert registry.put_blob("door/app", b"shared layer", mount_from="door/base") == wanted
    assert wire.seen == [("HEAD", 404), ("POST", 201)]
    wire.seen.clear()
    registry.copy_blob("door/other", wanted, "door/base")
    assert wire.seen == [("HEAD", 404), ("POST", 201)]
    assert registry.blob("door/other", wanted) == b"shared layer"


def test_a_mount_from_where_it_is_not_becomes_an_upload(embedded_url, connect):
    wire = Counted()
    registry = connect(embedded_url, transport=wire)
    wanted = registry.put_blob("lost/app", b"only here", mount_from="lost/none")
    assert wire.seen == [("HEAD", 404), ("POST", 202), ("PUT", 201)]
    assert registry.blob("lost/app", wanted) == b"only here"


def test_an_empty_blob(registry):
    assert registry.put_blob("empty/app", b"") == digest(b"")


def test_retag_and_delete(registry):
    first = push(registry, "del/app", "t1", layer=b"1")
    second = push(registry, "del/app", "t2", layer=b"2")
    assert registry.retag("del/app", "t1", "latest") == first
    assert registry.delete("del/app", first) is True
    assert registry.delete("del/app", first) is False
    assert registry.tags("del/app") == ["t2"]
    assert registry.head("del/app", "latest") is None
    assert registry.head("del/app", "t2") == second


def test_many_threads_push_at_once(registry):
    def one(number: int) -> str:
        return push(registry, f"threads/app{number % 4}", f"t{number}", layer=b"%d" % number)

    with ThreadPoolExecutor(16) as pool:
        pushed = list(pool.map(one, range(32)))
    for number, wanted in enumerate(pushed):
        assert registry.head(f"threads/app{number % 4}", f"t{number}") == wanted


def test_a_record_is_kept_beside_its_image(registry):
    inputs = b"arr inputs 1\nfile ARR_COC/knowing.py 100644 abc\n"
    notes = {BUILT_AT: "2026-07-01T10:00:00Z", REASON: "ARR_COC/knowing.py changed"}
    assert records.read(registry, "rec/app", "t1") is None
    written = records.write(registry, "rec/app", "t1", inputs, notes)
    assert records.write(registry, "rec/app", "t1", inputs, notes) == written
    record = records.read(registry, "rec/app", "t1")
    assert record is not None
    assert record.inputs == inputs
    assert record.annotations == notes
    assert "sha256:" + record.fingerprint == digest(inputs)
    assert records.is_record_tag("t1.inputs")
    assert not records.is_record_tag("t1")


def test_an_image_in_the_place_of_a_record_is_an_error(registry):
    push(registry, "norec/app", "t1.inputs")
    with pytest.raises(RegistryError, match="not a record of inputs, but an image"):
        records.read(registry, "norec/app", "t1")


def test_a_record_that_cannot_be_read_is_not_absent(fake, connect):
    fake.on("GET", "/v2/app/manifests/t1.inputs", Reply(500))
    with pytest.raises(RegistryError, match="500"):
        records.read(connect(fake.url), "app", "t1")


def test_images_are_listed_newest_first_without_their_records(registry):
    labels = {"Labels": {FINGERPRINT_LABEL: "f" * 64}}
    old = push(registry, "list/app", "old", config=labels, created="2026-01-01T00:00:00.123456789Z")
    new = push(registry, "list/app", "new", config=labels, created="1970-01-01T00:00:00Z")
    push(registry, "list/app", "undated", layer=b"undated")
    records.write(
        registry, "list/app", "new", b"in", {BUILT_AT: "2026-06-01T02:00:00+02:00", REASON: "why"}
    )
    registry.put_manifest(
        "list/app",
        "foreign",
        OCI_INDEX,
        json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode(),
    )
    found = list_images(registry, "list/app")
    assert [image.tag for image in found] == ["new", "old", "foreign", "undated"]
    assert [image.digest for image in found[:2]] == [new, old]
    assert (found[0].built_at, found[0].reason) == ("2026-06-01T02:00:00+02:00", "why")
    assert (found[1].built_at, found[1].reason) == (None, None)
    assert found[0].fingerprint == "f" * 64
    assert found[0].size is not None
    assert (found[2].size, found[2].created, found[2].fingerprint) == (None, None, None)
    assert list_images(registry, "list/none") == []


def test_an_image_deleted_while_the_list_is_made_is_left_out(fake, connect):
    fake.on("GET", "/v2/app/tags/list", Reply(200, b'{"tags": ["gone"]}'))
    fake.on("HEAD", "/v2/app/manifests/gone", refusal(404, "MANIFEST_UNKNOWN"))
    assert list_images(connect(fake.url), "app") == []


def test_the_room_imports_no_face():
    """The commands' start-up, and programs that use the room, are to be free of the renderers."""
    room = Path(sys.modules["arr.registry"].__path__[0])
    names = ", ".join(f"arr.registry.{path.stem}" for path in sorted(room.glob("[a-z]*.py")))
    code = f"import sys, {names}; print({{'rich', 'click'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
