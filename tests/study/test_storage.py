"""Answers that survive: one transaction each, the first stands, a stopped session goes on where it was."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from ssl_colorize.errors import UserError
from ssl_colorize.study.protocol import Pair
from ssl_colorize.study.storage import Store, Times, UnknownPair

PAIRS = [Pair("practice", "a.jpg", True), Pair("counted", "b.jpg", False), Pair("vigilance", "c.jpg", True)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "study.sqlite", create=True)


def token_of(store: Store, secret: str) -> str:
    standing = store.standing(secret)
    assert standing is not None and standing.token is not None
    return standing.token


def answer_all(store: Store, secret: str, *, picked_first: bool = True) -> None:
    while (standing := store.standing(secret)) is not None and standing.token is not None:
        store.answer(secret, standing.token, picked_first=picked_first, times=Times())


def test_pairs_come_in_order_and_answers_are_kept(store: Store) -> None:
    secret = store.begin(["full"], PAIRS, Random(0))
    for place, pair in enumerate(PAIRS):
        standing = store.standing(secret)
        assert standing is not None and standing.place == place
        assert store.fetch(secret, token_of(store, secret)) == ("full", pair)
        store.answer(secret, token_of(store, secret), picked_first=False, times=Times(1000.5, 1001, 740))
    done = store.standing(secret)
    assert done is not None and (done.place, done.token, done.following) == (3, None, None)
    (session,) = store.sessions()
    assert session.method == "full" and session.finished
    assert [one.right for one in session.answers] == [False, True, False]
    assert session.answers[0].times == Times(1000.5, 1001, 740) and session.answers[0].fetched == 1


def test_the_first_answer_stands(store: Store) -> None:
    secret = store.begin(["full"], PAIRS, Random(0))
    token = token_of(store, secret)
    first = store.answer(secret, token, picked_first=True, times=Times(took=5))
    assert store.answer(secret, token, picked_first=False, times=Times(took=9)) == first
    assert [one.picked_first for one in store.sessions()[0].answers] == [True]


def test_only_the_pair_whose_turn_it_is_can_be_answered_and_one_more_seen(store: Store) -> None:
    secret, other = (store.begin(["full"], PAIRS, Random(0)) for _ in range(2))
    standing = store.standing(secret)
    assert standing is not None and standing.token is not None and standing.following is not None
    store.fetch(secret, standing.following)
    with pytest.raises(UnknownPair):
        store.answer(secret, standing.following, picked_first=True, times=Times())
    for wrong in (other, None, "guess"):
        with pytest.raises(UnknownPair):
            store.fetch(wrong, standing.token)
        with pytest.raises(UnknownPair):
            store.answer(wrong, standing.token, picked_first=True, times=Times())
    answer_all(store, secret)
    with pytest.raises(UnknownPair):  # over: its photos are not to be looked at again
        store.fetch(secret, standing.token)
    assert [len(session.answers) for session in store.sessions()] == [3, 0]


def test_methods_stay_in_balance(store: Store) -> None:
    chance = Random(0)
    for _ in range(10):
        answer_all(store, store.begin(["a", "b", "c"], PAIRS, chance))
    assert sorted(Counter(session.method for session in store.sessions()).values()) == [3, 3, 4]


def test_an_abandoned_session_leaves_its_method_to_the_next(store: Store, tmp_path: Path) -> None:
    store.begin(["a"], PAIRS, Random(0))
    answer_all(store, store.begin(["b"], PAIRS, Random(0)))
    # Both have one while the first may still come back; later only b has.
    assert {store.choose_method(["a", "b"], Random(seed)) for seed in range(20)} == {"a", "b"}
    with sqlite3.connect(tmp_path / "study.sqlite") as database:
        database.execute("UPDATE sessions SET begun = begun - 4000")
    assert {store.choose_method(["a", "b"], Random(seed)) for seed in range(20)} == {"a"}


def test_a_killed_process_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    path = tmp_path / "study.sqlite"
    code = f"""
import os
from pathlib import Path
from random import Random
from ssl_colorize.study.protocol import Pair
from ssl_colorize.study.storage import Store, Times
store = Store(Path({str(path)!r}), create=True)
secret = store.begin(["full"], [Pair("counted", str(n), True) for n in range(5)], Random(0))
print(secret, flush=True)
for _ in range(2):
    store.answer(secret, store.standing(secret).token, picked_first=True, times=Times())
store._database.execute("BEGIN IMMEDIATE")
store._database.execute("INSERT INTO answers VALUES (?, 1, 0, 0, 0, 0)", (store.standing(secret).token,))
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    again = Store(path, create=True)
    standing = again.standing(done.stdout.strip())
    assert standing is not None and standing.place == 2, "two answers were given, the third was cut short"
    assert len(again.sessions()[0].answers) == 2


def test_what_is_no_study_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no study\.sqlite"):
        Store(tmp_path / "study.sqlite")
    (tmp_path / "study.sqlite").write_bytes(os.urandom(4096))
    with pytest.raises(UserError, match=r"study\.sqlite"):
        Store(tmp_path / "study.sqlite")
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE x (y)")
        database.execute("PRAGMA user_version = 7")
    with pytest.raises(UserError, match="not written by this version"):
        Store(other, create=True)


def test_studies_have_names_of_their_own(tmp_path: Path) -> None:
    first, second = (Store(tmp_path / name, create=True).study for name in ("a.sqlite", "b.sqlite"))
    assert first != second and Store(tmp_path / "a.sqlite").study == first
