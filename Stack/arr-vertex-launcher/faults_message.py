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
_JOINED = re.compile(r"_|[a-z][A-Z]|[A-Z][A-Z]+[a-z]")
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
    r"|\b[Ee]rror [Cc]ode:? (\d{1,2})(?:, message| - [A-Z]{4})"
)
_HTTP = re.compile(
    r"<HttpError (\d{3})|googleapi: (?:Error|got HTTP response code) (\d{3})|<Response \[(\d{3})\]>"
    r"|\b(\d{3}) (?:Client|Server) Error\b|(?:Client|Server) error '(\d{3})"
    r"|returned error (\d{3})\b"
    r"|(?:^|[\s(])Error (\d{3}): |^HTTP (\d{3}): |\bError code: (\d{3})\b"
    r"|(?:^|\n)(\d{3}) (?:Forbidden|Unauthorized)\s"
    r"|\b(?:HTTP|http) (?:status|error|code|response)(?: code)?:? (\d{3})\b"
    r"|HTTP/[\d.]{1,3} (\d{3})\b"
    r"|\b(?:HTTP )?[Ss]tatus(?: [Cc]ode)?[: ]{1,2}(\d{3})\b|HTTPError: (?:HTTP Error )?(\d{3})\b"
    r"|(?<!\" )\b(\d{3}):? (?:Bad Request|Unauthorized|Forbidden|Not Found|Too Many Requests"
    r"|Internal Server Error|Bad Gateway|Service (?:Temporarily )?Unavailable|Gateway Time-?out)\b"
)
_WEAK_HTTP = re.compile(r"(?:^|: )([45]\d\d) (?=[A-Z]|response )|(?:^|\s)HTTP ([45]\d\d)\b")

# Without these the long expressions above cannot match.
_LIKE_STATUS = re.compile(r"[A-Z]{3}|code|generic::|grpc_status")
_LIKE_HTTP = re.compile(r"\d{3}")

EXCEPTION = re.compile(r"(?:[A-Za-z_]\w{0,80}\.){0,12}([A-Z_]\w{0,80})(?::(?:\s|$)|\s{0,2}$|: ?\()")
_BY_NAME = re.compile(r"\w{0,60}(?:Error|Exception|ExceptionGroup|Exit)$")
# "Timeout: 30 s" names no exception, "Timeout: 504 Deadline Exceeded" does.
_SETTING = re.compile(r"[A-Z][a-z]{2,20}: (?!\d{3} [A-Z])")
_NAMED = re.compile(r" (?:[a-z_]\w{0,60}\.){0,8}([A-Z]\w{2,60}):? ")
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
# A field that says that there is nothing is no evidence: `errors=0`, `"OOMKilled": false`.
_NOTHING = re.compile(
    r"(?<![\w-])[\"']?[\w-]{2,40}[\"']?\s?[:=]\s?"
    r"(?:[\"']?(?:false|none|null|no|off|0(?:\.0{1,6})?%?|disabled|n/a)[\"']?|\[\]|\{\}|\"\"|'')"
    r"(?=\s{0,4}(?:[,;|}\])]|$)|\s{1,4}[\w-]{2,40}=)",
    re.IGNORECASE | re.MULTILINE,
)
# Nor are words that are only quoted: `see below for "quota exceeded" errors`.
_MENTION = re.compile(r"(?<=\w )([\"'`])[A-Za-z]{2,20}(?: [A-Za-z]{2,20}){1,5}\1(?=[ ,.;)]|$)")
_NOT = re.compile(r"(?:\bnot|n't|\bnever|\bcannot|\bunable to|\bfailed to|\bwithout)(?: be)? $")
_FAILED = re.compile(
    r"\bfailed (?:with|to|for)\b|\bfailed(?::|$)|: error:|\berror: ", re.IGNORECASE
)
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


def is_failure(text: str) -> bool:
    """Whether the words say that something failed."""
    return bool(_FIRST_WORDS.match(text) or _FAILED.search(text))


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
    for expression in table.goes_on:
        if expression.search(lower):
            for match in expression.finditer(lower):
                if not _NOT.search(lower, max(0, match.start() - 16), match.start()):
                    return True
    return False


