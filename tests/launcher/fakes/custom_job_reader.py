"""Reads bodies of custom jobs with Google's own protobuf types; run by the launcher's Python.

A line in is a JSON string that holds a body; a line out is {"job": ...} with enums by name, or
{"error": ...} if the type has no such field or value.
"""

import json
import sys

from google.cloud.aiplatform_v1.types import CustomJob

for line in sys.stdin:
    try:
        job = CustomJob.from_json(json.loads(line), ignore_unknown_fields=False)
        found = {"job": json.loads(CustomJob.to_json(job, use_integers_for_enums=False))}
    except Exception as error:  # noqa: BLE001 - a body may be wrong in any way
        found = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(found), flush=True)
