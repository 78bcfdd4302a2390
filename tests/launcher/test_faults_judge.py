"""The judge of lines: evidence, what takes it away again, messages of many lines, and its cost."""

from __future__ import annotations

import json
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from small_stack import TOP

sys.path.insert(0, str(TOP / "Stack/arr-vertex-launcher"))

import faults

QUOTA = "google.api_core.exceptions.ResourceExhausted: 429 Quota exceeded for quota metric 'x'"
TRACEBACK = ["Traceback (most recent call last):", '  File "a.py", line 1, in f', "    send()"]


@pytest.fixture(scope="module")
def table() -> faults.Table:
    return faults.Table.load(Path(faults.__file__).with_name("faults.toml"))


def of(table: faults.Table, *lines: str) -> tuple[str, bool] | None:
    found = faults.judge(table, lines)
    chosen = next((fault for fault in found if fault.fatal), found[0] if found else None)
    return (chosen.kind.name, chosen.fatal) if chosen else None


@pytest.mark.parametrize(
    ("line", "name"),
    [
        # a reason beats the status, which beats the text
        ('{"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "quota of the API", '
         '"details": [{"reason": "SERVICE_DISABLED"}]}}', "permission"),
        ('{"error": {"status": "UNAVAILABLE", "message": "not found"}}', "unavailable"),
        ("googleapi: Error 403: Rate Limit Exceeded, rateLimitExceeded", "quota"),
        # text that is truer than the status
        ("RESOURCE_EXHAUSTED: Resources are insufficient in region: us-east1", "stockout"),
        ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8 bytes.", "oom"),
        ("status = StatusCode.INVALID_ARGUMENT: You do not have permission to act as "
         "service_account: x", "permission"),
        ("generic::resource_exhausted: no available zones: insufficient resources", "stockout"),
    ],
)  # fmt: skip
def test_the_best_evidence_decides(table: faults.Table, line: str, name: str) -> None:
    assert of(table, line) == (name, True)


@pytest.mark.parametrize(
    "prefix",
    [
        "", "ERROR: ", "wandb: ERROR launch: Error running job: ", "2026-11-22 10:00:00,123 ERROR ",
        "ERROR:root:", "\x1b[31mERROR\x1b[0m ", "2026-11-22T10:00:00.123456789Z stderr F ",
        "ERROR   2026-02-23 18:54:05 -0500       service ", "[rank0]: ", "Step #5: ",
        "E1122 10:00:00.123456    77 run.py:10] ", "Nov 22 10:00:00 host agent[7]: ",
    ],
)  # fmt: skip
def test_what_stands_before_a_message_does_not_matter(table: faults.Table, prefix: str) -> None:
    assert of(table, prefix + QUOTA) == ("quota", True)


@pytest.mark.parametrize(
    "entry",
    [
        {"severity": "ERROR", "textPayload": QUOTA},
        {"severity": "ERROR", "jsonPayload": {"message": QUOTA}},
        {"severity": "ERROR", "protoPayload": {"status": {"code": 8, "message": QUOTA}}},
        {"level": "error", "msg": "submit failed", "error": QUOTA},
    ],
)
def test_entries_of_cloud_logging(table: faults.Table, entry: dict[str, object]) -> None:
    assert of(table, json.dumps(entry)) == ("quota", True)


@pytest.mark.parametrize(
    "head",
    [
        "[E ProcessGroupNCCL.cpp:475] ", "2026-11-22 10:00:00.1: E a/b/cuda_driver.cc:271] ",
        "2026-11-22 10:00:00.123 | ERROR    | train:main:12 - ", "FATA[0003] ", "#12 7.813 ERROR: ",
        "[ERROR|trainer.py:2078] 2026-11-22 10:00:00,123 >> ", "[pod/trainer-0/main] ",
        "ERROR\t2026-11-22 10:00:00 -0500\tworkerpool0-0\t", "trainer-1  | ",
        "2026-11-22 [error    ] ",
    ],
)  # fmt: skip
def test_heads_of_other_loggers(table: faults.Table, head: str) -> None:
    assert of(table, head + QUOTA) == ("quota", True)


