"""Who is asking: challenges, tokens and their renewal, and where credentials are found."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from fake_registry import OCI_MANIFEST, FakeRegistry, Reply, Request, as_json, digest
from hypothesis import given, settings
from hypothesis import strategies as st

from arr.errors import AuthError, ConfigError, RegistryError
from arr.registry.auth import Challenge, Credentials, find_credentials, parse_challenges
from arr.registry.failures import RegistryNotFound
from arr.registry.tokens import merged

TAG = "/v2/app/manifests/t1"
THERE = Reply(200, b"", {"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": digest(b"x")})
ME = Credentials("me", "hunter2")


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def bearer(fake: FakeRegistry, scope: str = "repository:app:pull") -> Reply:
    realm = f'Bearer realm="{fake.url}/token?x=1",service="reg",scope="{scope}"'
    return Reply(401, headers={"WWW-Authenticate": realm})


# --- the challenge

TOKEN = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=8)
VALUE = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=20)
CHALLENGE = st.builds(Challenge, TOKEN, st.dictionaries(TOKEN, VALUE, max_size=4))


def written(challenge: Challenge) -> str:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    pairs = ", ".join(f"{name}={quoted(value)}" for name, value in challenge.params.items())
    return f"{challenge.scheme} {pairs}".rstrip(" ") if not pairs else f"{challenge.scheme} {pairs}"


@given(st.lists(CHALLENGE, min_size=1, max_size=3))
@settings(deadline=None)
def test_challenges_are_read_as_they_were_written(challenges):
    assert parse_challenges(", ".join(written(one) for one in challenges)) == challenges


@given(st.text('Basicrealm=,"\\ \t\n=é', max_size=40))
@settings(deadline=None)
def test_any_text_is_read_without_failing(text):
    for challenge in parse_challenges(text):
        assert challenge.scheme == challenge.scheme.lower()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        ("Basic", [("basic", {})]),
        ('BASIC Realm="a b"', [("basic", {"realm": "a b"})]),
        (
            'Bearer realm="https://x/t",service=reg',
            [("bearer", {"realm": "https://x/t", "service": "reg"})],
        ),
        (
            'Bearer scope="r:a:pull,push r:b:pull"',
            [("bearer", {"scope": "r:a:pull,push r:b:pull"})],
        ),
        ('Negotiate, Basic realm="r"', [("negotiate", {}), ("basic", {"realm": "r"})]),
        ('Negotiate abc==, Basic realm="r"', [("negotiate", {}), ("basic", {"realm": "r"})]),
        ('Basic realm="open', [("basic", {})]),
    ],
)
def test_challenges_as_servers_write_them(header, expected):
    assert [(one.scheme, dict(one.params)) for one in parse_challenges(header)] == expected


def test_scopes_of_one_resource_become_one():
    scopes = ["repository:a:pull", "repository:a:pull,push repository:b:pull", ""]
    assert merged(scopes) == ["repository:a:pull,push", "repository:b:pull"]


# --- tokens


def test_a_token_is_asked_for_once_and_kept(fake, connect):
    fake.on("HEAD", TAG, bearer(fake), THERE)
    fake.on("GET", "/token", as_json({"token": "T1", "expires_in": 300}))
    registry = connect(fake.url, credentials=ME)
    assert registry.head("app", "t1") == digest(b"x")
    assert registry.head("app", "t1") == digest(b"x")
    [token] = fake.asked("GET", "/token")
    assert token.query == {"x": ["1"], "service": ["reg"], "scope": ["repository:app:pull"]}
    assert token.headers["authorization"] == basic("me", "hunter2")
    sent = [one.headers.get("authorization") for one in fake.asked("HEAD")]
    assert sent == [None, "Bearer T1", "Bearer T1"]


def test_without_credentials_a_token_is_asked_for_as_nobody(fake, connect):
    fake.on("HEAD", TAG, bearer(fake), THERE)
    fake.on("GET", "/token", as_json({"access_token": "T1"}))
    assert connect(fake.url).head("app", "t1") == digest(b"x")
    assert "authorization" not in fake.asked("GET", "/token")[0].headers


def test_a_token_near_its_end_is_not_used(fake, connect, time):
    fake.on("HEAD", TAG, bearer(fake), THERE, bearer(fake), THERE)
    fake.on("GET", "/token", as_json({"token": "T1", "expires_in": 60}), as_json({"token": "T2"}))
    registry = connect(fake.url)
    registry.head("app", "t1")
    time.now += 55
    registry.head("app", "t1")
    sent = [one.headers.get("authorization") for one in fake.asked("HEAD")]
    assert sent == [None, "Bearer T1", None, "Bearer T2"]


def test_a_token_that_is_refused_early_is_renewed(fake, connect):
    fake.on("HEAD", TAG, bearer(fake), THERE, bearer(fake), THERE)
    fake.on("GET", "/token", as_json({"token": "T1", "expires_in": 3600}), as_json({"token": "T2"}))
    registry = connect(fake.url)
    registry.head("app", "t1")
    assert registry.head("app", "t1") == digest(b"x")
    sent = [one.headers.get("authorization") for one in fake.asked("HEAD")]
    assert sent == [None, "Bearer T1", "Bearer T1", "Bearer T2"]


def test_a_push_asks_for_the_right_to_push(fake, connect):
    blobs = "/v2/app/blobs/"
    fake.on("HEAD", blobs + digest(b"d"), bearer(fake), Reply(404))
    fake.on("POST", blobs + "uploads/", Reply(202, headers={"Location": blobs + "uploads/1"}))
    fake.on("PUT", blobs + "uploads/1", Reply(201))
    fake.on("GET", "/token", as_json({"token": "T1"}))
    connect(fake.url, credentials=ME).put_blob("app", b"d")
    [token] = fake.asked("GET", "/token")
    assert token.query["scope"] == ["repository:app:pull,push"]
    assert fake.asked("PUT")[0].headers["authorization"] == "Bearer T1"


def test_an_upload_to_another_host_goes_there_without_the_token(fakes, connect):
    fake, store = fakes(), fakes()
    blobs = "/v2/app/blobs/"
    fake.on("HEAD", blobs + digest(b"d"), bearer(fake), Reply(404))
    fake.on("POST", blobs + "uploads/", Reply(202, headers={"Location": f"{store.url}/up"}))
    fake.on("GET", "/token", as_json({"token": "T1"}))
    store.on("PUT", "/up", Reply(201))
    connect(fake.url, credentials=ME).put_blob("app", b"d")
    assert "authorization" not in store.requests[0].headers


def test_threads_that_start_at_once_share_one_token(fake, connect):
    def guarded(request: Request) -> Reply:
        return THERE if request.headers.get("authorization") == "Bearer T1" else bearer(fake)

    fake.on("HEAD", TAG, guarded)
    fake.on("GET", "/token", as_json({"token": "T1"}))
    registry = connect(fake.url)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: registry.head("app", "t1"), range(32)))
    assert found == [digest(b"x")] * 32
    assert len(fake.asked("GET", "/token")) == 1


def test_basic_is_sent_along_once_it_was_asked_for(fake, connect):
    fake.on("HEAD", TAG, Reply(401, headers={"WWW-Authenticate": 'Basic realm="r"'}), THERE)
    fake.on("HEAD", "/v2/b/manifests/t", THERE)
    registry = connect(fake.url, credentials=ME)
    registry.head("app", "t1")
    registry.head("b", "t")
    sent = [one.headers.get("authorization") for one in fake.requests]
    assert sent == [None, basic("me", "hunter2"), basic("me", "hunter2")]


def test_nobody_is_told_to_log_in(fake, connect):
    fake.on("HEAD", TAG, Reply(401, headers={"WWW-Authenticate": 'Basic realm="r"'}))
    with pytest.raises(AuthError, match=f"HEAD {fake.url}{TAG}: 401") as caught:
        connect(fake.url).head("app", "t1")
    assert f"docker login {fake.host}" in caught.value.hint
    assert caught.value.exit_code == 3


def test_a_wrong_password_is_an_auth_error_that_does_not_repeat_it(fake, connect, time):
    fake.on("HEAD", TAG, Reply(401, headers={"WWW-Authenticate": 'Basic realm="r"'}))
    with pytest.raises(AuthError, match="401") as caught:
        connect(fake.url, credentials=ME).head("app", "t1")
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(ME)
    assert base64.b64encode(b"me:hunter2").decode() not in str(caught.value)
    assert time.naps == []


@pytest.mark.parametrize("header", [None, "Negotiate", 'Digest realm="r"', "???"])
def test_a_challenge_that_cannot_be_answered(fake, connect, header):
    headers = {"WWW-Authenticate": header} if header else {}
    fake.on("HEAD", TAG, Reply(401, headers=headers))
    with pytest.raises(AuthError, match="401"):
        connect(fake.url, credentials=ME).head("app", "t1")


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_token_service_that_refuses_never_reads_as_absent(fake, connect, status):
    fake.on("HEAD", TAG, bearer(fake))
    fake.on("GET", "/token", as_json({"details": "incorrect username or password"}, status))
    with pytest.raises(AuthError, match=f"/token: {status}.*incorrect username") as caught:
        connect(fake.url, credentials=ME).head("app", "t1")
    assert not isinstance(caught.value, RegistryNotFound)
    assert "docker login" in caught.value.hint


def test_a_token_service_in_trouble_is_asked_again(fake, connect, time):
    fake.on("HEAD", TAG, bearer(fake), bearer(fake), THERE)
    fake.on("GET", "/token", Reply(503), as_json({"token": "T1"}))
    assert connect(fake.url).head("app", "t1") == digest(b"x")
    assert len(time.naps) == 1


@pytest.mark.parametrize("body", [{}, {"token": ""}, {"token": "a\nb"}, {"token": 5}, [], None])
def test_a_token_service_that_gives_no_token(fake, connect, body):
    fake.on("HEAD", TAG, bearer(fake))
    fake.on("GET", "/token", as_json(body))
    with pytest.raises(RegistryError, match="token"):
        connect(fake.url).head("app", "t1")


@pytest.mark.parametrize("realm", ["", "/token", "file:///etc/passwd", "http://me:pw@x/t"])
def test_a_token_service_that_is_none(fake, connect, realm):
    headers = {"WWW-Authenticate": f'Bearer realm="{realm}"'}
    fake.on("HEAD", TAG, Reply(401, headers=headers))
    with pytest.raises(AuthError, match="names no valid token service"):
        connect(fake.url, credentials=ME).head("app", "t1")


def test_no_password_goes_to_a_token_service_without_tls(connect):
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url))
        challenge = {"WWW-Authenticate": 'Bearer realm="http://token.test/t"'}
        return httpx2.Response(401, headers=challenge, stream=httpx2.ByteStream(b""))

    transport = httpx2.MockTransport(answer)
    registry = connect("https://us-docker.pkg.dev/p/r", credentials=ME, transport=transport)
    with pytest.raises(AuthError, match="without TLS"):
        registry.head("app", "t1")
    assert asked == ["https://us-docker.pkg.dev/v2/p/r/app/manifests/t1"]


def test_credentials_are_asked_for_late_and_again_when_they_are_refused(fake, connect):
    given_out = [Credentials("me", "old"), Credentials("me", "new")]
    asked: list[int] = []

    def source() -> Credentials:
        asked.append(1)
        return given_out.pop(0)

    challenge = Reply(401, headers={"WWW-Authenticate": 'Basic realm="r"'})
    fake.on("HEAD", TAG, THERE, challenge, THERE, challenge, THERE)
    registry = connect(fake.url, credentials=source)
    registry.head("app", "t1")
    assert asked == []
    registry.head("app", "t1")
    registry.head("app", "t1")
    sent = [one.headers.get("authorization") for one in fake.requests]
    old, new = basic("me", "old"), basic("me", "new")
    assert sent == [None, None, old, old, new]


def test_a_token_service_that_refuses_old_credentials_gets_the_new(fake, connect):
    given_out = [Credentials("me", "old"), Credentials("me", "new")]
    fake.on("HEAD", TAG, bearer(fake), THERE)
    fake.on("GET", "/token", as_json({}, 401), as_json({"token": "T1"}))
    assert connect(fake.url, credentials=lambda: given_out.pop(0)).head("app", "t1")
    sent = [one.headers["authorization"] for one in fake.asked("GET", "/token")]
    assert sent == [basic("me", "old"), basic("me", "new")]


# --- where credentials are found


def docker_config(home: Path, content: object) -> Path:
    (home / ".docker").mkdir()
    path = home / ".docker" / "config.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def auth(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


def helper(folder: Path, name: str, script: str) -> dict[str, str]:
    """An environment in whose PATH there is the credential helper."""
    path = folder / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\nread -r server\n{script}\n")
    path.chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


def test_the_environment_goes_first(tmp_path):
    docker_config(tmp_path, {"auths": {"reg.test": auth("file:pw")}})
    environ = {"ARR_REGISTRY_USERNAME": "env", "ARR_REGISTRY_PASSWORD": "pw"}
    assert find_credentials("reg.test", environ, tmp_path) == Credentials("env", "pw")
    with pytest.raises(ConfigError, match="ARR_REGISTRY_PASSWORD is not set"):
        find_credentials("reg.test", {"ARR_REGISTRY_USERNAME": "env"}, tmp_path)


def test_nothing_is_known(tmp_path):
    assert find_credentials("reg.test", {}, tmp_path) is None
    docker_config(tmp_path, {"auths": {"other.test": auth("a:b"), "reg.test": {}}})
    assert find_credentials("reg.test", {}, tmp_path) is None


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("reg.test:5000", "reg.test:5000"),
        ("reg.test", "https://reg.test/v2/"),
        ("docker.io", "https://index.docker.io/v1/"),
        ("registry-1.docker.io", "https://index.docker.io/v1/"),
    ],
)
def test_what_docker_login_left(tmp_path, host, key):
    docker_config(tmp_path, {"auths": {key: auth("me:pass:with:colons")}})
    assert find_credentials(host, {}, tmp_path) == Credentials("me", "pass:with:colons")


def test_docker_config_names_another_folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"reg.test": auth("me:pw")}}))
    environ = {"DOCKER_CONFIG": str(tmp_path)}
    assert find_credentials("reg.test", environ, Path("/nowhere")) == Credentials("me", "pw")


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        {"auths": []},
        {"auths": {"reg.test": "x"}},
        {"auths": {"reg.test": {"auth": "%%%"}}},
        {"auths": {"reg.test": auth("no colon")}},
    ],
)
def test_a_broken_file_is_named(tmp_path, content):
    path = docker_config(tmp_path, content)
    with pytest.raises(ConfigError) as caught:
        find_credentials("reg.test", {}, tmp_path)
    assert str(path) in str(caught.value)


def test_a_credential_helper_is_asked(tmp_path):
    environ = helper(tmp_path, "x", 'echo "{\\"Username\\": \\"$server\\", \\"Secret\\": \\"s\\"}"')
    docker_config(tmp_path, {"credHelpers": {"reg.test": "x"}, "credsStore": "absent"})
    assert find_credentials("reg.test", environ, tmp_path) == Credentials("reg.test", "s")


def test_a_credential_store_that_does_not_know_falls_back_to_the_file(tmp_path):
    script = "echo credentials not found in native keychain; exit 1"
    environ = helper(tmp_path, "store", script)
    docker_config(tmp_path, {"credsStore": "store", "auths": {"reg.test": auth("me:pw")}})
    assert find_credentials("reg.test", environ, tmp_path) == Credentials("me", "pw")


def test_a_credential_helper_that_fails_is_an_auth_error(tmp_path):
    environ = helper(tmp_path, "x", "echo the keychain is locked >&2; exit 1")
    docker_config(tmp_path, {"credsStore": "x"})
    with pytest.raises(AuthError, match=r"docker-credential-x get .*the keychain is locked"):
        find_credentials("reg.test", environ, tmp_path)


def test_a_credential_helper_that_is_not_installed(tmp_path):
    path = docker_config(tmp_path, {"credsStore": "absent"})
    with pytest.raises(AuthError, match="docker-credential-absent is not installed") as caught:
        find_credentials("reg.test", {"PATH": ""}, tmp_path)
    assert str(path) in str(caught.value)


def test_what_a_credential_helper_says_is_not_shown(tmp_path):
    environ = helper(tmp_path, "x", 'echo \'{"Secret": "hunter2"}\'')
    docker_config(tmp_path, {"credsStore": "x"})
    with pytest.raises(AuthError, match="no Username") as caught:
        find_credentials("reg.test", environ, tmp_path)
    assert "hunter2" not in str(caught.value)


def test_an_identity_token_is_refused_in_words(tmp_path):
    environ = helper(tmp_path, "x", 'echo \'{"Username": "<token>", "Secret": "s"}\'')
    docker_config(tmp_path, {"credsStore": "x"})
    with pytest.raises(AuthError, match="identity token"):
        find_credentials("reg.test", environ, tmp_path)
