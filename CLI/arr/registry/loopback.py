"""The embedded registry's settings, its port, and the sign by which it is known on that port."""

from __future__ import annotations

import hashlib
import http.client
import json
import secrets
import socket
from pathlib import Path

_NAME_HEADER = "X-Arr-Registry"
_TIMEOUT = 2.0  # seconds
_FIRST_PORT, _PORTS = 20000, 10000  # below the range from which systems give ports away


def config_text(port: int, name: str, data: Path) -> str:
    """docker-registry's configuration (YAML, of which JSON is a part); `name` marks its answers."""
    config = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            # No cache of blob descriptors: a garbage collection would leave it telling lies.
            "filesystem": {"rootdirectory": str(data)},
            "delete": {"enabled": True},
            # An upload that broke off keeps its space: docker-registry lets no client close it.
            "maintenance": {
                "uploadpurging": {"enabled": True, "age": "24h", "interval": "1h", "dryrun": False}
            },
        },
        "validation": {"disabled": True},
        "http": {
            "addr": f"127.0.0.1:{port}",
            "relativeurls": True,
            "secret": secrets.token_hex(32),
            "headers": {_NAME_HEADER: [name], "X-Content-Type-Options": ["nosniff"]},
        },
    }
    return json.dumps(config, indent=2)


def port_for(folder: Path) -> int:
    """The port for a folder, noted there: the noted one, else its usual one, else a free one.

    Image references hold the port, so it changes only when another program has taken it.
    """
    note = folder / "port"
    usual = _FIRST_PORT + int(hashlib.sha256(str(folder).encode()).hexdigest(), 16) % _PORTS
    try:
        noted = int(note.read_text(encoding="ascii"))
    except (OSError, ValueError):
        noted = usual
    port = next(free for wanted in (noted, usual, 0) if (free := _bindable(wanted)))
    note.write_text(str(port), encoding="ascii")
    return port


def _bindable(port: int) -> int:
    """The port if it is free, a free one for 0; 0 if it is taken or no port at all."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as docker-registry does
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return 0
        return int(probe.getsockname()[1])


def answers(port: int, name: str) -> bool:
    """Whether the registry of that name answers on the port."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)
    try:
        connection.request("GET", "/v2/")
        response = connection.getresponse()
        return response.status == 200 and response.getheader(_NAME_HEADER) == name
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
