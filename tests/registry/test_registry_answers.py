"""What the registry's answers come to: present, absent, tried again, or an error that says it."""

from __future__ import annotations

import httpx2
import pytest
from fake_registry import OCI_MANIFEST, Reply, as_json, digest, manifest_reply, refusal

from arr.errors import AuthError, ConfigError, RegistryError, UsageError
from arr.registry.auth import Credentials
from arr.registry.client import Registry
from arr.registry.failures import RegistryNotFound
from arr.registry.retry import Retry, retry_after

TAG = "/v2/app/manifests/t1"
THERE = Reply(200, b"", {"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": digest(b"x")})


def test_200_is_present_and_404_is_absent(fake, connect):
    fake.on("HEAD", TAG, THERE)
    fake.on("HEAD", "/v2/app/manifests/t2", Reply(404))
    registry = connect(fake.url)
    assert registry.head("app", "t1") == digest(b"x")
    assert registry.head("app", "t2") is None
    accept = fake.requests[0].headers["accept"]
    assert "oci.image.manifest" in accept
    assert "oci.image.index" in accept
    assert "docker.distribution.manifest.v2" in accept
    assert "manifest.list" in accept
    assert fake.requests[0].headers["accept-encoding"] == "identity"  # digests are of plain bytes


@pytest.mark.parametrize("status", [204, 301, 400, 405, 410, 418, 451, 501, 507])
def test_any_other_status_is_an_error_that_names_it(fake, connect, time, status):
    fake.on("HEAD", TAG, Reply(status))
    with pytest.raises(RegistryError, match=rf"HEAD {fake.url}{TAG}: {status}") as caught:
        connect(fake.url).head("app", "t1")
    assert not isinstance(caught.value, RegistryNotFound)
    assert caught.value.exit_code == 6
    assert time.naps == []


def test_403_is_an_auth_error(fake, connect):
    fake.on("HEAD", TAG, Reply(403))
    with pytest.raises(AuthError, match="403 Forbidden"):
        connect(fake.url).head("app", "t1")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_failure_that_passes_is_tried_again(fake, connect, time, status):
    fake.on("HEAD", TAG, Reply(status), Reply(status), THERE)
    assert connect(fake.url).head("app", "t1") == digest(b"x")
    assert time.naps == [0.25, 0.5]


def test_a_failure_that_stays_names_the_attempts_and_the_registrys_words(fake, connect, time):
    fake.on("GET", TAG, refusal(503, "UNAVAILABLE", "down for\x1b[31m maintenance"))
    with pytest.raises(RegistryError) as caught:
        connect(fake.url).manifest("app", "t1")
    assert "503 Service Unavailable: UNAVAILABLE down for [31m maintenance" in str(caught.value)
    assert "(5 attempts)" in str(caught.value)
    assert "try again later" in caught.value.hint
    assert len(fake.requests) == 5
    assert time.naps == [0.25, 0.5, 1.0, 2.0]


def test_429_waits_as_long_as_it_is_told(fake, connect, time):
    date = {"Retry-After": "Wed, 01 Jul 2026 10:00:30 GMT", "Date": "Wed, 01 Jul 2026 10:00:00 GMT"}
    fake.on("HEAD", TAG, Reply(429, headers={"Retry-After": "7"}), Reply(429, headers=date), THERE)
    assert connect(fake.url).head("app", "t1") == digest(b"x")
    assert time.naps == [7.0, 30.0]


def test_retry_after_as_a_date_is_read_against_the_answers_own_date():
    now = "Wed, 01 Jul 2026 10:00:00 GMT"
    later = "Wed, 01 Jul 2026 10:00:30 GMT"
    assert retry_after({"retry-after": later, "date": now}) == 30.0
    assert retry_after({"retry-after": now, "date": later}) == 0.0
    assert retry_after({"retry-after": later}) is None
    assert retry_after({"retry-after": "soon", "date": now}) is None
    assert retry_after({"retry-after": "120"}) == 120.0
    assert retry_after({}) is None


def test_a_wait_beyond_the_deadline_is_not_begun(fake, connect, time):
    fake.on("HEAD", TAG, Reply(429, headers={"Retry-After": "3600"}))
    with pytest.raises(RegistryError, match=r"1 attempt; it asks to wait 3600 s") as caught:
        connect(fake.url).head("app", "t1")
    assert "limits how often" in caught.value.hint
    assert time.naps == []


