"""What arr remembers of this clone: builds, launches, runs and events, in SQLite under `.arr/`.

Deleting it loses this history and nothing else: what was built is in the registry.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from arr.errors import ArrError

SCHEMA = """
create table builds (
    id integer primary key, launch integer, image text not null, registry text not null,
    repository text not null, tag text not null, fingerprint text not null, commit_id text not null,
    reason text not null, started real not null, seconds real not null, outcome text not null,
    digest text, log text, inputs blob not null);
create index builds_by_image on builds (image, registry, started);
create table launches (
    id integer primary key, started real not null, commit_id text not null, target text not null,
    finished real, outcome text, run text);
create table runs (
    id text primary key, launch integer, image text not null, reference text not null,
    folder text not null, status text not null, settings text not null, created real not null,
    started real, finished real, exit_code integer, fault text not null default '',
    cancel integer not null default 0);
create table events (id integer primary key, launch integer not null, at real not null, body blob);
create table labels (digest text primary key, fingerprint text);
"""
VERSION = 1


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to make an image. `outcome`: built, kept (found in the engine's store, and
    only pushed), failed or interrupted."""

    image: str
    registry: str
    repository: str
    tag: str
    fingerprint: str
    commit_id: str
    reason: str
    started: float
    seconds: float
    outcome: str
    inputs: bytes
    digest: str | None = None
    log: str | None = None
    launch: int | None = None


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One training run. `status`: queued, running, succeeded, failed, cancelled or lost."""

    id: str
    image: str
    reference: str
    folder: str
    status: str
    settings: dict[str, str]
    created: float
    started: float | None = None
    finished: float | None = None
    exit_code: int | None = None
    fault: str = ""
    cancel: bool = False
    launch: int | None = None

    @property
    def over(self) -> bool:
        return self.status not in ("queued", "running")


class State:
    """The database of one clone; safe to use from several threads and several processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.RLock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ".gitignore").write_text("*\n")  # never an untracked file of the clone
            self._db = sqlite3.connect(
                folder / "state.db", timeout=30, check_same_thread=False, isolation_level=None
            )
            self._db.row_factory = sqlite3.Row
            self._prepare()
        except (sqlite3.Error, OSError) as error:
            raise _broken(folder, error) from error

    def _prepare(self) -> None:
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = normal")
        with self._transaction():
            (version,) = self._db.execute("pragma user_version").fetchone()
            if version == 0:
                for statement in SCHEMA.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"pragma user_version = {VERSION}")
        if version > VERSION:
            raise ArrError(
                f"{self.folder}/state.db was written by a newer arr (version {version})",
                "Upgrade arr, or move the folder away: only history is lost.",
            )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.execute("begin immediate")
                yield self._db
                self._db.execute("commit")
            except sqlite3.Error as error:
                self._rollback()
                raise _broken(self.folder, error) from error
            except BaseException:
                self._rollback()
                raise

    def _rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("rollback")

    def _rows(self, sql: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        with self._lock:
            try:
                return self._db.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise _broken(self.folder, error) from error

    def _insert(self, table: str, row: dict[str, Any]) -> int:
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        with self._transaction() as db:
            sql = f"insert into {table} ({names}) values ({marks})"
            return int(db.execute(sql, list(row.values())).lastrowid or 0)

    # Builds

    def add_build(self, build: Build) -> None:
        """Remember one build."""
        self._insert("builds", msgspec.structs.asdict(build))

    def builds(self, image: str, limit: int = 100) -> list[Build]:
        """Return the image's builds, the newest first."""
        rows = self._rows(
            "select * from builds where image = ? order by started desc limit ?", (image, limit)
        )
        return [_build(row) for row in rows]

    def last_built(self, image: str, registry: str) -> Build | None:
        """Return the newest build of the image that reached `registry`."""
        rows = self._rows(
            "select * from builds where image = ? and registry = ? "
            "and outcome in ('built', 'kept') order by started desc limit 1",
            (image, registry),
        )
        return _build(rows[0]) if rows else None

    def usual_seconds(self, image: str) -> float | None:
        """Return the median time of the image's last five builds, None if there was none."""
        rows = self._rows(
            "select seconds from builds where image = ? and outcome = 'built' "
            "order by started desc limit 5",
            (image,),
        )
        times = sorted(row["seconds"] for row in rows)
        return float(times[len(times) // 2]) if times else None

    # Launches and their events

    def start_launch(self, started: float, commit_id: str, target: str) -> int:
        """Remember that a launch began; return its number."""
        return self._insert(
            "launches", {"started": started, "commit_id": commit_id, "target": target}
        )

    def finish_launch(self, launch: int, finished: float, outcome: str, run: str | None) -> None:
        with self._transaction() as db:
            db.execute(
                "update launches set finished = ?, outcome = ?, run = ? where id = ?",
                (finished, outcome, run, launch),
            )

    def add_event(self, launch: int, at: float, body: bytes) -> None:
        self._insert("events", {"launch": launch, "at": at, "body": body})

    # Fingerprints of images by digest: a digest never changes, so neither does what it carries

    def label(self, digest: str) -> str | None:
        """Return the fingerprint label of an image looked at before, None if it was not."""
        rows = self._rows("select fingerprint from labels where digest = ?", (digest,))
        return rows[0]["fingerprint"] if rows else None

    def add_label(self, digest: str, fingerprint: str) -> None:
        with self._transaction() as db:
            db.execute("insert or replace into labels values (?, ?)", (digest, fingerprint))

    # Runs

    def add_run(self, run: Run) -> None:
        row = msgspec.structs.asdict(run)
        row["settings"] = msgspec.json.encode(run.settings).decode()
        self._insert("runs", row)

    def run(self, run: str) -> Run | None:
        rows = self._rows("select * from runs where id = ?", (run,))
        return _run(rows[0]) if rows else None

    def runs(self, limit: int = 1000) -> list[Run]:
        """Return the runs, the newest first."""
        rows = self._rows("select * from runs order by created desc limit ?", (limit,))
        return [_run(row) for row in rows]

    def claim_run(self, started: float) -> Run | None:
        """Take the oldest queued run and mark it running; None if the queue is empty."""
        with self._transaction() as db:
            row = db.execute(
                "update runs set status = 'running', started = ? where id = (select id from runs "
                "where status = 'queued' order by created limit 1) returning *",
                (started,),
            ).fetchone()
        return _run(row) if row else None

    def finish_run(
        self, run: str, status: str, finished: float, exit_code: int | None, fault: str
    ) -> bool:
        """Record how a run ended; False if that was recorded before."""
        with self._transaction() as db:
            done = db.execute(
                "update runs set status = ?, finished = ?, exit_code = ?, fault = ? "
                "where id = ? and status in ('queued', 'running')",
                (status, finished, exit_code, fault, run),
            )
            return done.rowcount == 1

    def ask_cancel(self, run: str) -> None:
        """Ask for the end of a run; who carries it out looks at this."""
        with self._transaction() as db:
            db.execute("update runs set cancel = 1 where id = ?", (run,))

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def __enter__(self) -> State:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _build(row: sqlite3.Row) -> Build:
    return Build(**{key: row[key] for key in row.keys() if key != "id"})  # noqa: SIM118


def _run(row: sqlite3.Row) -> Run:
    values = {key: row[key] for key in row.keys()}  # noqa: SIM118
    values["settings"] = msgspec.json.decode(values["settings"])
    values["cancel"] = bool(values["cancel"])
    return Run(**values)


def _broken(folder: Path, error: BaseException) -> ArrError:
    return ArrError(
        f"the history in {folder}/state.db cannot be used: {error}",
        "If the disk is full, make room. If the file is damaged, remove it: only history is lost.",
    )
