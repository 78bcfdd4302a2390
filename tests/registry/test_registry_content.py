"""What the registry holds is checked when it is read: manifests, indexes, lists."""

from __future__ import annotations

import json

import pytest
from fake_registry import OCI_INDEX, OCI_MANIFEST, Reply, as_json, digest, manifest_reply, refusal

from arr.errors import RegistryError
from arr.registry.failures import PlatformMissing, RegistryNotFound

TAG = "/v2/app/manifests/t1"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYERS = [
    {"mediaType": LAYER_TYPE, "digest": digest(b"one"), "size": 3},
    {"mediaType": LAYER_TYPE, "digest": digest(b"three"), "size": 5},
]


def descriptor(body: bytes, kind: str, **more: object) -> dict[str, object]:
    return {"mediaType": kind, "digest": digest(body), "size": len(body), **more}


def image(labels: dict[str, str] | None) -> tuple[Reply, bytes]:
    """A manifest's reply, and the configuration that it names."""
    config = json.dumps({"created": "2026-01-02T03:04:05Z", "config": {"Labels": labels}}).encode()
    content = {"schemaVersion": 2, "config": descriptor(config, CONFIG_TYPE), "layers": LAYERS}
    return manifest_reply(content), config


def test_a_manifest_comes_with_its_bytes_and_their_digest(fake, connect):
    reply, _ = image({})
    fake.on("GET", TAG, reply)
    manifest = connect(fake.url).manifest("app", "t1")
    assert manifest.body == reply.body
    assert manifest.digest == digest(reply.body)
    assert manifest.media_type == OCI_MANIFEST
    assert manifest.content["layers"] == LAYERS


def test_a_manifest_that_is_not_there(fake, connect):
    fake.on("GET", TAG, refusal(404, "MANIFEST_UNKNOWN", "manifest unknown"))
    with pytest.raises(RegistryNotFound, match="404 Not Found: MANIFEST_UNKNOWN manifest unknown"):
        connect(fake.url).manifest("app", "t1")


def test_a_manifest_that_does_not_fit_its_digest(fake, connect):
    wanted = digest(b"{ }")
    fake.on(
        "GET",
        TAG,
        Reply(200, b"{}", {"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": wanted}),
    )
    fake.on("GET", f"/v2/app/manifests/{wanted}", Reply(200, b"{}", {"Content-Type": OCI_MANIFEST}))
    registry = connect(fake.url)
    for reference in ("t1", wanted):
        with pytest.raises(RegistryError, match="wrong content"):
            registry.manifest("app", reference)


def test_head_of_a_digest_that_answers_with_another(fake, connect):
    headers = {"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": digest(b"other")}
    fake.on("HEAD", f"/v2/app/manifests/{digest(b'x')}", Reply(200, headers=headers))
    with pytest.raises(RegistryError, match="wrong content"):
        connect(fake.url).head("app", digest(b"x"))


def test_a_manifest_that_calls_itself_something_else(fake, connect):
    fake.on("GET", TAG, manifest_reply({"mediaType": OCI_INDEX}, OCI_MANIFEST))
    with pytest.raises(RegistryError, match="says of itself"):
        connect(fake.url).manifest("app", "t1")


@pytest.mark.parametrize("body", [b"", b"[]", b"nul", b"\xff", b"[" * 100_000])
def test_a_manifest_that_is_no_json_object(fake, connect, body):
    fake.on("GET", TAG, Reply(200, body, {"Content-Type": OCI_MANIFEST}))
    with pytest.raises(RegistryError, match="not"):
        connect(fake.url).manifest("app", "t1")


def test_the_configuration_of_an_image(fake, connect):
    reply, config = image({"org.arr.fingerprint": "f" * 64})
    fake.on("GET", TAG, reply)
    fake.on("GET", f"/v2/app/blobs/{digest(config)}", Reply(200, config))
    found = connect(fake.url).config("app", "t1")
    assert found.labels == {"org.arr.fingerprint": "f" * 64}
    assert found.created == "2026-01-02T03:04:05Z"
    assert found.size == len(config) + 3 + 5
    assert found.digest == digest(config)
    assert found.manifest_digest == digest(reply.body)
    assert [layer.digest for layer in found.layers] == [digest(b"one"), digest(b"three")]
    assert found.raw == json.loads(config)


def test_an_image_without_labels(fake, connect):
    reply, config = image(None)
    fake.on("GET", TAG, reply)
    fake.on("GET", f"/v2/app/blobs/{digest(config)}", Reply(200, config))
    assert connect(fake.url).config("app", "t1").labels == {}


