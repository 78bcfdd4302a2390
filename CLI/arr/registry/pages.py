"""A list that the registry gives in pages (specification: "Listing Tags")."""

from __future__ import annotations

import re
from urllib.parse import urljoin

import httpx2

from arr.errors import RegistryError
from arr.registry.content import read_object
from arr.registry.exchange import Ask
from arr.registry.wire import Wire

_NEXT = re.compile(r'<([^<>]*)>\s*;[^,<]*\brel\s*=\s*"?next\b', re.IGNORECASE)
_MOST_PAGES = 10_000


def pages(wire: Wire, url: str, scope: str, key: str) -> list[str]:
    """The strings under `key` of all pages from `url` on, in the order in which they came."""
    found: list[str] = []
    seen: set[str] = set()
    while url not in seen and len(seen) < _MOST_PAGES:
        seen.add(url)
        answer = wire.send(Ask("GET", url, scope))
        where = f"GET {answer.url}"
        entries = read_object(answer.body, where).get(key) or []
        if not isinstance(entries, list) or not all(isinstance(one, str) for one in entries):
            raise RegistryError(f"{where}: {key} is not a list of names")
        found += entries
        link = _NEXT.search(answer.headers.get("link", ""))
        if link is None:
            return found
        following = urljoin(url, link[1])
        if httpx2.URL(following).origin != httpx2.URL(url).origin:
            raise RegistryError(f"{where}: its next page is at another host")
        url = following
    raise RegistryError(f"GET {url.partition('?')[0]}: its pages have no end")
