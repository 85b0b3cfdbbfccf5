"""The study's page in a real browser: headless Chromium, driven by Playwright, on a server of its own process.

Chromium is looked for on PATH, or at $SSL_COLORIZE_CHROMIUM; without it or Playwright these tests are skipped, and the
server's own tests remain.
"""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from study_photos import SHORT, save_photos

from ssl_colorize.study.pictures import PHOTO_BYTES, picture_path
from ssl_colorize.study.storage import DATABASE, Store

pytest.importorskip("starlette")
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = os.environ.get("SSL_COLORIZE_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
if CHROMIUM is None:
    pytest.skip("no Chromium on PATH nor at $SSL_COLORIZE_CHROMIUM", allow_module_level=True)

# Keeps what the page draws, since catching it in time is not possible on a busy machine.
KEEP_DRAWN = """
window.drawn = [];
const draw = CanvasRenderingContext2D.prototype.putImageData;
CanvasRenderingContext2D.prototype.putImageData = function (...given) {
  draw.apply(this, given);
  drawn.push(this.canvas.toDataURL());
};
"""

# Busy machines start a browser, or a server that imports PyTorch, slowly.
PATIENCE = 60


class Server:
    """`ssl-colorize study serve` in a process that can be killed."""

    def __init__(self, folder: Path) -> None:
        self.run = folder / "run"
        self._photos = folder / "photos"
        self._port = "0"
        self.address = ""

    def start(self) -> None:
        """Begin the study, or go on with it at the same address, and wait until it listens."""
        fresh = (str(self._photos), "--method", "gray", "-o", str(self.run), "--practice", str(SHORT.practice),
                 "--trials", str(SHORT.trials), "--set", f"seconds={SHORT.seconds}",
                 "--set", f"pause={SHORT.pause}")  # fmt: skip
        where = ("--resume", str(self.run)) if self.run.exists() else fresh
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ssl_colorize", "study", "serve", *where, "--port", self._port],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stderr is not None
        for line in self._process.stderr:
            found = re.search(r"Open (http://127\.0\.0\.1:(\d+))", line)
            if found:
                self.address, self._port = found[1], found[2]
                return
        raise AssertionError("the server did not begin")

    def kill(self) -> None:
        """As a power cut would."""
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("browser")
    save_photos(folder / "photos")
    server = Server(folder)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        # Containers run as root, where Chromium's sandbox does not.
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=1000 * PATIENCE)
        yield opened
        opened.close()


class Participant:
    """A browser on the study, and everything that it was sent."""

    def __init__(self, browser: Any, server: Server, **device: Any) -> None:
        self.page = browser.new_context(**device).new_page()
        self.page.set_default_timeout(1000 * PATIENCE)
        self.mistakes: list[str] = []
        self.received: list[Any] = []
        self.page.on("pageerror", lambda error: self.mistakes.append(str(error)))
        self.page.on("response", lambda response: self.received.append(response))
        self.page.add_init_script(KEEP_DRAWN)
        self.page.goto(server.address)
        self.page.click("#begin")

    def start(self) -> None:
        """From the page between the parts to the first pair."""
        self.page.wait_for_selector("#ready:not([hidden])")
        self.page.keyboard.press("Enter")

    def asked(self) -> str:
        """Wait until there is something to answer; which pair it is."""
        self.page.wait_for_selector('[data-pick="first"][aria-disabled="false"]')
        return str(self.page.text_content(".progress span"))

    def drawn(self) -> list[np.ndarray]:
        """Every photo that was on the screen, as it was there."""
        return [
            np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB"))
            for address in self.page.evaluate("drawn")
        ]


