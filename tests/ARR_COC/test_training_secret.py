"""The W&B key from Secret Manager: read over REST, never shown, and never in the way of a run."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.oauth2.credentials import Credentials
from training_runs import ROOT, assignments, result

from ARR_COC.Training import secret, train
from ARR_COC.Training.secret import SecretError

NAME = "projects/arr-project/secrets/wandb-api-key/versions/latest"
KEY = "local-" + "k" * 40
EMAIL = "training@arr-project.iam.gserviceaccount.com"
ACCOUNT = "/computeMetadata/v1/instance/service-accounts/default/"


def holding(payload: bytes) -> tuple[int, Any]:
    """The answer of AccessSecretVersion: the payload in base64, its CRC32C as a string."""
    data = {"data": base64.b64encode(payload).decode(), "dataCrc32c": "1"}
    return 200, {"name": NAME.replace("latest", "3"), "payload": data}


def refusing(code: int, status: str, message: str) -> tuple[int, Any]:
    return code, {"error": {"code": code, "status": status, "message": message}}


class SecretManager:
    """Answers each request with the next of `answers`, the last one again and again.

    It is also the metadata server, which gives a service account's token to whoever asks.
    """

    def __init__(self) -> None:
        self.answers = [holding(KEY.encode() + b"\n")]
        self.asked: list[str] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = service.answer(self.path, self.headers.get("Authorization"))
                text = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Metadata-Flavor", "Google")
                kind = "text/html" if isinstance(body, bytes) else "application/json"
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"

    def answer(self, path: str, authorization: str | None) -> tuple[int, Any]:
        path = path.partition("?")[0]
        if not path.startswith("/v1/"):
            token = {"access_token": "token", "expires_in": 3600, "token_type": "Bearer"}
            account = {"aliases": ["default"], "email": EMAIL, "scopes": []}
            known = {f"{ACCOUNT}token": token, ACCOUNT: account, "/": b"computeMetadata/"}
            return (200, known[path]) if path in known else (404, b"")
        self.asked.append(path)
        if authorization != "Bearer token":
            return refusing(401, "UNAUTHENTICATED", "Request had invalid credentials.")
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def manager() -> Iterator[SecretManager]:
    service = SecretManager()
    thread = threading.Thread(target=service.server.serve_forever, args=(0.05,))
    thread.start()
    yield service
    service.server.shutdown()
    thread.join()
    service.server.server_close()


def read(manager: SecretManager, name: str = NAME, token: str = "token") -> str:
    place = {secret.ENDPOINT: f"http://{manager.address}"}
    credentials = Credentials(token)  # type: ignore[no-untyped-call]
    return secret.read(name, place, credentials, pause=0.01)


def test_the_key_is_what_the_secret_holds(manager: SecretManager) -> None:
    assert read(manager) == KEY
    assert manager.asked == [f"/v1/{NAME}:access"]


@pytest.mark.parametrize("code", [429, 500, 503])
def test_what_may_pass_is_tried_again(manager: SecretManager, code: int) -> None:
    manager.answers = [*[refusing(code, "X", "not now")] * 3, *manager.answers]
    assert read(manager) == KEY
    manager.answers = [refusing(code, "BUSY", "not now")]
    with pytest.raises(SecretError, match=f"{code} BUSY: not now; start the run again later"):
        read(manager)
    assert len(manager.asked) == 4 + 5


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            refusing(403, "PERMISSION_DENIED", "Permission 'x' denied"),
            "403 PERMISSION_DENIED: Permission 'x' denied; grant the run's account the role "
            "roles/secretmanager.secretAccessor on it",
        ),
        (refusing(404, "NOT_FOUND", "Secret [x] not found"), "secrets/NAME/versions/latest"),
        (refusing(400, "FAILED_PRECONDITION", "is in DISABLED state"), "enable that version"),
        ((403, b"<html>a proxy's page</html>"), "403 Forbidden; grant"),
        ((200, b"<html>a proxy's page</html>"), "does not hold a W&B key"),
        ((200, {"payload": {"data": "%%"}}), "does not hold a W&B key"),
        (holding(b""), "does not hold a W&B key"),
        (holding(b'{"key": "not-to-be-shown"}'), "does not hold a W&B key"),
        (holding(b"not-to-be-shown\xff"), "does not hold a W&B key"),
    ],
)
def test_a_refusal_is_final_and_says_what_to_do(
    manager: SecretManager, answer: tuple[int, Any], words: str
) -> None:
    manager.answers = [answer]
    with pytest.raises(SecretError) as caught:
        read(manager)
    assert NAME in str(caught.value)
    assert words in str(caught.value)
    assert len(manager.asked) == 1
    shown = f"{caught.value} {caught.value.__cause__!r} {caught.value.__context__!r}"
    assert "not-to-be-shown" not in shown


@pytest.mark.parametrize("name", [KEY, "wandb-api-key", f"{NAME}/../x", "projects/p/secrets/s"])
def test_a_name_of_another_form_is_not_asked_for_nor_shown(
    manager: SecretManager, name: str
) -> None:
    with pytest.raises(SecretError, match="WANDB_API_KEY_SECRET is not of the form") as caught:
        read(manager, name)
    assert name not in str(caught.value)
    assert manager.asked == []


def test_without_a_service_or_credentials_it_says_so(
    manager: SecretManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SecretError, match=r"no credentials of Google Cloud .*gcloud auth"):
        read(manager, token="")  # nothing to refresh it with
    nowhere = {secret.ENDPOINT: "http://127.0.0.1:1"}
    known = Credentials("token")  # type: ignore[no-untyped-call]
    with pytest.raises(SecretError, match="no answer in 5 tries"):
        secret.read(NAME, nowhere, known, pause=0.01)
    monkeypatch.setitem(sys.modules, "google.auth.transport.requests", None)
    with pytest.raises(SecretError, match="a package is missing"):
        read(manager)


def test_the_runs_own_account_reads_it(manager: SecretManager) -> None:
    code = (
        "import os; from ARR_COC.Training import secret\n"
        f"try: print(secret.read({NAME!r}, os.environ))\n"
        "except secret.SecretError as error: print(error)"
    )
    environ = {
        "PATH": os.environ["PATH"],
        "GCE_METADATA_HOST": manager.address,
        "GCE_METADATA_IP": manager.address,
        secret.ENDPOINT: f"http://{manager.address}",
        "HTTPS_PROXY": f"http://{manager.address}",  # nothing leaves this machine
    }

    def asked() -> str:
        found = subprocess.run(
            [sys.executable, "-c", code], env=environ, cwd=ROOT, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        return found.stdout.strip()

    assert asked() == KEY
    manager.answers = [refusing(403, "PERMISSION_DENIED", "denied")]
    assert f"grant {EMAIL} the role roles/secretmanager.secretAccessor" in asked()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Put a W&B in place that records what it is started with, and `fails` with it."""

    def install(fails: bool = False) -> list[dict[str, Any]]:
        started: list[dict[str, Any]] = []

        def init(**arguments: Any) -> Any:
            started.append(arguments)
            if fails:
                raise ValueError(f"cannot use {arguments['settings']['api_key']}")
            return SimpleNamespace(log=lambda *_, **__: None, finish=lambda **_: None, summary={})

        module = SimpleNamespace(init=init, Settings=lambda **arguments: arguments)
        monkeypatch.setitem(sys.modules, "wandb", module)
        return started

    return install


