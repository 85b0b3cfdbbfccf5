"""The photos of a study, real and recolored, prepared before the first participant comes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ssl_colorize.color import is_colored, rgb_to_lab
from ssl_colorize.data.images import UnreadablePhoto, read_photo
from ssl_colorize.data.photos import Photos
from ssl_colorize.errors import UserError
from ssl_colorize.runs import write_atomically
from ssl_colorize.study.files import as_tensor, name_hash, picture_path, square, store
from ssl_colorize.study.methods import Method, Random
from ssl_colorize.study.protocol import SIDE, Pair

# Bytes of one photo as it is sent: bare RGB, so that every photo has the same number.
PHOTO_BYTES = SIDE * SIDE * 3

_FOLDER = "photos"
_MANIFEST = "photos.json"
_TRUTH = "truth"
# Beside the methods, whose names cannot begin with a dot.
_VIGILANCE = ".vigilance"

Watch = Callable[[str, int, int], None]


class Pictures:
    """The prepared photos: by name, and as the bytes of a pair."""

    def __init__(self, folder: Path, *, names: Sequence[str], methods: Sequence[str]) -> None:
        self._folder = folder / _FOLDER
        self.names = tuple(names)
        self.methods = tuple(methods)

    @classmethod
    def prepared(cls, folder: Path) -> Pictures | None:
        """Those of a study's folder; None where preparation has not come to its end."""
        manifest = folder / _FOLDER / _MANIFEST
        if not manifest.is_file():
            return None
        content = json.loads(manifest.read_text())
        return cls(folder, names=content["photos"], methods=content["methods"])

    def pair(self, method: str, pair: Pair) -> bytes:
        """Both photos of a pair as bare RGB rows, 2 x PHOTO_BYTES, in the order in which they are shown."""
        recolored = _VIGILANCE if pair.kind == "vigilance" else method
        # Always read in this order: how long it takes cannot depend on which one comes first.
        real, other = (
            np.asarray(read_photo(picture_path(self._folder / each, pair.photo))).tobytes()
            for each in (_TRUTH, recolored)
        )
        return real + other if pair.real_first else other + real


def prepare(
    photos: Photos, methods: Sequence[Method], names: Sequence[str], folder: Path, *, needed: int, watch: Watch,
    say: Callable[[str], None],
) -> Pictures:  # fmt: skip
    """Cut out, recolor and store the photos; what a stopped preparation has stored is not made again.

    Args:
        photos: the real ones. Those that cannot be read, have no color, or that a method lacks are left out.
        methods: all but Random, which is made here from the photos that are left.
        names: of all methods, in the order in which they were given.
        folder: of the study.
        needed: photos that a session shows.
        watch: is told what is done, how many of how many.
        say: is told what was left out.

    Raises:
        UserError: two photos share a name, a colored photo is unusable, or too few photos are left.
    """
    root = folder / _FOLDER
    kept = _keep_truth(photos, methods, root, watch=watch, say=say)
    check_enough(len(kept), needed)
    # In an order of their own, so that neighbors, which may be of one scene, do not get each other's colors.
    donors = sorted(kept, key=lambda name: name_hash(name, salt=b"donor"))
    opened = {method.name for method in methods}
    randoms = [Random(name, donors, root / _TRUTH) for name in [*names, _VIGILANCE] if name not in opened]
    for method in [*methods, *randoms]:
        what = "Colors of other photos" if isinstance(method, Random) else f"Coloring with {method.name}"
        for done, name in enumerate(kept):
            watch(what, done, len(kept))
            path = picture_path(root / method.name, name)
            if not path.exists():
                store(method.recolor(name, read_photo(picture_path(root / _TRUTH, name))), path)
        watch(what, len(kept), len(kept))
    write_atomically(root / _MANIFEST, json.dumps({"photos": kept, "methods": list(names)}, indent=1) + "\n")
    return Pictures(folder, names=kept, methods=names)


def check_enough(photos: int, needed: int) -> None:
    """Whether a session can show a photo once and no more.

    Raises:
        UserError: it cannot.
    """
    # Two, for one to take the other's colors.
    if photos < max(2, needed):
        raise UserError(
            f"A session shows {needed} photos, each once, and there are {photos} that can be used: give more photos, "
            "or take fewer --trials."
        )


def _keep_truth(
    photos: Photos, methods: Sequence[Method], root: Path, *, watch: Watch, say: Callable[[str], None]
) -> list[str]:
    """Store the real photos, and return the names of those that can be used."""
    kept: dict[str, None] = {}
    left_out: dict[str, list[str]] = {}
    for index in range(len(photos)):
        watch("Preparing photos", index, len(photos))
        name = photos.name(index)
        if name in kept:
            raise UserError(f"Two photos are called {name}: give the folder above both, or rename one.")
        try:
            why = _keep_one(photos, index, methods, root)
        except UnreadablePhoto:
            why = "cannot be read"
        if why:
            left_out.setdefault(why, []).append(name)
        else:
            kept[name] = None
    watch("Preparing photos", len(photos), len(photos))
    for why, which in left_out.items():
        say(f"{len(which)} of {len(photos)} photos {why} and are left out, such as {which[0]}.")
    return list(kept)


def _keep_one(photos: Photos, index: int, methods: Sequence[Method], root: Path) -> str:
    """Store one real photo, or say why it is of no use."""
    name = photos.name(index)
    photo = photos.read(index)
    lacking = next((method for method in methods if not method.accepts(name, photo.size)), None)
    if lacking is not None:
        return f"lack a colored version by {lacking.name}"
    truth = square(photo)
    # Both photos of such a pair could be gray: it would say nothing about colors.
    if not is_colored(rgb_to_lab(as_tensor(truth))[1:].unsqueeze(0))[0]:
        return "have no color"
    store(truth, picture_path(root / _TRUTH, name))
    return ""
