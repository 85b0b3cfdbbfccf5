"""The study through HTTP: a session from begin to end, and nothing in its traffic that tells real from recolored."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette")

from starlette.testclient import TestClient
from study_photos import SHORT

from ssl_colorize.study.pictures import PHOTO_BYTES, Pictures, picture_path
from ssl_colorize.study.server import Study, create_app
from ssl_colorize.study.storage import Store


@pytest.fixture
def study(prepared: Pictures, tmp_path: Path) -> Iterator[Study]:
    store = Store(tmp_path / "study.sqlite", create=True)
    yield Study(store, prepared, SHORT, contact="Ada", chance=Random(1))
    store.close()


@pytest.fixture
def client(study: Study) -> TestClient:
    return TestClient(create_app(study))


def answer(client: TestClient, state: dict[str, Any], picked: str, **more: Any) -> Any:
    return client.post(f"/pairs/{state['pair']}", json={"picked": picked, **more})


def finish(client: TestClient, state: dict[str, Any]) -> dict[str, Any]:
    while "pair" in state:
        state = answer(client, state, "first").json()["state"]
    return state


def test_a_session_from_begin_to_end(client: TestClient, study: Study) -> None:
    assert client.get("/state").json() == {
        "stage": "welcome", "practice": 2, "trials": 10, "photo_ms": 200, "pause_ms": 50, "contact": "Ada",
    }  # fmt: skip
    state = client.post("/begin", json={}).json()
    seen = []
    while "pair" in state:
        seen.append((state["stage"], state["place"]))
        assert client.get("/state").json() == state, "a reload shows the same pair"
        content = answer(client, state, "second", first_ms=200.1, second_ms=199.8, took_ms=900).json()
        assert (content["feedback"] is not None) == (state["stage"] == "practice")
        state = content["state"]
    assert seen == [("practice", 1), ("practice", 2), *(("trials", place) for place in range(1, 11))]
    (session,) = study.store.sessions()
    assert session.finished and not any(one.picked_first for one in session.answers)
    assert state["stage"] == "end"
    assert state["right"] == sum(one.right for one in session.answers[2:])


def test_feedback_is_true_and_only_after_the_answer(client: TestClient, study: Study) -> None:
    state = client.post("/begin", json={}).json()
    said = answer(client, state, "first").json()["feedback"]
    one = study.store.sessions()[0].answers[0]
    assert said == {"right": one.real_first, "real": "first" if one.real_first else "second"}
    # Asked again, as after a lost response: the same, even with another answer.
    assert answer(client, state, "second").json()["feedback"] == said


def test_photos_are_those_of_the_pair_in_order(client: TestClient, study: Study, study_folder: Path) -> None:
    state = client.post("/begin", json={}).json()
    for _ in range(12):
        content = client.get(f"/pairs/{state['pair']}").content
        real, other = content[:PHOTO_BYTES], content[PHOTO_BYTES:]
        state = answer(client, state, "first").json()["state"]
        one = study.store.sessions()[0].answers[-1]
        truth = picture_path(study_folder / "run" / "photos" / "truth", one.photo)
        expected = np.asarray(Image.open(truth)).tobytes()
        assert (real if one.real_first else other) == expected
        assert (other if one.real_first else real) != expected


def test_traffic_before_an_answer_tells_nothing(study: Study) -> None:
    """Over sessions of all methods: nothing a participant receives goes with the truth, the kind or the method."""
    received: list[tuple[Any, ...]] = []
    kinds: set[tuple[bool, str, str]] = set()
    texts = ""
    for _ in range(6):
        client = TestClient(create_app(study))
        responses = [client.get(f"/{name}") for name in ("", "style.css", "page.js", "state")]
        state = (begun := client.post("/begin", json={})).json()
        responses.append(begun)
        while "pair" in state:
            photos = client.get(f"/pairs/{state['pair']}")
            answered = answer(client, state, "first")
            number = len(study.store.sessions()) - 1
            one = study.store.sessions()[number].answers[-1]
            kinds.add((one.real_first, one.kind, study.store.sessions()[number].method))
            received.append((photos.status_code, sorted(photos.headers.items()), len(photos.content),
                             sorted(state), len(state["pair"])))  # fmt: skip
            if state["stage"] == "trials" and "pair" in answered.json()["state"]:
                shape = {**answered.json()["state"], "pair": "", "following": "", "place": 0}
                received.append((answered.json()["feedback"], json.dumps(shape), sorted(set(answered.headers))))
            responses.append(answered)
            state = answered.json()["state"]
        texts += "".join(response.text + str(response.headers) for response in responses)
    assert len(kinds) == 2 * 3 * 2, "both orders of all kinds and methods were met"
    photos_seen = {repr(each[:3]) for each in received if each[0] == 200}
    assert len(photos_seen) == 1, photos_seen
    assert "etag" not in photos_seen.pop().lower()
    assert len({repr(each[1:]) for each in received if each[0] is None}) == 1, (
        "answers that count are acknowledged alike"
    )
    for word in (*study.pictures.names, "vigilance", "counted", "random", "photo0", "real_first"):
        assert word not in texts, word
    # "gray" may be said of the page's own look only in its style sheet: neither there nor elsewhere.
    assert "gray" not in texts


def test_only_the_feedback_of_practice_names_the_real_one(client: TestClient) -> None:
    state = client.post("/begin", json={}).json()
    bodies = {"practice": "", "trials": ""}
    while "pair" in state:
        response = answer(client, state, "first")
        bodies[state["stage"]] += response.text if response.json()["state"]["stage"] != "end" else ""
        state = response.json()["state"]
    assert '"real"' in bodies["practice"] and '"right"' in bodies["practice"]
    assert not re.search("real|right|true|false", bodies["trials"])


def test_a_new_server_on_the_same_file_goes_on_at_the_same_pair(
    client: TestClient, study: Study, tmp_path: Path
) -> None:
    state = client.post("/begin", json={}).json()
    state = answer(client, state, "first").json()["state"]
    again = Store(tmp_path / "study.sqlite", create=True)
    other = TestClient(create_app(Study(again, study.pictures, SHORT, contact="Ada")), cookies=dict(client.cookies))
    assert other.get("/state").json() == state
    assert finish(other, state)["stage"] == "end"
    again.close()


def test_begin_goes_on_unless_another_participant_takes_over(client: TestClient, study: Study) -> None:
    state = client.post("/begin", json={}).json()
    assert client.post("/begin", json={"again": True}).json() == state, "not while a session is open"
    finish(client, state)
    assert client.post("/begin", json={}).json()["stage"] == "end"
    assert client.post("/begin", json={"again": True}).json()["stage"] == "practice"
    assert len(study.store.sessions()) == 2


def test_what_does_not_belong_is_refused(client: TestClient, study: Study) -> None:
    state = client.post("/begin", json={}).json()
    address = f"/pairs/{state['pair']}"
    stranger = TestClient(create_app(study))
    assert stranger.get(address).status_code == 404
    assert stranger.post(address, json={"picked": "first"}).status_code == 404
    assert client.get("/pairs/guess").status_code == 404
    assert client.post(f"/pairs/{state['following']}", json={"picked": "first"}).status_code == 404
    assert client.post(address, json={"picked": "third"}).status_code == 400
    assert client.post(address, json=["first"]).status_code == 400
    assert client.post(address, content="{", headers={"content-type": "application/json"}).status_code == 400
    # A form on another site can send this, and a cookie might go with it.
    assert client.post(address, data={"picked": "first"}).status_code == 415
    assert client.post(address, json={"picked": "first", "x": "y" * 2000}).status_code == 413
    assert client.get("/photos/truth/x.png").status_code == 404
    assert study.store.sessions()[0].answers == ()


def test_times_that_are_none_are_not_kept(client: TestClient, study: Study) -> None:
    state = client.post("/begin", json={}).json()
    answer(client, state, "first", first_ms="1000", second_ms=-1, took_ms=True)
    assert set(vars(study.store.sessions()[0].answers[0].times).values()) == {None}


def test_the_cookie_is_not_for_scripts_nor_for_other_sites(client: TestClient) -> None:
    cookie = client.post("/begin", json={}).headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert client.get("/").headers["content-security-policy"].startswith("default-src 'none'")
