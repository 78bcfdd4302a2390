"""What a line of a log says, without what the writers on its way have put before it.

Time stamps, `wandb: `, levels, names of loggers, container log prefixes, terminal escapes and the
JSON of Cloud Logging are taken off; the level that was said last, next to the message, counts.
Everything here is linear in the length of the line, and a line is looked at up to `CAP` only.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

CAP = 16 * 1024
"""Characters at each end of a line that are looked at; what lies between them is not."""

LEVELS = {
    "TRACE": 10, "DEBUG": 10, "INFO": 20, "NOTICE": 20, "WARN": 30, "WARNING": 30, "ERROR": 40,
    "ERR": 40, "SEVERE": 40, "FATAL": 50, "CRITICAL": 50, "PANIC": 50, "ALERT": 50, "EMERGENCY": 50,
    "DEFAULT": 0,
}  # fmt: skip
WARNING, ERROR = 30, 40
_LETTERS = {"I": 20, "W": 30, "E": 40, "F": 50}

_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]{0,32}[ -/]{0,8}[@-~]|\][^\x07\x1b]{0,512}(?:\x07|\x1b\\)?|.)"
)
_CONTROLS = {code: None for code in range(32) if chr(code) not in "\t\n"}

_TIME = re.compile(
    r"[\[(]?(?:(?:\d{4}[-/]\d\d[-/]\d\d|\d\d/\d\d/\d{4})"
    r"(?:[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d{1,9})?)?"
    r"|\d\d:\d\d:\d\d(?:[.,]\d{1,9})?|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:Z|\.\d{1,9})?)"
    r"(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?[\])]?:?(?: [-|] | >> | |\t|(?=\[)|$)"
)
# Google's letters, as glog, absl, klog, TensorFlow, torch's C++ and SkyPilot write them.
_GLOG = re.compile(
    r"\[?([IWEF])(?:\d{4} [\d:]{8,12}(?:\.\d{1,9})? {1,8}(?:\d{1,9} )?| \d\d-\d\d [\d:]{8} | )"
    r"[^\]\[\s]{1,120}:\d{1,6}\]:? ?"
)
_LEVEL = re.compile(
    r"[\[<(]?(TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|ERR|SEVERE|FATAL|CRITICAL|PANIC|ALERT"
    r"|EMERGENCY|DEFAULT)(?:[\])>]:? ?|\|[\w./]{1,80}:\d{1,6}\] | {0,8}[|:-] ?| |\t|$)"
)
_SOFT_LEVEL = re.compile(
    r"\[?(error|warning|info|debug|fatal|critical|Error|Warning|Info|Fatal)(?: {0,8}\]:?|:) ?"
)
_SHORT_LEVEL = re.compile(r"(DEBU|INFO|WARN|ERRO|FATA|PANI)\[\d{1,12}\] ?")  # logrus
_SHORT = {"DEBU": 10, "INFO": 20, "WARN": 30, "ERRO": 40, "FATA": 50, "PANI": 50}
_NAMED_LEVEL = re.compile(
    r"(?:- )?(?:[\w.-]{1,60} [-|] (?:[\w.-]{1,40} [-|] )?|\[[\w.-]{1,60}\] ?\[?)"
    r"(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b\]?(?: ?[-|:])? ?"
)
# After a level: the logger of `logging`'s own format, or of loguru's, or wandb's thread and place.
_LOGGER = re.compile(
    r"(?:[\w.]{1,80}:[\w<>]{1,60}:\d{1,6} - |[a-z_][\w.-]{0,80}:(?=\S)(?!//)"
    r"|\S{1,40} {0,2}:\d{1,9} \[[^\]]{1,120}\] ?)"
)
_EVENT = re.compile(
    r"\s{0,8}(?:\d{1,4}[smhd]\w{0,8}\s{1,16})?(Normal|Warning)\s{1,16}"
    r"(?:Failed\w{0,20}|BackOff|OOMKilling|Evicted|Preempt\w{1,6}|Unhealthy|Inspect\w{1,8}|Pull\w{1,4})"
    r"\s{1,40}(?:\d{1,4}[smhd]\S{0,20} (?:\([^)]{1,40}\))?\s{0,40})?"
)
_SYSLOG = re.compile(r"[\w.-]{1,64} [\w./-]{1,40}(?:\[\d{1,9}\])?: ")
_NAMES = re.compile(
    r"wandb: ?|launch: |(?:stdout|stderr) [FP] |Step #\d{1,3}(?: - \"[^\"]{1,60}\")?: "
    r"|#\d{1,4} \d{1,6}\.\d{1,4} ?|textPayload: [|'>-]{0,2}|\[pod/[^\]]{1,160}\] "
    r"|[a-z][\w.-]{0,60}[-_]\d{1,3} {1,20}\| |\[(?:rank|default)?\d{1,4}\]: ?"
    r"|(?:service|workerpool\d{1,3}-\d{1,3})(?: {2,8}(?=\S)| |\t{1,2})"
    r"|\([\w]{0,40} ?pid=\d{1,9}(?:, ip=[\d.]{1,20})?\) |\[ {0,6}\d{1,9}\.\d{1,9}\] |<\d> ?|[│┃] "
)
_PAIR = re.compile(r'(?:^| )(level|msg|error|err|message)=("(?:[^"\\]|\\.){0,4000}"|\S{1,4000})')


@dataclass(frozen=True, slots=True)
class Read:
    """The message of a line; `level` is 0 where none is said.

    `lines` is more than one if it was an entry of a structured log: its fields, or, if `log`, the
    lines of a log that was written into one."""

    level: int
    lines: tuple[str, ...]
    log: bool = False

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def clip(line: str) -> str:
    """Return the line's last state, at most its two ends."""
    if len(line) > 2 * CAP:
        line = f"{line[:CAP]} ... {line[-CAP:]}"
    line = line.rstrip("\r\n")
    if "\r" in line:  # a progress bar rewrites its line
        line = line.rpartition("\r")[2]
    return line