@pytest.fixture
def with_secret(
    environment: dict[str, str], manager: SecretManager, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """A run's environment as the launch agent writes it: the name of the secret, and no key."""
    import google.auth

    known = Credentials("token")  # type: ignore[no-untyped-call]
    monkeypatch.setattr(google.auth, "default", lambda **_: (known, "arr-project"))
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        environment.pop(name, None)
    more = {secret.SECRET: NAME, secret.ENDPOINT: f"http://{manager.address}"}
    return environment | more


def test_a_run_is_online_with_the_key_and_leaves_it_nowhere(
    with_secret: dict[str, str],
    told: Callable[..., list[dict[str, Any]]],
    capfd: pytest.CaptureFixture[str],
) -> None:
    started = told()
    assert train.main(assignments(), with_secret) == 0
    (start,) = started
    assert (start["mode"], start["settings"]["api_key"]) == ("online", KEY)
    said = "".join(capfd.readouterr())
    assert "wandb: online" in said
    assert KEY not in said
    assert KEY not in os.environ.values()
    folder = Path(with_secret["ARR_RUN_DIR"])
    assert result(folder)["steps"] == 6
    for file in folder.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes()


@pytest.mark.parametrize("mode", ["", "online"])
def test_without_the_key_a_run_goes_on_offline(
    with_secret: dict[str, str],
    manager: SecretManager,
    told: Callable[..., list[dict[str, Any]]],
    capsys: pytest.CaptureFixture[str],
    mode: str,
) -> None:
    manager.answers = [refusing(403, "PERMISSION_DENIED", "denied")]
    started = told()
    assert train.main(assignments(), with_secret | {"WANDB_MODE": mode}) == 0
    assert [(each["mode"], each["resume"]) for each in started] == [("offline", None)]
    said = capsys.readouterr().out
    assert "wandb: no key, so `wandb sync` must upload the run later" in said
    assert "roles/secretmanager.secretAccessor" in said


@pytest.mark.parametrize(
    "more", [{"WANDB_MODE": "offline"}, {"WANDB_MODE": "disabled"}, {"WANDB_API_KEY": "k"}]
)
def test_the_secret_is_read_only_if_it_is_needed(
    with_secret: dict[str, str],
    manager: SecretManager,
    told: Callable[..., list[dict[str, Any]]],
    more: dict[str, str],
) -> None:
    told()
    assert train.main(assignments("steps=1", "selector_steps=0"), with_secret | more) == 0
    assert manager.asked == []


def test_what_wandb_says_of_the_key_does_not_show_it(
    with_secret: dict[str, str],
    told: Callable[..., list[dict[str, Any]]],
    capfd: pytest.CaptureFixture[str],
) -> None:
    told(fails=True)
    assert train.main(assignments("steps=1", "selector_steps=0"), with_secret) == 0
    said = "".join(capfd.readouterr())
    assert "wandb: did not start, the run goes on without it (ValueError: cannot use ***)" in said
    assert KEY not in said