def test_standard_error_is_not_an_error(table: faults.Table) -> None:
    """Vertex AI calls ERROR whatever a container writes to its standard error."""
    words = "--on-timeout: what to do when the connection timed out"
    assert of(table, f"ERROR {words}") == ("network", True)
    assert of(table, f"ERROR\t2026-11-22 10:00:00 -0500\tworkerpool0-0\t{words}") is None
    assert of(table, json.dumps({"severity": "ERROR", "textPayload": words})) is None


@pytest.mark.parametrize("indent", [None, 2])
def test_a_log_within_an_entry(table: faults.Table, indent: int | None) -> None:
    log = "\n".join(["step 1", *TRACEBACK, "torch.OutOfMemoryError: CUDA out of memory."])
    entry = {"insertId": "x", "severity": "ERROR", "textPayload": log}
    (fault,) = faults.judge(table, json.dumps(entry, indent=indent).split("\n"))
    assert (fault.kind.name, fault.fatal, fault.line) == ("oom", True, 1)
    entry["severity"] = "WARNING"
    assert of(table, *json.dumps(entry, indent=indent).split("\n")) == ("oom", False)


@pytest.mark.parametrize(
    "line",
    [
        '"OOMKilled": false, "Error": "",', "preempted=False oom=False exit_code=0 error=None",
        'chaos: injecting fault "quota exceeded" into the client', "    raise QuotaExceeded(x)",
        "'name': 'stockout',", "Timeout: 503s", "handlers: ResourceExhausted, Preempted",
    ],
)  # fmt: skip
def test_what_only_names_a_fault_is_none(table: faults.Table, line: str) -> None:
    fault = faults.judge_line(table, line)
    assert fault is None or not fault.fatal


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (f"{QUOTA}. The job will not be retried.", "quota"),
        ("Cluster is preempted. The job will not be recovered.", "preempted"),
        ("errors=0 warnings=3 quota exceeded", "quota"),
    ],
)
def test_words_that_are_taken_back(table: faults.Table, line: str, name: str) -> None:
    assert of(table, line) == (name, True)


def test_a_guess_needs_the_level(table: faults.Table) -> None:
    words = "the certificate of the proxy is odd"
    assert of(table, f"ERROR {words}") == ("network", True)
    assert of(table, words) is None


@pytest.mark.parametrize(
    "line",
    [
        f"INFO {QUOTA}", f"WARNING:agent:{QUOTA}", f"{QUOTA}; retrying in 5 s",
        f"attempt 2/5 failed: {QUOTA}", f"the previous run failed with: {QUOTA}",
        json.dumps({"severity": "WARNING", "message": QUOTA}),
    ],
)  # fmt: skip
def test_a_line_that_only_speaks_of_a_fault_is_not_fatal(table: faults.Table, line: str) -> None:
    assert of(table, line) == ("quota", False)


@pytest.mark.parametrize(
    "line",
    [
        f"attempt 5/5 failed: {QUOTA}", f"giving up after 3 retries: {QUOTA}",
        "RetryError: Timeout of 60.0s exceeded, last exception: 429 Quota exceeded",
    ],
)  # fmt: skip
def test_the_failure_after_the_retries_is_fatal(table: faults.Table, line: str) -> None:
    assert of(table, line) == ("quota", True)


def test_a_pods_failure_is_one_although_kubernetes_calls_it_a_warning(table: faults.Table) -> None:
    line = "  Warning  Failed   6s   kubelet   Error: ImagePullBackOff"
    assert of(table, line) == ("image_pull", True)


def test_a_traceback_is_one_fault_with_all_of_it_as_evidence(table: faults.Table) -> None:
    (fault,) = faults.judge(table, ["hello", *TRACEBACK, "ValueError: no", "bye"])
    assert (fault.kind.name, fault.fatal, fault.line) == ("python_exception", True, 2)
    assert fault.evidence == (*TRACEBACK, "ValueError: no")


