"""Uploading a checkpoint: the hub's own client against a hub on loopback."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from ARR_COC.loading import PROGRESS
from ARR_COC.Training import upload
from ARR_COC.Training.settings import SettingsError

TOKEN = "hf_" + "t" * 34


class Hub:
    """Takes files in commits; `writable` is what a token may do, `files` what was committed."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.created: list[str] = []
        self.writable = True
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
                self._say(200 if known else 401, {"name": "arr"} if known else {"error": "who?"})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self._say(*hub.answer(self.path, body))

            def _say(self, status: int, value: Any) -> None:
                raw = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, path: str, body: bytes) -> tuple[int, Any]:
        if not self.writable:
            return 403, {"error": "this token may only read"}
        if path == "/api/repos/create":
            self.created.append(json.loads(body)["name"])
            return 200, {"url": f"{self.url}/arr/model"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if "/preupload/" in path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return 200, {"files": files}
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                self.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        commit = {"commitUrl": f"{self.url}/arr/model/commit/1", "commitOid": "1", "success": True}
        return 200, commit


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    found = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", found.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # the other tests ask no hub
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    thread = threading.Thread(target=found.server.serve_forever, args=(0.05,))
    thread.start()
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


def test_a_checkpoint_and_its_card_are_uploaded_without_what_only_going_on_needs(
    hub: Hub, tmp_path: Path
) -> None:
    folder, report = tmp_path / "step-00000100", tmp_path / "report"
    (folder / "selector").mkdir(parents=True)
    report.mkdir()
    (folder / "selector" / "selector.safetensors").write_bytes(b"weights")
    (folder / PROGRESS).write_bytes(b"optimizer")
    (report / "README.md").write_text("card")
    upload.check("arr/model")
    upload.upload(folder, report, "arr/model")
    assert hub.created == ["model"]
    assert hub.files == {"selector/selector.safetensors": b"weights", "README.md": b"card"}


def test_a_login_that_is_not_known_is_told_before_training(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 34)
    with pytest.raises(SettingsError, match=r"cannot log in.*HF_TOKEN"):
        upload.check("arr/model")


def test_an_upload_that_is_refused_says_that_the_checkpoint_is_still_there(
    hub: Hub, tmp_path: Path
) -> None:
    hub.writable = False
    (tmp_path / "weights").write_bytes(b"")
    with pytest.raises(upload.UploadError, match="The run is done"):
        upload.upload(tmp_path, tmp_path / "report", "arr/model")
