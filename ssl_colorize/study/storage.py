"""The study's one file of record: sessions, the pairs they are shown, and the answers, in SQLite.

A session is planned when it begins, and everything it will be shown is written down then; an answer is one
transaction. So a browser that reloads, or a server that was killed and started again, goes on at the same pair.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from ssl_colorize.errors import UserError
from ssl_colorize.study.protocol import Kind, Pair

DATABASE = "study.sqlite"

_VERSION = 1
_SCHEMA = f"""
CREATE TABLE study (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE sessions (
    session INTEGER PRIMARY KEY,
    secret TEXT NOT NULL UNIQUE,     -- what the participant's cookie holds
    method TEXT NOT NULL,
    begun REAL NOT NULL              -- seconds since 1970
) STRICT;
CREATE TABLE pairs (
    token TEXT PRIMARY KEY,          -- the pair's name to the outside, which says nothing
    session INTEGER NOT NULL REFERENCES sessions,
    place INTEGER NOT NULL,          -- from 0
    kind TEXT NOT NULL,              -- practice, counted, vigilance
    photo TEXT NOT NULL,
    real_first INTEGER NOT NULL,
    fetched INTEGER NOT NULL DEFAULT 0,  -- how often its photos were asked for: more than once after a reload
    UNIQUE (session, place)
) STRICT;
CREATE TABLE answers (
    token TEXT PRIMARY KEY REFERENCES pairs,
    picked_first INTEGER NOT NULL,   -- taken for real
    answered REAL NOT NULL,          -- seconds since 1970
    first_ms REAL,                   -- how long the photos were shown, as the page measured it
    second_ms REAL,
    took_ms REAL                     -- from the question to the answer
) STRICT;
PRAGMA user_version = {_VERSION};
"""

_OPEN_PAIRS = """
SELECT pairs.* FROM pairs JOIN sessions USING (session) LEFT JOIN answers USING (token)
WHERE secret = ? AND answers.token IS NULL ORDER BY place LIMIT 2
"""

# Who began, or answered, within this many seconds may still finish and counts for the balance between methods.
_PATIENCE = 3600.0
_BALANCE = """
SELECT method, COUNT(*) FROM sessions AS one
WHERE begun > :since
   OR EXISTS (SELECT * FROM pairs JOIN answers USING (token) WHERE session = one.session AND answered > :since)
   OR NOT EXISTS (SELECT * FROM pairs LEFT JOIN answers USING (token)
                  WHERE session = one.session AND answers.token IS NULL)
GROUP BY method
"""


class UnknownPair(Exception):
    """No such pair in this session, or it is not its turn yet."""


@dataclass(frozen=True)
class Standing:
    """How far a session is.

    Attributes:
        session: its number.
        place: of the pair to answer now, from 0; the number of pairs when all are answered.
        token: of that pair; None when all are answered.
        following: token of the pair after it.
    """

    session: int
    place: int
    token: str | None
    following: str | None


@dataclass(frozen=True)
class Times:
    """What the page measured, in milliseconds; None where it did not say."""

    first: float | None = None
    second: float | None = None
    took: float | None = None


@dataclass(frozen=True)
class Answer:
    """One pair of a session, with its answer."""

    place: int
    kind: Kind
    photo: str
    real_first: bool
    picked_first: bool
    fetched: int
    times: Times

    @property
    def right(self) -> bool:
        """Whether the real photo was taken for the real one."""
        return self.real_first == self.picked_first


@dataclass(frozen=True)
class Session:
    """One participant: the method, and what was answered of `pairs` pairs."""

    number: int
    method: str
    pairs: int
    answers: tuple[Answer, ...]

    @property
    def finished(self) -> bool:
        """Whether every pair is answered."""
        return len(self.answers) == self.pairs


class Store:
    """The database of a study. One thread at a time; several processes may have it open."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Open a study's database, or make it.

        Raises:
            UserError: it is not there, or is none of this kind.
        """
        if not create and not path.is_file():
            raise UserError(f"{path.parent} holds no {DATABASE}: give the folder of a `ssl-colorize study serve` run.")
        try:
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
            self._database.row_factory = sqlite3.Row
            # Each answer is on the disk before the page hears of it, and `study report` may read meanwhile.
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.execute("PRAGMA foreign_keys = ON")
            self._prepare(path, create=create)
        except sqlite3.Error as error:
            raise UserError(f"Cannot use {path} as a study's database: {error}.") from None

    def _prepare(self, path: Path, *, create: bool) -> None:
        version = self._database.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and create:
            self._database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
            self._database.execute("INSERT INTO study VALUES ('id', ?)", (secrets.token_hex(4),))
        elif version != _VERSION:
            raise UserError(f"{path} was not written by this version's `ssl-colorize study serve`.")

    def close(self) -> None:
        """Close the database; what was answered is in it already."""
        self._database.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield self._database
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    @property
    def study(self) -> str:
        """A name that tells this study from others: cookies of all ports of a machine are in one jar."""
        return str(self._database.execute("SELECT value FROM study WHERE key = 'id'").fetchone()[0])

    # ---- a participant ----------------------------------------------------------------------------------------------

    def choose_method(self, methods: Sequence[str], chance: Random) -> str:
        """The method that fewest sessions have; those abandoned do not count, and a tie is drawn."""
        counts = dict(tuple(row) for row in self._database.execute(_BALANCE, {"since": time.time() - _PATIENCE}))
        fewest = min(counts.get(method, 0) for method in methods)
        return chance.choice([method for method in methods if counts.get(method, 0) == fewest])

    def begin(self, methods: Sequence[str], pairs: Sequence[Pair], chance: Random) -> str:
        """Write down a new session, and return its secret."""
        secret = secrets.token_urlsafe(24)
        with self._transaction() as database:
            method = self.choose_method(methods, chance)
            number = database.execute(
                "INSERT INTO sessions (secret, method, begun) VALUES (?, ?, ?)", (secret, method, time.time())
            ).lastrowid
            database.executemany(
                "INSERT INTO pairs (token, session, place, kind, photo, real_first) VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (secrets.token_urlsafe(16), number, place, pair.kind, pair.photo, pair.real_first)
                    for place, pair in enumerate(pairs)
                ],
            )
        return secret

    def standing(self, secret: str | None) -> Standing | None:
        """How far the session is; None for a secret that is not known."""
        known = self._database.execute(
            "SELECT session, COUNT(*) FROM sessions JOIN pairs USING (session) WHERE secret = ? GROUP BY session",
            (secret,),
        ).fetchone()
        if known is None:
            return None
        left = self._database.execute(_OPEN_PAIRS, (secret,)).fetchall()
        tokens = [row["token"] for row in left] + [None, None]
        return Standing(known[0], left[0]["place"] if left else known[1], tokens[0], tokens[1])

    def fetch(self, secret: str | None, token: str) -> tuple[str, Pair]:
        """The method and the pair behind a token, to show it: the one to answer now, or the one after it.

        Raises:
            UnknownPair: it is neither.
        """
        with self._transaction() as database:
            row = next((row for row in database.execute(_OPEN_PAIRS, (secret,)) if row["token"] == token), None)
            if row is None:
                raise UnknownPair(token)
            database.execute("UPDATE pairs SET fetched = fetched + 1 WHERE token = ?", (token,))
            method = database.execute("SELECT method FROM sessions WHERE session = ?", (row["session"],)).fetchone()[0]
        return method, Pair(row["kind"], row["photo"], bool(row["real_first"]))

    def answer(self, secret: str | None, token: str, *, picked_first: bool, times: Times) -> Answer:
        """Write an answer down and return it. The first one stands: a repeated request changes nothing.

        Raises:
            UnknownPair: the pair is of another session, or has its turn later.
        """
        with self._transaction() as database:
            waiting = database.execute(_OPEN_PAIRS, (secret,)).fetchone()
            if waiting is not None and waiting["token"] == token:
                database.execute(
                    "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?)",
                    (token, picked_first, time.time(), times.first, times.second, times.took),
                )
            row = database.execute(
                "SELECT * FROM answers JOIN pairs USING (token) JOIN sessions USING (session) "
                "WHERE secret = ? AND token = ?", (secret, token)
            ).fetchone()  # fmt: skip
        if row is None:
            raise UnknownPair(token)
        return _answer(row)

    # ---- the record -------------------------------------------------------------------------------------------------

    def session(self, number: int) -> Session:
        """One session."""
        method, count = self._database.execute(
            "SELECT method, COUNT(*) FROM sessions JOIN pairs USING (session) WHERE session = ?", (number,)
        ).fetchone()
        answers = self._database.execute(
            "SELECT * FROM answers JOIN pairs USING (token) WHERE session = ? ORDER BY place", (number,)
        )
        return Session(number, method, count, tuple(map(_answer, answers)))

    def sessions(self) -> list[Session]:
        """Every session that was begun, by its number, with its answers in order."""
        numbers = self._database.execute("SELECT session FROM sessions ORDER BY session").fetchall()
        return [self.session(number) for (number,) in numbers]


def _answer(row: sqlite3.Row) -> Answer:
    return Answer(
        place=row["place"],
        kind=row["kind"],
        photo=row["photo"],
        real_first=bool(row["real_first"]),
        picked_first=bool(row["picked_first"]),
        fetched=row["fetched"],
        times=Times(row["first_ms"], row["second_ms"], row["took_ms"]),
    )