def test_the_deadline_ends_the_attempts(fake, connect, time):
    fake.on("HEAD", TAG, Reply(500))
    retry = Retry(attempts=100, first=10.0, most=10.0, deadline=30.0)
    with pytest.raises(RegistryError, match=r"7 attempts"):
        connect(fake.url, retry=retry).head("app", "t1")
    assert sum(time.naps) == 30.0


def test_no_answer_in_time_is_tried_again(fake, connect, time):
    fake.on("HEAD", TAG, Reply(hang=True), THERE)
    assert connect(fake.url, timeout=0.5).head("app", "t1") == digest(b"x")
    assert time.naps


def test_no_answer_at_all_says_so(fake, connect):
    fake.on("HEAD", TAG, Reply(hang=True))
    with pytest.raises(RegistryError, match=r"no answer in time \(2 attempts\)"):
        connect(fake.url, timeout=0.1, retry=Retry(attempts=2)).head("app", "t1")


def test_nothing_listens(fakes, connect, time):
    gone = fakes()
    gone.close()
    with pytest.raises(RegistryError, match=r"HEAD http://127.0.0.1:\d+/v2/.*5 attempts") as caught:
        connect(gone.url).head("app", "t1")
    assert "is the registry running" in caught.value.hint


def test_a_body_that_breaks_off_is_fetched_again(fake, connect, time):
    data = b"d" * 100_000
    path = f"/v2/app/blobs/{digest(data)}"
    fake.on("GET", path, Reply(200, data, cut=True), Reply(200, data))
    assert connect(fake.url).blob("app", digest(data)) == data
    assert len(time.naps) == 1


