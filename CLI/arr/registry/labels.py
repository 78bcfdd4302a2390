"""The names under which arr writes its facts on an image and on the record beside it."""

from __future__ import annotations

FINGERPRINT_LABEL = "org.arr.fingerprint"

BUILT_AT = "org.arr.built-at"
REASON = "org.arr.reason"
SECONDS = "org.arr.seconds"
COMMIT = "org.arr.commit"
