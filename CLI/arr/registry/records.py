"""The record kept beside an image: the inputs it was built from, under the tag TAG.inputs.

An OCI artifact whose one layer is the text of the inputs: the layer's digest is the fingerprint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from arr.errors import RegistryError
from arr.registry.client import Registry
from arr.registry.content import OCI_MANIFEST, Manifest, parts
from arr.registry.failures import RegistryNotFound, expected_parts

ARTIFACT_TYPE = "application/vnd.arr.inputs.v1+json"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
_EMPTY = b"{}"
_SUFFIX = ".inputs"


@dataclass(frozen=True, slots=True)
class Record:
    """`inputs` are the bytes that `fingerprint` (64 hex digits) is the SHA-256 of."""

    inputs: bytes
    annotations: Mapping[str, str]
    fingerprint: str


def record_tag(tag: str) -> str:
    return f"{tag}{_SUFFIX}"


def is_record_tag(tag: str) -> bool:
    return tag.endswith(_SUFFIX)


def write(
    registry: Registry, repository: str, tag: str, inputs: bytes, annotations: Mapping[str, str]
) -> str:
    """Keep the record of the image `tag`, in the place of an earlier one; the record's digest."""
    config = registry.put_blob(repository, _EMPTY)
    layer = registry.put_blob(repository, inputs)
    content = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": ARTIFACT_TYPE,
        "config": {"mediaType": _EMPTY_TYPE, "digest": config, "size": len(_EMPTY)},
        "layers": [{"mediaType": ARTIFACT_TYPE, "digest": layer, "size": len(inputs)}],
        "annotations": dict(sorted(annotations.items())),
    }
    body = json.dumps(content, separators=(",", ":")).encode()
    return registry.put_manifest(repository, record_tag(tag), OCI_MANIFEST, body)


def read(registry: Registry, repository: str, tag: str) -> Record | None:
    """The record of the image `tag`; None only if there is none."""
    manifest = _manifest(registry, repository, tag)
    if manifest is None:
        return None
    where = f"{registry.prefix}/{repository}:{record_tag(tag)}"
    _, layers = parts(manifest, where)
    if len(layers) != 1:
        raise RegistryError(f"{where}: not a record of inputs: it has {len(layers)} layers")
    with expected_parts(where):
        inputs = registry.blob(repository, layers[0].digest)
    return Record(inputs, _annotations(manifest), layers[0].digest.removeprefix("sha256:"))


def read_annotations(registry: Registry, repository: str, tag: str) -> Mapping[str, str] | None:
    """The record's annotations alone, in one request; None only if there is no record."""
    manifest = _manifest(registry, repository, tag)
    return None if manifest is None else _annotations(manifest)


def _manifest(registry: Registry, repository: str, tag: str) -> Manifest | None:
    try:
        manifest = registry.manifest(repository, record_tag(tag))
    except RegistryNotFound:
        return None
    kind = manifest.content.get("artifactType")
    if kind != ARTIFACT_TYPE:
        where = f"{registry.prefix}/{repository}:{record_tag(tag)}"
        raise RegistryError(
            f"{where}: not a record of inputs, but {kind or 'an image'}",
            f"tags that end in {_SUFFIX} are kept for arr: give that image another tag",
        )
    return manifest


def _annotations(manifest: Manifest) -> Mapping[str, str]:
    found = manifest.content.get("annotations")
    return {k: str(v) for k, v in found.items()} if isinstance(found, dict) else {}
