"""The credentials that `docker login` left: config.json and the credential helpers it names."""

from __future__ import annotations

import base64
import binascii
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arr.errors import AuthError, ConfigError

_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")
_HUB_KEY = "https://index.docker.io/v1/"
_HELPER_SECONDS = 60.0
_IDENTITY_TOKEN = "<token>"  # what docker puts in the place of a user name


def from_docker_config(host: str, environ: Mapping[str, str], home: Path) -> tuple[str, str] | None:
    """(username, password) for `host`; None when the file is absent or does not know it."""
    folder = Path(environ["DOCKER_CONFIG"]) if environ.get("DOCKER_CONFIG") else home / ".docker"
    path = folder / "config.json"
    config = _load(path)
    helpers = _section(config, "credHelpers", path)
    server = _HUB_KEY if host in _HUB else host
    helper = helpers.get(server) or helpers.get(host) or config.get("credsStore")
    if helper and (found := _ask_helper(str(helper), server, environ, path)):
        return found
    for key, entry in _section(config, "auths", path).items():
        if key == server or _host_of(key) == host:
            return _decode(entry, key, path)
    return None


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", "mend or remove that file") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: not a JSON object", "mend or remove that file")
    return content


def _section(config: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    section = config.get(name)
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise ConfigError(f"{path}: {name} is not a JSON object", "mend or remove that file")
    return section


def _host_of(key: str) -> str:
    return key.partition("://")[2].partition("/")[0] if "://" in key else key.partition("/")[0]


def _decode(entry: Any, key: str, path: Path) -> tuple[str, str] | None:
    """Read one entry of `auths`; None for an empty one, which docker leaves beside a helper."""
    if not isinstance(entry, dict):
        raise ConfigError(f"{path}: auths: {key}: not a JSON object", f"run: docker login {key}")
    if entry.get("username") and entry.get("password"):
        return str(entry["username"]), str(entry["password"])
    if entry.get("identitytoken"):
        raise _no_identity_token(f"{path}: auths: {key}")
    if not entry.get("auth"):
        return None
    try:
        text = base64.b64decode(str(entry["auth"]), validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise ConfigError(
            f"{path}: auths: {key}: auth is not base64 text", f"run: docker login {key}"
        ) from error
    username, colon, password = text.rstrip("\0").partition(":")
    if not colon:
        raise ConfigError(
            f"{path}: auths: {key}: auth holds no USER:PASSWORD", f"run: docker login {key}"
        )
    return username, password


def _ask_helper(
    name: str, server: str, environ: Mapping[str, str], path: Path
) -> tuple[str, str] | None:
    """Run `docker-credential-NAME get`; None when the helper does not know the server."""
    program = f"docker-credential-{name}"
    found = shutil.which(program, path=environ.get("PATH", "")) if "/" not in name else None
    if found is None:
        raise AuthError(
            f"{program} is not installed; {path} names it for {server}",
            f"install it, or remove it from {path} and run: docker login {server}",
        )
    try:
        done = subprocess.run(
            [found, "get"],
            input=server.encode(),
            capture_output=True,
            env=dict(environ),
            timeout=_HELPER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AuthError(f"{program} get ({server}): {error}", f"run it by hand: {found}") from error
    said = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
    if done.returncode != 0:
        if "credentials not found" in said.lower():
            return None
        raise AuthError(f"{program} get ({server}): {said[:300]}", f"run it by hand: {found}")
    return _read_helper(done.stdout, f"{program} get ({server})")


def _read_helper(output: bytes, where: str) -> tuple[str, str] | None:
    try:
        content = json.loads(output)
        username, password = str(content["Username"]), str(content["Secret"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        # Its output may hold a secret: it is not shown.
        raise AuthError(f"{where}: its answer has no Username and Secret") from error
    if username == _IDENTITY_TOKEN:
        raise _no_identity_token(where)
    return (username, password) if username else None


def _no_identity_token(where: str) -> AuthError:
    return AuthError(
        f"{where} holds an identity token, which arr cannot use",
        "set ARR_REGISTRY_USERNAME and ARR_REGISTRY_PASSWORD",
    )
