"""The photos of a study, real and recolored, prepared before the first participant comes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ssl_colorize.color import is_colored, rgb_to_lab
from ssl_colorize.data import Photos, UnreadablePhoto, read_photo
from ssl_colorize.errors import UserError
from ssl_colorize.runs import write_atomically
from ssl_colorize.score.methods import Method, Random, Scene, Watch, check_names, named_source
from ssl_colorize.score.photos import center_crop
from ssl_colorize.study.protocol import SIDE, Pair

# Bytes of one photo as it is sent: bare RGB, so that every photo has the same number.
PHOTO_BYTES = SIDE * SIDE * 3

_FOLDER = "photos"
_MANIFEST = "photos.json"
_TRUTH = "truth"
# Beside the methods, whose names cannot begin with a dot.
_VIGILANCE = ".vigilance"


class Pictures:
    """The prepared photos: by name, and as the bytes of a pair."""

    def __init__(self, folder: Path, *, names: Sequence[str], methods: Sequence[str]) -> None:
        self._folder = folder / _FOLDER
        self.names = tuple(names)
        self.methods = tuple(methods)

    @classmethod
    def prepared(cls, folder: Path) -> Pictures | None:
        """Those of a study's folder; None where preparation has not come to its end.

        Raises:
            UserError: the list of them is damaged.
        """
        manifest = folder / _FOLDER / _MANIFEST
        if not manifest.is_file():
            return None
        try:
            content = json.loads(manifest.read_text())
            return cls(folder, names=content["photos"], methods=content["methods"])
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"{manifest} is damaged: delete it, and --resume {folder} prepares what is missing."
            ) from None

    def pair(self, method: str, pair: Pair) -> bytes:
        """Both photos of a pair as bare RGB rows, 2 x PHOTO_BYTES, in the order in which they are shown."""
        recolored = _VIGILANCE if pair.kind == "vigilance" else method
        # Always read in this order: how long it takes cannot depend on which one comes first.
        real, other = (
            np.asarray(read_photo(picture_path(self._folder / each, pair.photo))).tobytes()
            for each in (_TRUTH, recolored)
        )
        return real + other if pair.real_first else other + real


def name_hash(name: str, *, salt: bytes = b"") -> str:
    """A name, which may be any bytes of a file system, as 20 hexadecimal digits."""
    return blake2b(name.encode("utf-8", "surrogateescape"), digest_size=10, salt=salt).hexdigest()


def picture_path(folder: Path, photo: str) -> Path:
    """Where the picture of a photo lies in a folder; its name alone decides, so that a stopped preparation goes on."""
    return folder / f"{name_hash(photo)}.png"


def method_names(given: Sequence[str]) -> list[str]:
    """The names of the methods that `--method` gives, each once.

    Raises:
        UserError: none is given, two are the same, or one cannot be a name.
    """
    if not given:
        raise UserError("Say what recolors the photos: --method full=RUN, or --method name=FOLDER of colored pictures.")
    names = [named_source(each)[0] for each in given]
    check_names(names)
    for name in names:
        # It becomes a folder's name.
        if name == _TRUTH or not all(sign.isalnum() or sign in "-_.+" for sign in name) or name[0] == ".":
            raise UserError(f"{name!r} cannot be the name of a method: use letters, digits, '-' and '_'; not 'truth'.")
    return names


# ---- preparation -----------------------------------------------------------------------------------------------------


def prepare(
    photos: Photos, methods: Sequence[Method], folder: Path, *, needed: int, watch: Watch, say: Callable[[str], None]
) -> Pictures:
    """Cut out, recolor and store the photos; what a stopped preparation has stored is not made again.

    Args:
        photos: the real ones. Those that cannot be read or have no color are left out.
        methods: what recolors them.
        folder: of the study.
        needed: photos that a session shows.
        watch: is told what is done, how many of how many.
        say: is told what was left out.

    Raises:
        UserError: a method cannot color the photos, two photos share a name, or too few photos are left.
    """
    for method in methods:
        method.check(photos, watch=watch)
    root = folder / _FOLDER
    kept = _keep_truth(photos, root / _TRUTH, watch=watch, say=say)
    check_enough(len(kept), needed)
    # Each photo lends its colors once, in an order of its own, so that neighbors, which may be of one scene, do not
    # get each other's.
    donors = sorted(kept, key=lambda name: name_hash(name, salt=b"donor"))
    donor_of = dict(zip(donors, [*donors[1:], donors[0]], strict=True))

    def truth(name: str) -> Tensor:
        return torch.from_numpy(np.array(read_photo(picture_path(root / _TRUTH, name)))).permute(2, 0, 1)

    for method in [*methods, Random(_VIGILANCE)]:
        what = "Colors of other photos" if method.takes_other else f"Coloring with {method.name}"
        for done, name in enumerate(kept):
            watch(what, done, len(kept))
            path = picture_path(root / method.name, name)
            if not path.exists():
                rgb = truth(name)
                scene = Scene(name, rgb, rgb_to_lab(rgb), truth(donor_of[name]) if method.takes_other else None)
                _store(method.picture(scene), path)
        watch(what, len(kept), len(kept))
    names = [method.name for method in methods]
    write_atomically(root / _MANIFEST, json.dumps({"photos": kept, "methods": names}, indent=1) + "\n")
    return Pictures(folder, names=kept, methods=names)


def _store(picture: Tensor, path: Path) -> None:
    """Write a picture (3, H, W) uint8, bare of metadata, as PNG."""
    encoded = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(encoded, format="PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, encoded.getvalue())


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


def _keep_truth(photos: Photos, folder: Path, *, watch: Watch, say: Callable[[str], None]) -> list[str]:
    """Store the real photos, and return the names of those that can be used."""
    kept: dict[str, None] = {}
    left_out: dict[str, list[str]] = {}
    for index in range(len(photos)):
        watch("Preparing photos", index, len(photos))
        name = photos.name(index)
        if name in kept:
            raise UserError(f"Two photos are called {name}: give the folder above both, or rename one.")
        try:
            truth = center_crop(photos.read(index), SIDE)
        except UnreadablePhoto:
            left_out.setdefault("cannot be read", []).append(name)
            continue
        # Both photos of such a pair could be gray: it would say nothing about colors.
        if not is_colored(rgb_to_lab(truth)[1:].unsqueeze(0))[0]:
            left_out.setdefault("have no color", []).append(name)
            continue
        _store(truth, picture_path(folder, name))
        kept[name] = None
    watch("Preparing photos", len(photos), len(photos))
    for why, which in left_out.items():
        say(f"{len(which)} of {len(photos)} photos {why} and are left out, such as {which[0]}.")
    return list(kept)