def test_a_session_by_keyboard_through_a_reload_and_a_killed_server(browser: Any, server: Server) -> None:
    someone = Participant(browser, server)
    page, pressed = someone.page, []
    someone.start()
    for place in range(12):
        if place == 2:
            assert "nothing is told" in page.text_content("#ready .lead:visible")
            someone.start()
        said = someone.asked()
        assert said == (f"Practice pair {place + 1} of 2" if place < 2 else f"Pair {place - 1} of 10")
        if place == 4:
            page.reload()
            page.wait_for_selector("#ready:not([hidden])")
            assert "pair 3 of 10" in page.text_content("#ready .lead")
            someone.start()
            assert someone.asked() == said
        if place == 6:
            server.kill()
        pressed.append("first" if place % 3 else "second")
        page.keyboard.press({"first": ("ArrowLeft", "1"), "second": ("ArrowRight", "2")}[pressed[-1]][place % 2])
        if place < 2:
            page.wait_for_selector(".feedback:not([hidden])")
            assert re.search(r"(Right|Not this time)The (first|second) one was real", page.text_content(".caption"))
            page.keyboard.press("Enter")
        if place == 6:
            page.wait_for_selector("#trouble:not([hidden])")
            server.start()
            assert someone.asked() == "Pair 6 of 10"
            assert page.is_hidden("#trouble")
    page.wait_for_selector("#end:not([hidden])")
    session = Store(server.run / DATABASE).sessions()[0]
    assert [one.picked_first for one in session.answers] == [pick == "first" for pick in pressed]
    assert [one.fetched > 1 for one in session.answers].index(True) in (4, 5), "the reload is on record"
    assert f"in {sum(one.right for one in session.answers[2:])} of 10" in page.text_content("#end .lead")
    # Never shorter than asked but for half a frame of a 60 Hz screen, and with an answer that took some time.
    times = [one.times for one in session.answers]
    assert all((each.first or 0) >= 190 and (each.second or 0) >= 190 and (each.took or 0) > 0 for each in times)
    assert not someone.mistakes


def test_nothing_that_reaches_the_browser_tells_which_is_real(browser: Any, server: Server) -> None:
    someone = Participant(browser, server)
    page = someone.page
    someone.start()
    for place in range(12):
        if place == 2:
            someone.start()
        someone.asked()
        page.keyboard.press("1")
        if place < 2:
            page.wait_for_selector(".feedback:not([hidden])")
            page.keyboard.press("Enter")
    page.wait_for_selector("#end:not([hidden])")
    session = Store(server.run / DATABASE).sessions()[-1]
    photos = [one for one in someone.received if "/pairs/" in one.url and one.request.method == "GET"]
    assert len(photos) == 12, "each pair's photos come once, in one piece"
    # Both orders and all kinds were among them, and no header and no length differs, but for the clock.
    assert {one.real_first for one in session.answers} == {True, False}
    described = {repr([one.status, sorted((k, v) for k, v in one.all_headers().items() if k != "date"), len(one.url),
                       len(one.body())]) for one in photos}  # fmt: skip
    assert len(described) == 1 and len(photos[0].body()) == 2 * PHOTO_BYTES
    texts = "".join(
        one.url + repr(one.all_headers()) + ("" if one in photos else one.text()) for one in someone.received
    )
    for word in ("photo0", "photo1", ".png", "vigilance", "gray", "real_first"):
        assert word not in texts, word
    assert not re.search("vigilance|photo0|gray", page.content())
    # What was on the screen: the truth where it was to be, the recolored photo at the other place.
    drawn = someone.drawn()
    for one, first, second in zip(session.answers, drawn[::2], drawn[1::2], strict=True):
        truth = np.asarray(Image.open(picture_path(server.run / "photos" / "truth", one.photo)))
        assert ((first == truth).all(), (second == truth).all()) == (one.real_first, not one.real_first)


def test_by_touch_on_a_small_phone(browser: Any, server: Server) -> None:
    phone = {"width": 320, "height": 568}
    someone = Participant(browser, server, viewport=phone, has_touch=True, is_mobile=True, device_scale_factor=2)
    page = someone.page
    page.tap("#ready button")
    page.wait_for_function("() => drawn.length === 1")
    page.tap("[data-pick=second]", force=True)  # too early: nothing is to be answered yet
    someone.asked()
    buttons = [page.locator(f"[data-pick={which}]").bounding_box() for which in ("first", "second")]
    assert all(box["width"] >= 100 and box["height"] >= 60 for box in buttons)
    assert all(box["y"] + box["height"] <= 568 for box in buttons), "no scrolling to answer"
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    canvas = page.locator("canvas").bounding_box()
    assert (canvas["width"], canvas["height"]) == (256, 256)
    assert page.evaluate(
        "[...document.querySelectorAll('.keys-only')].every(one => getComputedStyle(one).display === 'none')"
    )
    page.tap("[data-pick=first]")
    page.tap(".feedback button")
    someone.asked()
    answers = Store(server.run / DATABASE).sessions()[-1].answers
    assert [one.picked_first for one in answers] == [True]