def verdict_of(table: Table, level: int, text: str) -> Verdict | None:
    """Judge one message: its class, and whether it is a failure or only speaks of one."""
    text = text.strip()
    alarming = level >= ERROR or is_named(text) or is_failure(text[:LOOKED_AT])
    found = classify(table, text, alarming, level >= ERROR)
    for no_evidence in (_NOTHING,) if alarming else (_NOTHING, _MENTION):
        if found and no_evidence.search(text):
            text = no_evidence.sub("=", text)
            found = classify(table, text, alarming, level >= ERROR)
    if found is None:
        return None
    kind, advice, announced = found
    fatal = announced or not 0 < level <= WARNING
    if goes_on(table, text) or (not announced and not alarming and _FLAGS.search(text)):
        fatal = False
    return Verdict(kind, fatal, advice)


def classify(
    table: Table, text: str, alarming: bool, error: bool = False
) -> tuple[Kind, str, bool] | None:
    """Return the class of a message, what to do, and whether its level does not matter.

    `alarming`: it says itself that something failed; `error`: its level is ERROR."""
    if "\\" in text:  # a body inside of a body
        text = text.replace('\\"', '"').replace("\\'", "'").replace("\\n", "\n")
    lower = text.lower()
    words = [word for word in table.words if word in lower]
    if announced := _by_text(table.announces, words, lower):
        return announced, announced.advice, True
    of_code = name_of(text) in _OF_CODE or name_of(text).endswith(("DecodeError", "ParserError"))
    if by_reason := _by_reason(table, text):
        owner, reason = by_reason
        return owner, owner.advice_for.get(reason, owner.advice), False
    kind = (
        _by_text(table.decides, words, lower)
        or _by_status(table, text)
        or _by_exception(table, text, alarming)
        or _by_http(table, text, alarming)
        or _by_text(table.says, words, lower)
        or (_by_text(table.hints, words, lower) if alarming and not of_code else None)
        or (table.kinds["python_exception"] if _is_exception(text) else None)
        or (_by_text(table.guesses, words, lower) if error and not is_named(text) else None)
    )
    return (kind, kind.advice, False) if kind else None


def _by_reason(table: Table, text: str) -> tuple[Kind, str] | None:
    named = [match[1] for match in _REASON.finditer(text)]
    named += [match[1] for match in _LAST_REASON.finditer(text) if not match[1].istitle()]
    # One word may be anybody's; two joined are a code.
    named += [match[0] for match in _TOKEN.finditer(text) if _JOINED.search(match[0])]
    for reason in named:
        if kind := table.reasons.get(reason):
            return kind, reason
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
    if not _LIKE_STATUS.search(text):
        return None
    names = [match[1] for match in _STATUS.finditer(text)]
    for match in _GO_STATUS.finditer(text):
        names.append((match[2] or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", match[1])).upper())
    for match in _RPC_CODE.finditer(text):
        names.append(_RPC.get(int(next(filter(None, match.groups()))), ""))
    return next((table.statuses[name] for name in names if name in table.statuses), None)


def _by_http(table: Table, text: str, alarming: bool) -> Kind | None:
    if not _LIKE_HTTP.search(text):
        return None
    numbers = [next(filter(None, match.groups())) for match in _HTTP.finditer(text)]
    numbers += [match[1] for match in _RPC_CODE.finditer(text) if match[1]]
    if alarming:
        numbers += [match[1] or match[2] for match in _WEAK_HTTP.finditer(text)]
    return next((table.http[int(one)] for one in numbers if int(one) in table.http), None)


def _by_exception(table: Table, text: str, alarming: bool) -> Kind | None:
    if "Traceback (most recent call last): " in text:  # with all its lines in one
        for match in reversed(list(_NAMED.finditer(text))):
            if kind := table.exceptions.get(match[1]):
                return kind
    for line in map(str.strip, text.split("\n")[:40]):
        name = name_of(line)
        if name and name in table.exceptions and not _SETTING.match(line):
            kind = table.exceptions[name]
            # InternalServerError is what some libraries raise for 502 and 503 as well.
            return (kind.name == "internal" and _by_http(table, text, alarming)) or kind
    return None


def _is_exception(text: str) -> bool:
    first = text.split("\n", 1)[0]
    return is_named(first) and name_of(first) not in STOPPED