@pytest.mark.parametrize(
    ("last", "name"),
    [
        (QUOTA, "quota"), ("torch.OutOfMemoryError: CUDA out of memory.", "oom"),
        ("socket.timeout: timed out", "network"), ("KeyError: 'quota'", "python_exception"),
    ],
)  # fmt: skip
def test_a_traceback_has_the_class_of_its_exception(
    table: faults.Table, last: str, name: str
) -> None:
    assert of(table, *TRACEBACK, last) == (name, True)


def test_the_cause_decides_where_the_last_exception_says_nothing(table: faults.Table) -> None:
    chained = "The above exception was the direct cause of the following exception:"
    log = [*TRACEBACK, QUOTA, "", chained, "", *TRACEBACK, "launch.Failed: no job"]
    assert [fault.kind.name for fault in faults.judge(table, log)] == ["quota"]


def test_a_member_of_an_exception_group_decides(table: faults.Table) -> None:
    log = [
        "  + Exception Group Traceback (most recent call last):",
        '  |   File "a.py", line 1, in <module>',
        "  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)",
        "  +-+---------------- 1 ----------------",
        "    | Traceback (most recent call last):",
        '    |   File "a.py", line 2, in f',
        "    | ConnectionRefusedError: [Errno 111] Connection refused",
        "    +------------------------------------",
    ]
    (fault,) = faults.judge(table, log)
    assert (fault.kind.name, fault.fatal) == ("network", True)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("2026-11-22 10:00:00 INFO retry.py Retry attempt failed:", "hello"),
        ("Exception ignored in: <function f at 0x7f>", "hello"),
        ("WARNING:agent:upload failed", "hello"),
        ("hello", "wandb: Network error (ConnectionError), entering retry loop."),
    ],
)
def test_a_traceback_after_which_the_program_went_on(
    table: faults.Table, before: str, after: str
) -> None:
    log = [before, *TRACEBACK, "ConnectionResetError: [Errno 104] reset", after]
    assert of(table, *log) == ("network", False)


def test_an_uncaught_exception_after_a_quiet_line_is_fatal(table: faults.Table) -> None:
    assert of(table, "INFO:root:step 3", *TRACEBACK, "ValueError: no") == ("python_exception", True)


def test_an_interrupted_program_has_no_fault(table: faults.Table) -> None:
    assert of(table, *TRACEBACK, "KeyboardInterrupt") is None


def test_an_exception_before_its_traceback(table: faults.Table) -> None:
    """As pip prints them: `ERROR: Exception:`, and then what it was."""
    log = ["#0 297.0 ERROR: Exception:", *(f"#0 297.0 {line}" for line in TRACEBACK),
           "#0 297.0 ConnectionResetError: reset"]  # fmt: skip
    assert [fault.kind.name for fault in faults.judge(table, log)] == ["network"]


def test_a_traceback_written_into_one_line(table: faults.Table) -> None:
    line = " ".join([*TRACEBACK, "requests.exceptions.ReadTimeout: no answer"])
    assert of(table, line) == ("network", True)


def test_a_traceback_that_is_cut_off_swallows_nothing(table: faults.Table) -> None:
    found = faults.judge(table, [*TRACEBACK, "the program says something else", QUOTA])
    assert [fault.kind.name for fault in found] == ["python_exception", "quota"]


def test_an_error_body_over_several_lines(table: faults.Table) -> None:
    body = {"error": {"code": 8, "message": "Resources are insufficient in region: us-east1."}}
    (fault,) = faults.judge(table, [*json.dumps(body, indent=2).split("\n"), "hello"])
    assert (fault.kind.name, fault.line) == ("stockout", 1)


def test_a_brace_that_is_never_closed_swallows_nothing(table: faults.Table) -> None:
    assert of(table, "config = {", "hello", QUOTA) == ("quota", True)