def test_a_body_that_breaks_off_leaves_no_rest_in_the_file(fake, connect, tmp_path):
    data = bytes(range(256)) * 20_000  # several chunks
    path = f"/v2/app/blobs/{digest(data)}"
    fake.on("GET", path, Reply(200, data, cut=True), Reply(200, data))
    connect(fake.url).save_blob("app", digest(data), tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == data


def test_a_wrong_blob_is_refused_and_leaves_no_file(fake, connect, tmp_path):
    path = f"/v2/app/blobs/{digest(b'right')}"
    fake.on("GET", path, Reply(200, b"wrong"))
    registry = connect(fake.url)
    with pytest.raises(RegistryError, match="wrong content"):
        registry.blob("app", digest(b"right"))
    with pytest.raises(RegistryError, match="wrong content"):
        registry.save_blob("app", digest(b"right"), tmp_path / "blob")
    assert not (tmp_path / "blob").exists()


def test_an_address_without_tls_is_said_at_once(fake, connect, time):
    fake.on("GET", "/v2/", Reply(200))
    with pytest.raises(RegistryError) as caught:
        connect(fake.url.replace("http:", "https:")).ping()
    assert "http:// ?" in caught.value.hint
    assert time.naps == []


def test_html_is_not_an_answer(fake, connect):
    page = Reply(200, b"<html>Sign in</html>", {"Content-Type": "text/html"})
    fake.on("HEAD", TAG, page)
    fake.on("GET", TAG, page)
    fake.on("GET", "/v2/app/tags/list", page)
    registry = connect(fake.url)
    for ask in (registry.head, registry.manifest):
        with pytest.raises(RegistryError, match="text/html, not an image manifest"):
            ask("app", "t1")
    with pytest.raises(RegistryError, match="not JSON"):
        registry.tags("app")


def test_an_html_error_page_is_not_repeated(fake, connect):
    fake.on("GET", TAG, Reply(404, b"<html>" + b"x" * 200_000, {"Content-Type": "text/html"}))
    with pytest.raises(RegistryNotFound) as caught:
        connect(fake.url).manifest("app", "t1")
    assert "HTML page" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_long_error_is_cut(fake, connect):
    fake.on("GET", TAG, Reply(400, b"y" * 1_000_000, {"Content-Type": "text/plain"}))
    with pytest.raises(RegistryError, match="yyy") as caught:
        connect(fake.url).manifest("app", "t1")
    assert len(str(caught.value)) < 700


def test_an_endless_manifest_is_refused(fake, connect):
    fake.on("GET", TAG, Reply(200, b" " * 5_000_000, {"Content-Type": OCI_MANIFEST}))
    with pytest.raises(RegistryError, match="longer than"):
        connect(fake.url).manifest("app", "t1")


def test_a_full_disk_is_told_as_one(fake, connect):
    blobs = "/v2/app/blobs/"
    fake.on("HEAD", blobs + digest(b"data"), Reply(404))
    detail = {"DriverName": "filesystem", "Enclosed": {"Op": "write", "Err": 28}}
    full = {"errors": [{"code": "UNKNOWN", "message": "unknown error", "detail": detail}]}
    fake.on("POST", blobs + "uploads/", as_json(full, 500))
    with pytest.raises(RegistryError, match="no space left on device") as caught:
        connect(fake.url).put_blob("app", b"data")
    assert "disk is full" in caught.value.hint
    fake.on("POST", blobs + "uploads/", as_json({"message": "no room"}, 507))
    with pytest.raises(RegistryError, match="507 Insufficient Storage: no room") as caught:
        connect(fake.url).put_blob("app", b"data")
    assert "disk is full" in caught.value.hint


def test_an_upload_that_fails_at_its_end_is_sent_again_from_its_start(fake, connect, time):
    blobs = "/v2/app/blobs/"
    fake.on("HEAD", blobs + digest(b"data"), Reply(404))
    place = {"Location": "/v2/app/blobs/uploads/1?_state=a%2Bb%3D"}
    fake.on("POST", blobs + "uploads/", Reply(202, headers=place))
    fake.on("PUT", blobs + "uploads/1", Reply(502), Reply(201))
    assert connect(fake.url).put_blob("app", b"data") == digest(b"data")
    puts = fake.asked("PUT")
    assert [put.body for put in puts] == [b"data", b"data"]
    assert puts[0].query == {"_state": ["a+b="], "digest": [digest(b"data")]}
    assert len(fake.asked("POST")) == 2


def test_an_upload_without_a_place_is_an_error(fake, connect):
    fake.on("HEAD", "/v2/app/blobs/" + digest(b"data"), Reply(404))
    fake.on("POST", "/v2/app/blobs/uploads/", Reply(202))
    with pytest.raises(RegistryError, match="not where"):
        connect(fake.url).put_blob("app", b"data")


@pytest.mark.parametrize("refused", [404, 403])
def test_a_mount_that_is_refused_costs_only_the_upload(fake, connect, refused):
    fake.on("HEAD", "/v2/app/blobs/" + digest(b"data"), Reply(404))
    place = Reply(202, headers={"Location": "/v2/app/blobs/uploads/1"})
    fake.on("POST", "/v2/app/blobs/uploads/", Reply(refused), place)
    fake.on("PUT", "/v2/app/blobs/uploads/1", Reply(201))
    assert connect(fake.url).put_blob("app", b"data", mount_from="base") == digest(b"data")
    assert fake.asked("POST")[0].query == {"mount": [digest(b"data")], "from": ["base"]}


def test_a_registry_that_stores_something_else_is_caught(fake, connect):
    fake.on("PUT", TAG, Reply(201, headers={"Docker-Content-Digest": digest(b"other")}))
    with pytest.raises(RegistryError, match="wrong content"):
        connect(fake.url).put_manifest("app", "t1", OCI_MANIFEST, b"{}")


def test_a_redirect_to_another_host_does_not_take_the_credentials_there(fakes, connect):
    fake, store = fakes(), fakes()
    path = f"/v2/app/blobs/{digest(b'data')}"
    challenge = Reply(401, headers={"WWW-Authenticate": 'Basic realm="r"'})
    there = Reply(307, headers={"Location": f"{store.url}/bucket?X-Signature=secret"})
    fake.on("GET", path, challenge, there)
    store.on("GET", "/bucket", Reply(200, b"data"))
    registry = connect(fake.url, credentials=Credentials("me", "pass"))
    assert registry.blob("app", digest(b"data")) == b"data"
    assert "authorization" in fake.requests[1].headers
    assert "authorization" not in store.requests[0].headers


def test_what_another_host_says_is_neither_absent_nor_a_reason_to_log_in(fakes, connect):
    fake, store = fakes(), fakes()
    fake.on("GET", TAG, Reply(307, headers={"Location": f"{store.url}/x?X-Signature=secret"}))
    challenge = {"WWW-Authenticate": f'Bearer realm="{store.url}/token"'}
    store.on("GET", "/x", Reply(404), Reply(401, headers=challenge), Reply(403))
    registry = connect(fake.url)
    for status in ("404", "401", "403"):
        with pytest.raises(RegistryError, match=f"{store.url}/x: {status}") as caught:
            registry.manifest("app", "t1")
        assert not isinstance(caught.value, RegistryNotFound)
        assert "secret" not in str(caught.value)


def test_a_circle_of_redirects_ends(fake, connect):
    fake.on("GET", TAG, Reply(302, headers={"Location": TAG}))
    with pytest.raises(RegistryError, match="redirects"):
        connect(fake.url).manifest("app", "t1")


def test_a_redirect_away_from_tls_is_not_followed(connect):
    def plain(request: httpx2.Request) -> httpx2.Response:
        headers = {"Location": "http://registry.test/x"}
        return httpx2.Response(302, headers=headers, stream=httpx2.ByteStream(b""))

    registry = connect("https://registry.test", transport=httpx2.MockTransport(plain))
    with pytest.raises(RegistryError, match="redirected to plain http"):
        registry.manifest("app", "t1")


def test_a_path_in_the_address_is_part_of_every_name(connect):
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.path)
        if request.url.path == "/v2/_catalog":
            names = b'{"repositories": ["project/repo/app", "project/other/x"]}'
            return httpx2.Response(200, stream=httpx2.ByteStream(names))
        return httpx2.Response(404, stream=httpx2.ByteStream(b""))

    registry = connect(
        "https://us-docker.pkg.dev/project/repo/", transport=httpx2.MockTransport(answer)
    )
    assert registry.url == "https://us-docker.pkg.dev/project/repo"
    assert registry.prefix == "us-docker.pkg.dev/project/repo"
    assert not registry.insecure
    assert registry.head("app", "t1") is None
    assert asked == ["/v2/project/repo/app/manifests/t1"]
    assert registry.repositories() == ["app"]


