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
}  # fmt: skip
WARNING, ERROR = 30, 40
_LETTERS = {"I": 20, "W": 30, "E": 40, "F": 50}

_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]{0,32}[ -/]{0,8}[@-~]|\][^\x07\x1b]{0,512}(?:\x07|\x1b\\)?|.)"
)
_CONTROLS = {code: None for code in range(32) if chr(code) not in "\t\n"}

_TIME = re.compile(
    r"[\[(]?(?:\d{4}[-/]\d\d[-/]\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d{1,9})?)?"
    r"|\d\d:\d\d:\d\d(?:[.,]\d{1,9})?|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:Z|\.\d{1,9})?)"
    r"(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?[\])]?:?(?: [-|] | |(?=\[)|$)"
)
_GLOG = re.compile(r"([IWEF])\d{4} \d\d:\d\d:\d\d\.\d{1,9} {1,8}\d{1,9} [^\]\n]{1,80}\] ?")
_LEVEL = re.compile(
    r"[\[<(]?(TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|ERR|SEVERE|FATAL|CRITICAL|PANIC|ALERT"
    r"|EMERGENCY)(?:[\])>]:? ?| {0,2}[|:-] ?| |$)"
)
_SOFT_LEVEL = re.compile(
    r"\[?(error|warning|info|debug|fatal|Error|Warning|Info|Fatal)(?:\]:?|:) ?"
)
_NAMED_LEVEL = re.compile(
    r"(?:- )?(?:[\w.-]{1,60} [-|] (?:[\w.-]{1,40} [-|] )?|\[[\w.-]{1,60}\] ?\[?)"
    r"(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b\]?(?: ?[-|:])? ?"
)
# After a level: the logger of `logging`'s own format, or the thread and the place of wandb's.
_LOGGER = re.compile(
    r"(?:[a-z_][\w.-]{0,80}:(?=\S)(?!//)|\S{1,40} {0,2}:\d{1,9} \[[^\]]{1,120}\] ?)"
)
_EVENT = re.compile(
    r"\s{0,8}(?:\d{1,4}[smhd]\w{0,8}\s{1,16})?(Normal|Warning)\s{1,16}"
    r"(?:Failed\w{0,20}|BackOff|OOMKilling|Evicted|Preempt\w{1,6}|Unhealthy|Inspect\w{1,8}|Pull\w{1,4})"
    r"\s{1,40}(?:\d{1,4}[smhd]\S{0,20} (?:\([^)]{1,40}\))?\s{0,40})?"
)
_SYSLOG = re.compile(r"[\w.-]{1,64} [\w./-]{1,40}(?:\[\d{1,9}\])?: ")
_NAMES = re.compile(
    r"wandb: ?|launch: |(?:stdout|stderr) [FP] |Step #\d{1,3}(?: - \"[^\"]{1,60}\")?: "
    r"|(?:service|workerpool\d{1,3}-\d{1,3})(?: {2,8}(?=\S)| )|\[(?:rank|default)?\d{1,4}\]: ?"
    r"|\([\w]{0,40} ?pid=\d{1,9}(?:, ip=[\d.]{1,20})?\) |\[ {0,6}\d{1,9}\.\d{1,9}\] |<\d> ?|[│┃] "
)
_PAIR = re.compile(r'(?:^| )(level|msg|error|err|message)=("(?:[^"\\]|\\.){0,4000}"|\S{1,4000})')


@dataclass(frozen=True, slots=True)
class Read:
    """The message of a line; `level` is 0 where none is said. `lines` is more than one if the
    message was written into one line of JSON."""

    level: int
    lines: tuple[str, ...]

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
    if text.startswith("{") and text.endswith("}") and (inner := _from_json(text)):
        said, text = inner
        parts = text.split("\n")
        deeper, first = _without_prefix(parts[0])
        return Read(deeper or said or level, (first, *parts[1:]))
    if ("level=" in text or "msg=" in text) and (inner := _from_pairs(text)):
        return Read(inner[0] or level, (inner[1],))
    if "\\n" in text and "Traceback (most recent call last)" in text:
        return Read(level, tuple(text.replace("\\n", "\n").split("\n")))
    return Read(level, (text,))


def _without_prefix(text: str) -> tuple[int, str]:
    level = 0
    if match := _EVENT.match(text):
        return (ERROR if match[1] == "Warning" else 20), text[match.end() :]
    for _ in range(10):
        bare = text.lstrip(" ")  # columns are padded; but what is left keeps its indentation
        if match := _TIME.match(bare):
            text = bare[match.end() :]
            if bare[0].isalpha() and (host := _SYSLOG.match(text)):
                text = text[host.end() :]
        elif match := _NAMES.match(bare):
            text = bare[match.end() :]
        elif match := _GLOG.match(bare):
            level, text = _LETTERS[match[1]], bare[match.end() :]
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


def _from_json(text: str) -> tuple[int, str] | None:
    """Return level and message of a structured log entry; None if the object is no such thing."""
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict):
        return None
    said = str(entry.get("severity") or entry.get("level") or entry.get("levelname") or "")
    message = _message(entry)
    return (LEVELS.get(said.upper(), 0), message) if message else None


def _message(entry: dict[str, object]) -> str:
    """The words of an entry: what a person would read of it, errors and reasons with them."""
    found = []
    for key in ("textPayload", "message", "msg", "methodName", "reason"):
        if isinstance(value := entry.get(key), str):
            found.append(value)
    for key in ("jsonPayload", "protoPayload", "status"):
        if isinstance(value := entry.get(key), dict):
            found.append(_message(value))
    is_entry = {"severity", "level", "levelname", "textPayload", "jsonPayload", "protoPayload"}
    for key in ("error", "err", "exception", "exc_info", "stack_trace"):
        if isinstance(value := entry.get(key), str):
            found.append(value)
        elif value and is_entry & entry.keys():
            found.append(json.dumps(value))
    return "\n".join(part for part in found if part) if is_entry & entry.keys() or found else ""


def _from_pairs(text: str) -> tuple[int, str] | None:
    pairs = {key: value.strip('"') for key, value in _PAIR.findall(text)}
    message = " ".join(pairs[key] for key in ("msg", "message", "error", "err") if key in pairs)
    if "level" not in pairs or not message:
        return None
    return LEVELS.get(pairs["level"].upper(), 0), message.replace('\\"', '"')