def index_of(reply: Reply) -> Reply:
    arm = {"os": "linux", "architecture": "arm64", "variant": "v8"}
    amd = {"os": "linux", "architecture": "amd64"}
    entries = [
        descriptor(b"other", OCI_MANIFEST, platform=arm),
        descriptor(reply.body, OCI_MANIFEST, platform=amd),
    ]
    return manifest_reply({"schemaVersion": 2, "manifests": entries}, OCI_INDEX)


def test_an_index_is_followed_to_the_platform(fake, connect):
    reply, config = image({"a": "b"})
    fake.on("GET", TAG, index_of(reply))
    fake.on("GET", f"/v2/app/manifests/{digest(reply.body)}", reply)
    fake.on("GET", f"/v2/app/blobs/{digest(config)}", Reply(200, config))
    found = connect(fake.url).config("app", "t1", "linux/amd64")
    assert found.labels == {"a": "b"}
    assert found.manifest_digest == digest(reply.body)


def test_an_index_without_the_platform_names_those_it_has(fake, connect):
    fake.on("GET", TAG, index_of(image({})[0]))
    with pytest.raises(PlatformMissing, match="it has linux/arm64/v8, linux/amd64"):
        connect(fake.url).config("app", "t1", "linux/s390x")


def test_an_image_that_lost_a_part_is_broken_and_not_absent(fake, connect):
    reply, config = image({})
    fake.on("GET", TAG, reply)
    fake.on("GET", f"/v2/app/blobs/{digest(config)}", refusal(404, "BLOB_UNKNOWN"))
    with pytest.raises(RegistryError, match="is broken") as caught:
        connect(fake.url).config("app", "t1")
    assert not isinstance(caught.value, RegistryNotFound)


@pytest.mark.parametrize(
    "content",
    [{}, {"config": {}, "layers": []}, {"config": descriptor(b"", CONFIG_TYPE), "layers": {}}],
)
def test_a_manifest_of_another_form(fake, connect, content):
    fake.on("GET", TAG, manifest_reply(content))
    with pytest.raises(RegistryError, match="not of the form"):
        connect(fake.url).config("app", "t1")


def test_retag_sends_the_same_bytes(fake, connect):
    reply, _ = image({})
    fake.on("GET", TAG, reply)
    fake.on("PUT", "/v2/app/manifests/latest", Reply(201))
    assert connect(fake.url).retag("app", "t1", "latest") == digest(reply.body)
    put = fake.asked("PUT")[0]
    assert put.body == reply.body
    assert put.headers["content-type"] == OCI_MANIFEST


def test_tags_of_several_pages(fake, connect):
    link = {"Link": '</v2/app/tags/list?n=2&last=b>; rel="next"'}
    pages = [as_json({"tags": ["c", "b"]}, **link), as_json({"tags": ["a"]})]
    fake.on("GET", "/v2/app/tags/list", *pages)
    assert connect(fake.url).tags("app") == ["a", "b", "c"]
    assert fake.requests[1].query == {"n": ["2"], "last": ["b"]}


def test_pages_that_have_no_end(fake, connect):
    link = {"Link": '</v2/app/tags/list?n=1000>; rel="next"'}
    fake.on("GET", "/v2/app/tags/list", as_json({"tags": ["a"]}, **link))
    with pytest.raises(RegistryError, match="no end"):
        connect(fake.url).tags("app")


def test_a_next_page_at_another_host_is_not_asked_for(fake, connect):
    link = {"Link": '<http://elsewhere.test/v2/app/tags/list>; rel="next"'}
    fake.on("GET", "/v2/app/tags/list", as_json({"tags": ["a"]}, **link))
    with pytest.raises(RegistryError, match="another host"):
        connect(fake.url).tags("app")


def test_tags_of_an_unknown_repository(fake, connect):
    fake.on("GET", "/v2/app/tags/list", refusal(404, "NAME_UNKNOWN"))
    fake.on("GET", "/v2/none/tags/list", as_json({"name": "none", "tags": None}))
    registry = connect(fake.url)
    assert registry.tags("app") == []
    assert registry.tags("none") == []


def test_a_404_that_is_not_the_registrys_is_no_empty_list(fake, connect):
    fake.on("GET", "/v2/app/tags/list", Reply(404, b"no such page"))
    with pytest.raises(RegistryNotFound, match="no such page"):
        connect(fake.url).tags("app")


@pytest.mark.parametrize("tags", ["a", [1], {"a": "b"}])
def test_tags_that_are_no_list_of_names(fake, connect, tags):
    fake.on("GET", "/v2/app/tags/list", as_json({"tags": tags}))
    with pytest.raises(RegistryError, match="not a list of names"):
        connect(fake.url).tags("app")