@pytest.mark.parametrize(
    "url",
    ["", "registry.test", "ftp://registry.test", "http://", "http://h:99999", "http://h/UP", "//h"],
)
def test_an_address_that_is_none(url):
    with pytest.raises(ConfigError, match="address"):
        Registry(url)


def test_a_password_in_the_address_is_refused_and_not_repeated():
    with pytest.raises(ConfigError) as caught:
        Registry("https://me:hunter2@registry.test")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "UP", "a//b", "../x", "a b", "a?x=1", "/a", "a/"])
def test_a_name_that_no_registry_has_is_not_asked_for(fake, connect, name):
    with pytest.raises(UsageError):
        connect(fake.url).head(name, "t1")


@pytest.mark.parametrize("reference", ["", "a b", "-x", "a/b", "x" * 129, "sha256:abc", "md5:00"])
def test_a_reference_that_no_registry_has_is_not_asked_for(fake, connect, reference):
    with pytest.raises(UsageError):
        connect(fake.url).head("app", reference)


def test_only_a_digest_can_be_deleted(fake, connect):
    with pytest.raises(UsageError, match="digest"):
        connect(fake.url).delete("app", "latest")


def test_deletion_that_is_switched_off_says_so(fake, connect):
    fake.on("DELETE", f"/v2/app/manifests/{digest(b'x')}", refusal(405, "UNSUPPORTED"))
    with pytest.raises(RegistryError, match="405") as caught:
        connect(fake.url).delete("app", digest(b"x"))
    assert "switched off" in caught.value.hint


def test_head_without_a_digest_reads_the_manifest(fake, connect):
    reply = manifest_reply({"mediaType": OCI_MANIFEST})
    fake.on("HEAD", TAG, Reply(200, headers={"Content-Type": OCI_MANIFEST}))
    fake.on("GET", TAG, reply)
    assert connect(fake.url).head("app", "t1") == digest(reply.body)
