"""What one message is: its class, and whether it is a failure or only speaks of one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from faults_lines import ERROR, WARNING
from faults_table import ByWord, Kind, Pattern, Table

LOOKED_AT = 2048
"""Characters of a message in which words that the program goes on are looked for."""

# google.rpc.Code, as Vertex AI's jobs and gRPC's own text have it.
_RPC = {
    2: "UNKNOWN", 3: "INVALID_ARGUMENT", 4: "DEADLINE_EXCEEDED", 5: "NOT_FOUND",
    6: "ALREADY_EXISTS", 7: "PERMISSION_DENIED", 8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION", 10: "ABORTED", 11: "OUT_OF_RANGE", 12: "UNIMPLEMENTED",
    13: "INTERNAL", 14: "UNAVAILABLE", 15: "DATA_LOSS", 16: "UNAUTHENTICATED",
}  # fmt: skip

_TOKEN = re.compile(r"(?<![\w.-])[A-Z][A-Za-z]{2,40}(?:_[A-Z0-9]{1,40}){0,8}(?![\w-])")
_REASON = re.compile(r"\breason[\"']?\s{0,4}[:=]\s{0,4}[\"']?(\w{3,80})")
# googleapi puts its reason last: "googleapi: Error 403: Rate Limit Exceeded, rateLimitExceeded".
_LAST_REASON = re.compile(r", (\w{5,60})\s{0,4}$", re.MULTILINE)
_STATUS = re.compile(
    r"(?:StatusCode\.|\bstatus[\"']?\s{0,4}[:=]\s{0,4}[\"']?|\bcode[\"']?\s{0,4}[:=]\s{0,4}[\"']?"
    r"|\bstate[\"']?\s{0,4}[:=]\s{0,4}[\"']?|\)\s|^|\n|\b[45]\d\d\s|\bJobState\.|: )"
    r"([A-Z][A-Z_]{3,40})(?=[\s:.,\"'\])}]|$)"
)
_GO_STATUS = re.compile(r"\bcode = ([A-Z][A-Za-z]{3,30})\b|\bgeneric::([a-z_]{3,30})\b")
_RPC_CODE = re.compile(
    r"(?:^|\n|[{,(]|with:|error:)\s{0,8}[\"']?code[\"']?\s{0,4}:\s{0,4}(\d{1,3})[\s,]{1,12}"
    r"[\"']?(?:message|errors|status)|\bgrpc_status[\"']?:\s?(\d{1,2})\b"
    r"|\b[Ee]rror code (\d{1,2}), message"
)
_HTTP = re.compile(
    r"<HttpError (\d{3})|googleapi: (?:Error|got HTTP response code) (\d{3})|<Response \[(\d{3})\]>"
    r"|\b(\d{3}) (?:Client|Server) Error\b|(?:Client|Server) error '(\d{3})"
    r"|returned error (\d{3})\b"
    r"|\(Error (\d{3}): |\bError code: (\d{3})\b|(?:^|\n)(\d{3}) (?:Forbidden|Unauthorized)\s"
    r"|\b(?:HTTP|http) (?:status|error|code|response)(?: code)?:? (\d{3})\b"
    r"|HTTP/[\d.]{1,3} (\d{3})\b"
    r"|\b(?:HTTP )?[Ss]tatus(?: [Cc]ode)?[: ]{1,2}(\d{3})\b|HTTPError: (?:HTTP Error )?(\d{3})\b"
    r"|(?<!\" )\b(\d{3}):? (?:Bad Request|Unauthorized|Forbidden|Not Found|Too Many Requests"
    r"|Internal Server Error|Bad Gateway|Service (?:Temporarily )?Unavailable|Gateway Time-?out)\b"
)
_WEAK_HTTP = re.compile(r"(?:^|: )([45]\d\d) (?=[A-Z])")

EXCEPTION = re.compile(r"(?:[A-Za-z_]\w{0,80}\.){0,12}([A-Z_]\w{0,80})(?::(?:\s|$)|\s{0,2}$|: ?\()")
_BY_NAME = re.compile(r"\w{0,60}(?:Error|Exception|ExceptionGroup|Exit)$")
# Python's own: what their words say is about the program's data, seldom about a service.
_OF_CODE = {
    "ValueError", "KeyError", "TypeError", "AttributeError", "AssertionError", "IndexError",
    "NameError", "ImportError", "ModuleNotFoundError", "FileNotFoundError", "PermissionError",
    "SyntaxError", "IndentationError", "NotImplementedError", "UnboundLocalError",
}  # fmt: skip
STOPPED = {"KeyboardInterrupt", "SystemExit", "CancelledError", "StopIteration", "Abort"}
_FIRST_WORDS = re.compile(
    r"(?:\w{1,40}[Ee]rror\b|fail|fatal|could ?n[o']t|couldn't|can ?not|can't|unable|panic|crit"
    r"|uncaught|unhandled|abort|denied|error|exception|\w{1,30}exception)",
    re.IGNORECASE,
)
FAILED = re.compile(r"\bfailed (?:with|to|for)\b|\bfailed:|: error:|\berror: ", re.IGNORECASE)
_FLAGS = re.compile(
    r"(?:^|\s)--[a-z][\w-]{2,40}"
    r"|^[\w.]{1,60}[:=] ?\S{1,60}(?: [\w.]{1,60}[:=]\S{1,60}){1,40}$"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    kind: Kind
    fatal: bool
    advice: str


def is_named(text: str) -> bool:
    return bool(EXCEPTION.match(text)) and bool(_BY_NAME.match(name_of(text)))


def name_of(text: str) -> str:
    found = EXCEPTION.match(text)
    return found[1] if found else ""


def goes_on(table: Table, text: str) -> bool:
    lower = text[:LOOKED_AT].lower()
    if any(expression.search(lower) for expression in table.gives_up):
        return False
    attempt = re.search(r"\battempt (?:#)?(\d{1,6}) ?(?:/|of) ?(\d{1,6})\b", lower)
    if attempt:
        return int(attempt[1]) < int(attempt[2])
    return any(expression.search(lower) for expression in table.goes_on)


def verdict_of(table: Table, level: int, text: str) -> Verdict | None:
    """Judge one message: its class, and whether it is a failure or only speaks of one."""
    text = text.strip()
    alarming = (
        level >= ERROR
        or is_named(text)
        or bool(_FIRST_WORDS.match(text) or FAILED.search(text[:LOOKED_AT]))
    )
    found = classify(table, text, alarming)
    if found is None:
        return None
    kind, advice, announced = found
    fatal = announced or not 0 < level <= WARNING
    if goes_on(table, text) or (not announced and not alarming and _FLAGS.search(text)):
        fatal = False
    return Verdict(kind, fatal, advice)


def classify(table: Table, text: str, alarming: bool) -> tuple[Kind, str, bool] | None:
    """Return the class of a message, what to do, and whether its level does not matter."""
    if '\\"' in text or "\\n" in text:  # a body inside of a body
        text = text.replace('\\"', '"').replace("\\n", "\n")
    lower = text.lower()
    words = [word for word in table.words if word in lower]
    if announced := _by_text(table.announces, words, lower):
        return announced, announced.advice, True
    of_code = name_of(text) in _OF_CODE
    if by_reason := _by_reason(table, text):
        owner, reason = by_reason
        return owner, owner.advice_for.get(reason, owner.advice), False
    kind = (
        _by_text(table.decides, words, lower)
        or _by_status(table, text)
        or _by_exception(table, text)
        or _by_http(table, text, alarming)
        or _by_text(table.says, words, lower)
        or (_by_text(table.hints, words, lower) if alarming and not of_code else None)
        or (table.kinds["python_exception"] if _is_exception(text) else None)
    )
    return (kind, kind.advice, False) if kind else None


def _by_reason(table: Table, text: str) -> tuple[Kind, str] | None:
    for match in (*_REASON.finditer(text), *_LAST_REASON.finditer(text)):
        if kind := table.reasons.get(match[1]):
            return kind, match[1]
    for match in _TOKEN.finditer(text):
        # One word in capitals may be anybody's; two joined are a code.
        if ("_" in match[0] or not match[0].isupper()) and (kind := table.reasons.get(match[0])):
            return kind, match[0]
    return None


def _by_text(patterns: ByWord, words: list[str], lower: str) -> Kind | None:
    best: Pattern | None = None
    for word in words:
        for pattern in patterns.get(word, ()):
            if best and best.rank < pattern.rank:
                break
            if pattern.found(lower):
                best = pattern
                break
    return best.kind if best else None


def _by_status(table: Table, text: str) -> Kind | None:
    names = [match[1] for match in _STATUS.finditer(text)]
    for match in _GO_STATUS.finditer(text):
        names.append((match[2] or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", match[1])).upper())
    for match in _RPC_CODE.finditer(text):
        names.append(_RPC.get(int(next(filter(None, match.groups()))), ""))
    return next((table.statuses[name] for name in names if name in table.statuses), None)


def _by_http(table: Table, text: str, alarming: bool) -> Kind | None:
    numbers = [next(filter(None, match.groups())) for match in _HTTP.finditer(text)]
    numbers += [match[1] for match in _RPC_CODE.finditer(text) if match[1]]
    if alarming:
        numbers += _WEAK_HTTP.findall(text)
    return next((table.http[int(one)] for one in numbers if int(one) in table.http), None)


def _by_exception(table: Table, text: str) -> Kind | None:
    for line in text.split("\n")[:40]:
        if (name := name_of(line.strip())) and (kind := table.exceptions.get(name)):
            return kind
    return None


def _is_exception(text: str) -> bool:
    first = text.split("\n", 1)[0]
    return is_named(first) and name_of(first) not in STOPPED