def test_what_is_still_open_is_judged_at_the_end(table: faults.Table) -> None:
    judge = faults.Judge(table)
    assert [judge.feed(line) for line in [*TRACEBACK, "ValueError: no"]] == [None] * 4
    fault = judge.end()
    assert fault is not None
    assert fault.kind.name == "python_exception"
    assert judge.end() is None


def test_one_line_by_itself(table: faults.Table) -> None:
    fault = faults.judge_line(table, TRACEBACK[0])
    assert fault is not None
    assert fault.kind.name == "python_exception"
    assert faults.judge_line(table, "step 500 loss 0.403") is None


def test_an_advice_of_its_own_for_a_reason(table: faults.Table) -> None:
    fault = faults.judge_line(table, '403 PERMISSION_DENIED: x [reason: "SERVICE_DISABLED"')
    assert fault is not None
    assert "gcloud services enable" in fault.advice


NASTY = [
    "a" * 40_000, "error:" * 6_000, "(" * 40_000, "{" * 40_000, "[ERROR]" * 5_000,
    "code = " * 5_000, "error " + "1" * 40_000, "A_" * 20_000, "error " + "a." * 20_000,
    "quota " * 6_000, "2026-11-22 " * 4_000 + "error", "\x1b[" * 20_000 + "error",
    "image '" * 5_000, "Permission '" * 3_000, 'level="error' * 4_000, '{"message":' * 4_000 + "}",
    "error ] 5" * 5_000, "error=false " * 4_000, "not " * 9_000 + "retrying", "#1 1.1 " * 6_000,
    '"textPayload": "' * 3_000, 'error "a b' * 4_000, "Traceback (most recent call last): " * 1_500,
    "error\\n" * 6_000, "|" * 40_000 + "error", "does not have " * 3_000, "--error-a " * 4_000,
]  # fmt: skip


@pytest.mark.parametrize("line", NASTY, ids=lambda line: repr(line[:12]))
def test_no_line_takes_long(table: faults.Table, line: str) -> None:
    started = time.perf_counter()
    faults.judge_line(table, line)
    assert time.perf_counter() - started < 1.5


def test_lines_of_ten_megabytes_are_judged_by_their_ends(table: faults.Table) -> None:
    filler = "x" * 10_000_000
    started = time.perf_counter()
    assert of(table, QUOTA + filler) == ("quota", True)
    assert of(table, filler + " error: " + QUOTA) == ("quota", True)
    assert of(table, "x" * 5_000_000 + QUOTA + "x" * 5_000_000) is None
    assert time.perf_counter() - started < 3


@pytest.mark.parametrize("unit", ["failed to pull ", "quota exceeded ", '"message": "', "ERROR "])
def test_a_megabyte_of_near_matches(table: faults.Table, unit: str) -> None:
    started = time.perf_counter()
    faults.judge_line(table, (unit * (1_000_000 // len(unit) + 1))[:1_000_000])
    assert time.perf_counter() - started < 1.5


def test_entries_within_entries_end(table: faults.Table) -> None:
    line = QUOTA
    for _ in range(8):
        line = json.dumps({"severity": "ERROR", "textPayload": f"{line}\nstep 1"})
    started = time.perf_counter()
    faults.judge_line(table, line)
    faults.judge_line(table, '{"error":' + "[" * 15_000 + "}")
    assert time.perf_counter() - started < 1.5


@pytest.mark.parametrize("log", [[], [""], ["\x00" * 10_000], ["\ufffd" * 10_000, "\x1b[31"]])
def test_garbage_is_no_fault(table: faults.Table, log: list[str]) -> None:
    assert faults.judge(table, log) == []


def test_memory_is_bounded_whatever_comes(table: faults.Table) -> None:
    judge = faults.Judge(table)
    tracemalloc.start()
    for head in ("Traceback (most recent call last):", '{"error": {', QUOTA):
        judge.feed(head)
        for _ in range(450):
            judge.feed("    " + "error " * 350)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000
    assert len(judge.context) == 50
