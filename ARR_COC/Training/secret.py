"""The W&B key from Google's Secret Manager, for a run that is not given it in clear."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

SECRET = "WANDB_API_KEY_SECRET"
ENDPOINT = "SECRET_MANAGER_ENDPOINT"
"""The environment's name of another address than Google's own, such as a private endpoint's."""

_GOOGLES = "https://secretmanager.googleapis.com"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_FORM = re.compile(r"projects/[^/\s]+/secrets/[\w-]+/versions/[\w-]+", re.ASCII)
_KEY = re.compile(r"[!-~]+")  # one word
_SECONDS = 10
_TRIES = 5
_PASSING = (429, 500, 502, 503, 504)
_ADVICE = {
    400: "enable that version of it, or add a new one",
    401: "log in again: gcloud auth application-default login",
    403: "grant {account} the role roles/secretmanager.secretAccessor on it",
    404: "name one that is there and has a version, as "
    "projects/PROJECT/secrets/NAME/versions/latest",
}


class SecretError(Exception):
    """The key cannot be read; says why and what to do, and never what the secret holds."""


def read(
    name: str, environment: Mapping[str, str], credentials: Any = None, pause: float = 1.0
) -> str:
    """Return the key that the secret version `name` holds, read as the account that this runs as.

    What may pass (429, 5xx, no connection) is tried again for about a minute at most; `pause` is
    the unit of the time between two tries, in seconds. Raises SecretError.
    """
    if not _FORM.fullmatch(name):  # it is not shown: it may be the key itself
        raise SecretError(f"{SECRET} is not of the form projects/PROJECT/secrets/NAME/versions/N")
    try:
        import google.auth.exceptions  # here, because most runs do without
        from google.auth.transport.requests import AuthorizedSession
        from requests import RequestException
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry
    except ImportError as error:
        raise SecretError(f"{name} cannot be read: a package is missing ({error})") from error
    again = Retry(
        _TRIES - 1,
        backoff_factor=pause,
        status_forcelist=_PASSING,
        respect_retry_after_header=False,
        raise_on_status=False,
    )
    url = f"{environment.get(ENDPOINT) or _GOOGLES}/v1/{name}:access"
    try:
        known = credentials or google.auth.default(scopes=[_SCOPE])[0]
        with AuthorizedSession(known) as session:  # type: ignore[no-untyped-call]
            session.mount(url, HTTPAdapter(max_retries=again))
            answer = session.get(url, timeout=_SECONDS)
    except google.auth.exceptions.GoogleAuthError as error:
        raise SecretError(
            f"{name} cannot be read: no credentials of Google Cloud ({error}); run as a service "
            "account, or log in: gcloud auth application-default login"
        ) from error
    except RequestException as error:
        raise SecretError(
            f"{name} cannot be read: no answer in {_TRIES} tries ({error}); is {url} to be reached?"
        ) from error
    if answer.status_code != 200:
        raise SecretError(_refused(name, answer, getattr(known, "service_account_email", "")))
    return _key(name, answer)


def _refused(name: str, answer: Any, account: str) -> str:
    try:
        error = answer.json()["error"]
        words = f"{error.get('status', '')}: {error.get('message', '')}"
    except (ValueError, LookupError, TypeError, AttributeError):
        words = str(answer.reason)
    advice = _ADVICE.get(answer.status_code, "start the run again later")
    who = account if "@" in account else "the run's account"
    return f"{name} cannot be read: {answer.status_code} {words}; {advice.format(account=who)}"


def _key(name: str, answer: Any) -> str:
    try:
        data = base64.b64decode(answer.json()["payload"]["data"], validate=True)
        key = data.decode("ascii").strip()
    except (ValueError, LookupError, TypeError):  # no chaining: the error may show the key
        key = ""
    if not _KEY.fullmatch(key):
        raise SecretError(f"{name} does not hold a W&B key; add a version that holds one, no more")
    return key