def read(line: str) -> Read:
    """Take off what was put before the message of a clipped line."""
    if "\x1b" in line:
        line = _ESCAPES.sub("", line)
    if not line.isprintable():
        line = line.translate(_CONTROLS)
    level, text = _without_prefix(line)
    if inner := entry(text):
        return inner if inner.level else Read(level, inner.lines, inner.log)
    if ("level=" in text or "msg=" in text) and (pairs := _from_pairs(text)):
        return Read(pairs[0] or level, (pairs[1],))
    if "\\n" in text and "Traceback (most recent call last)" in text:
        return Read(level, tuple(text.replace("\\n", "\n").split("\n")), log=True)
    return Read(level, (text,))


def entry(text: str) -> Read | None:
    """Read an entry of a structured log; None if the text is no such thing."""
    if not (text.startswith("{") and text.endswith("}") and (inner := _from_json(text))):
        return None
    level, words, log = inner
    lines = tuple(words.split("\n"))
    if log or len(lines) > 1:
        return Read(level, lines, log)
    within = read(words)
    return within if within.level else Read(level, within.lines, within.log)


def _without_prefix(text: str) -> tuple[int, str]:
    level = 0
    if match := _EVENT.match(text):
        return (ERROR if match[1] == "Warning" else 20), text[match.end() :]
    for _ in range(10):
        bare = text.lstrip(" \t")  # columns are padded; but what is left keeps its indentation
        if match := _TIME.match(bare):
            text = bare[match.end() :]
            if bare[0].isalpha() and (host := _SYSLOG.match(text)):
                text = text[host.end() :]
        elif match := _NAMES.match(bare):
            text = bare[match.end() :]
            if level == ERROR and match[0].startswith("workerpool"):
                level = 0  # what Vertex AI says of all that comes from standard error
        elif match := _GLOG.match(bare):
            level, text = _LETTERS[match[1]], bare[match.end() :]
        elif match := _SHORT_LEVEL.match(bare):
            level, text = _SHORT[match[1]], bare[match.end() :]
        elif match := _LEVEL.match(bare):
            level, text = LEVELS[match[1]], bare[match.end() :]
            if after := _LOGGER.match(text.lstrip(" ")):
                text = text.lstrip(" ")[after.end() :]
        elif match := _SOFT_LEVEL.match(bare):
            level, text = LEVELS[match[1].upper()], bare[match.end() :]
        elif match := _NAMED_LEVEL.match(bare):
            level, text = LEVELS[match[1]], bare[match.end() :]
        else:
            break
    return level, text


def _from_json(text: str) -> tuple[int, str, bool] | None:
    """Return level and message of a structured log entry, and whether the message is itself a log.

    None if the object is no such thing."""
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict):
        return None
    said = str(entry.get("severity") or entry.get("level") or entry.get("levelname") or "")
    message = _message(entry, inside=False)
    level = LEVELS.get(said.upper(), 0)
    if level == ERROR and "textPayload" in entry:
        level = 0  # so Google calls all that comes from standard error
    return (level, message, "\\n" in text) if message else None


_ENTRY = {"severity", "level", "levelname", "textPayload", "jsonPayload", "protoPayload"}


def _message(entry: dict[str, object], *, inside: bool) -> str:
    """The words of an entry: what a person would read of it, errors and reasons with them."""
    found = []
    for key in ("textPayload", "message", "msg", "methodName", "reason"):
        if isinstance(value := entry.get(key), str):
            found.append(value)
    for key in ("jsonPayload", "protoPayload", "status"):
        if isinstance(value := entry.get(key), dict):
            found.append(_message(value, inside=True))
    is_entry = inside or not _ENTRY.isdisjoint(entry)
    for key in ("error", "err", "exception", "exc_info", "stack_trace"):
        if isinstance(value := entry.get(key), str):
            found.append(value)
        elif value and is_entry:
            found.append(json.dumps(value))
    return "\n".join(part for part in found if part) if is_entry or found else ""


def _from_pairs(text: str) -> tuple[int, str] | None:
    pairs = {key: value.strip('"') for key, value in _PAIR.findall(text)}
    message = " ".join(pairs[key] for key in ("msg", "message", "error", "err") if key in pairs)
    if "level" not in pairs or not message:
        return None
    return LEVELS.get(pairs["level"].upper(), 0), message.replace('\\"', '"')
