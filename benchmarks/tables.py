"""The tables: what each asks, what is measured for it, and what prints it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import rendering
from heads import drops, heads, of_heads, of_neighbors, of_pixels
from measures import SGD_RATES, TASKS, Frozen, Measure, Once, Pictures, Recipes, Score, Training, Transfer, Tuned, Verb
from networks import NETWORKS
from records import Record, cell_of
from rendering import BASE

Part = Callable[[Path], str]


@dataclass(frozen=True)
class Table:
    """One table of the results.

    Attributes:
        question: what it answers.
        about: how to read it.
        measures: what is measured for it.
        parts: what prints it.
        expected: the row and the column of a figure of its first part.
    """

    question: str
    about: str
    measures: tuple[Measure, ...]
    parts: tuple[Part, ...]
    expected: tuple[str, str] = ("", "")

    def text(self, name: str, results: Path) -> str:
        """The file of the table.

        Raises:
            UserError: something that it shows was not recorded.
        """
        command = f"    python benchmarks/reproduce.py {name} --data FOLDER"
        parts = [f"# {self.question}", command, self.about, *(part(results) for part in self.parts)]
        return "\n\n".join(part for part in parts if part) + "\n"

    def figure(self, results: Path) -> str:
        """The figure to expect, with what it is."""
        row, column = self.expected
        return f"{row}, {column}: {cell_of(self.parts[0](results), row, column)}" if row else ""


# ---- what is measured ------------------------------------------------------------------------------------------------

_EVIDENCE = (
    "random", "kmeans", "full", "class", "l2", "nn10", "rotation", "autoencoder", "supervised", "starter", "lsuv",
    "labels",
)  # fmt: skip
_BODIES = (
    "random alexnet", "kmeans alexnet", "alexnet", "random resnet18", "resnet18", "random convnext", "convnext",
)  # fmt: skip
_FROZEN = {
    "tiny-imagenet": Frozen("tiny-imagenet", 64, (*_EVIDENCE, "lsuv-long", *_BODIES), limit=10_000),
    "imagenette": Frozen("imagenette", 64, (*_EVIDENCE, "lsuv-long", *_BODIES), limit=4000),
    "VOC2012": Frozen("VOC2012", 96, _EVIDENCE),
}

_ROWS = {name: Tuned(name) for name in ("random", "kmeans", "full", "lsuv-long", "starter", "supervised")}
_ROWS |= {"labels": Tuned("labels", flags="")}
_SGD = {
    "lsuv-long-SGD": Tuned("lsuv-long", "--layer conv5 --set optimizer=sgd", SGD_RATES),
    "lsuv-long-SGD-rescaled": Tuned("lsuv-long", "--layer conv5 --set optimizer=sgd --rescale", SGD_RATES),
}
_TRANSFER = {
    "classification": Transfer("classification", _ROWS | {"rotation": Tuned("rotation")} | _SGD),
    "segmentation": Transfer("segmentation", _ROWS),
    "detection": Transfer("detection", _ROWS),
}

_HEADS_ROWS = ("random", "kmeans", "full", "starter", "supervised")


def _verb(
    folder: str, command: str, data: str, summary: Callable[[Record], Record], side: int, **more: Any
) -> tuple[Verb, ...]:
    """A verb on photos of one size, and on those that the ceiling learned at."""
    ours = Verb(folder, f"{command} --resize {side}", data, _HEADS_ROWS, summary, **more)
    return ours, replace(ours, command=command, names=("labels",))


_PROBE = (
    "linear-probe --head linear --head attentive --head all-layers --set numbers=2304 --epochs 10 --corrupt"
    " --set severities=[1,3,5]"
)
_KNN = "knn --choose --k 10 --k 20 --k 50"
_HEADS = {
    data: _verb(f"heads/{data}", _PROBE, data, of_heads, 64, limit=limit)
    + _verb(f"knn/{data}", _KNN, data, of_neighbors, 64, limit=limit)
    for data, limit in (("tiny-imagenet", 10_000), ("imagenette", None))
}
_DENSE = {
    method: _verb(f"dense/{method}", f"segment --method {method} {flags}", "VOC2012", of_pixels, 96)
    for method, flags in (("linear", "--epochs 10"), ("neighbors", "--k 10 --k 30 --bank 20000"))
}

_PILOTS = (
    "lsuv", "lr5e-4", "lr2e-3", "mix08", "jitter", "blur", "scale", "noema", "steps", "small32", "curriculum",
    "curriculum_first", "photos1000", "photos10000", "hypercolumn",
)  # fmt: skip
RECIPES = Recipes(
    {name: (NETWORKS[f"pilot-{name}"], 0) for name in (BASE, *_PILOTS)}
    | {name: (NETWORKS[name], 0) for name in ("class", "l2", "nn10")}
    | {"steps 1800": (NETWORKS["full"], 0), "seed 1": (NETWORKS["full"], 1), "seed 2": (NETWORKS["full"], 2)}
    | {"long": (NETWORKS["starter"], 0)}
)

_FROM_LSUV = {
    "truth": "", "gray": "", "random": "", "dahl": "dahl", "larsson": "larsson", "l2": "lsuv-l2",
    "l2-from-full": "l2-from-full", "class": "lsuv-class", "full": "lsuv", "full-long": "lsuv-long",
}  # fmt: skip
_FROM_KMEANS = {"truth": "", "gray": ""} | {name: name for name in ("l2", "class", "full", "nn10", "starter")}
_BOTH = ("gray", "full")
_SCORES = {
    "imagenette-kmeans": Score("imagenette-kmeans", "imagenette", _FROM_KMEANS, "--size 128", 300),
    "imagenette": Score("imagenette", "imagenette", _FROM_LSUV, "--size 128", 300, against=_BOTH),
    "imagenet-like-240": Score("imagenet-like-240", "imagenet-like-240", _FROM_LSUV, against=_BOTH),
    "temperatures": Score(
        "temperatures", "VOC2012", {"truth": "", "gray": "", "full": "lsuv"},
        "--size 224 " + " ".join(f"--temperature {each}" for each in (0, 0.2, 0.38, 0.6, 0.8, 1)), 200,
        below="JPEGImages",
    ),
}  # fmt: skip
_METHODS = {name: name for name in ("dahl", "larsson", "l2", "class", "full", "starter")}

# ---- how to read it --------------------------------------------------------------------------------------------------

_ABOUT_DENSE = """`ssl-colorize segment`: a linear classifier of pixels on the frozen map of one layer, and the nearest
patches of a bank. Layer and settings are chosen on a fifth of the training photos. Masks are scored at their own size;
figures of another size are others. *labels* sees photos at the size that it learned at."""

_ABOUT_HEADS = """`ssl-colorize linear-probe`, `knn` and `segment` on frozen features. Heads of all kinds learn in one
pass; layer, rate, k and T are chosen on a fifth of the training photos, and so is the head that worse photos are shown
to (means of severities 1, 3 and 5; hue and gray change colors alone). ± is the standard deviation over trainings or
draws; brackets are intervals over test photos, of several draws the mean of theirs. *labels* is EfficientNet-Lite0."""

_ABOUT_EVIDENCE = """A cell is the figure on the test photos at the layer that was chosen without them, in percent, and
in brackets the gap closed, (figure - untrained) / (ceiling - untrained), twice: to *supervised*, the same network
taught the names of the same photos, and to *labels*, EfficientNet-Lite0 trained on ImageNet in color. Untrained is the
mean of the draws of the same body. ± is the standard deviation of three trainings (*full*, *rotation*), two
(*supervised*) or three draws. Probes on 1% and 10% are means of three draws of the labels. The second table is
fine-tuned on VOC 2012, over six common classes, one seed. The third is what the first training of each took, of a core
that did other work at times."""
_ABOUT_FROZEN = """± is the standard deviation over trainings (*full*, *rotation*, *supervised*) or draws (untrained);
others are one run. Over the test photos a figure near 7% has an interval of about ±0.8, one near 50% of ±2.2, and
figures on VOC of ±4. Layers are chosen on a fifth of the training photos. Gap closed = (figure - random) / (labels -
random). The protocol is at the top of `frozen.py`. The rows from LSUV (*lsuv*, *resnet18*, *convnext*) trained with
the two near-copies of test photos, which is why two test photos are left out; the rows of timm's bodies were measured
on all. The paper's figures: [published.md](published.md)."""
_ABOUT_TUNED = """960 training and 240 test photos, read once by each row, one seed; small photos and few epochs, for
two CPU cores (`TASKS` in `measures.py`). All layers learn; the rate is chosen on a fifth of the training photos by the
mean over classes that 20 of them show (detection takes what segmentation chose). Common classes: six that 20 test
photos show. The paper's figures: [published.md](published.md)."""
_ABOUT_RECIPES = """Judged by frozen features on training photos that were set aside; no test photo was opened. Compare
those of 38,400 photos with *base*, and those of 115,200 with *steps 1800*, *seed 1* and *seed 2*, which differ by
chance. KL compares only where crops, `mix` and photos are the same. Ranked by the mean."""
_ABOUT_COLORS = """All networks saw 115,200 photos of 64 px (*full-long* 230,400, the starter 755,200, *l2-from-full*
57,600 more than *full*). Brackets of differences are paired: the same photos are drawn for both methods (`colors.py`).
The classifier and FID's features are EfficientNet-Lite0's, times those of a busy core. The paper's figures:
[published.md](published.md)."""
_ABOUT_PICTURES = """Gray, colored, true. Of the photos that scikit-image, scikit-learn and Matplotlib carry all in
color whose license lets us show them, but one that is nearly all black, by the AuC of the first network's colors, best
first: the last line is of failures. astronaut: NASA, grace_hopper: US Navy, both public domain; chelsea: Stéfan van
der Walt, coffee: Rachel Michetti, retina: Häggström 2014, rocket: SpaceX, all CC0; china: danielbuechele, flower:
vultilion, both CC BY 2.0. Dahl's and Larsson's networks from LSUV, l2, class and full from k-means filters (115,200
photos each)."""

# ---- the tables ------------------------------------------------------------------------------------------------------


def _frozen(data: str, *measures: str) -> Table:
    return Table(
        f"What is in the features of each layer? {data}", _ABOUT_FROZEN, (_FROZEN[data],),
        tuple(partial(rendering.frozen, data, measure) for measure in measures), ("starter", "chosen layer"),
    )  # fmt: skip


def _tuned(task: str) -> Table:
    # Rates that another task chose need that one first.
    measures = [_TRANSFER[each] for each in (TASKS[task].like, task) if each]
    return Table(
        f"What is it worth where every layer learns on? {task.capitalize()} on VOC 2012", _ABOUT_TUNED,
        tuple(measures), (partial(rendering.tuned, task),), ("starter", "the common ones"),
    )  # fmt: skip


def _colors(name: str, what: str, *more: Part, row: str = "full") -> Table:
    parts = [partial(rendering.compared, name, other) for other in _SCORES[name].against]
    return Table(
        f"How good are the colors? {what}", _ABOUT_COLORS, (_SCORES[name],),
        (partial(rendering.colors, name), *parts, *more), (row, "AuC rebal. %"),
    )  # fmt: skip


TABLES = {
    "evidence": Table(
        "Does coloring teach seeing? All networks by all measures", _ABOUT_EVIDENCE,
        (*_FROZEN.values(), *_TRANSFER.values()),
        (rendering.evidence_frozen, rendering.evidence_tuned, rendering.cost), ("starter", "imagenette, probe"),
    ),
    "frozen-tiny-imagenet": _frozen("tiny-imagenet", "probe", "knn"),
    "frozen-imagenette": _frozen("imagenette", "probe", "knn"),
    "frozen-VOC2012": _frozen("VOC2012", "svm"),
    "heads": Table(
        "What do heads of all kinds read from frozen features?", f"{_ABOUT_HEADS}\n\n{_ABOUT_DENSE}",
        tuple(measure for measures in (*_HEADS.values(), *_DENSE.values()) for measure in measures),
        (*(partial(part, data) for data in _HEADS for part in (heads, drops)),
         *(partial(rendering.dense, method) for method in _DENSE)),
        ("starter", "linear, best layer"),
    ),
    "dense-VOC2012": Table(
        "What do frozen features say of every pixel? VOC 2012", _ABOUT_DENSE,
        tuple(measure for measures in _DENSE.values() for measure in measures),
        tuple(partial(rendering.dense, method) for method in _DENSE), ("starter", "the common ones"),
    ),
    **{task: _tuned(task) for task in TASKS},
    "recipes": Table(
        "Which recipe teaches the features most?", _ABOUT_RECIPES, (RECIPES,), (rendering.recipes,), (BASE, "mean")
    ),
    "gray": Table(
        "What does seeing no color cost?",
        "Imagenette at 64 px, 1,000 training photos, conv4 of the starter.",
        (Once("gray/imagenette", "frozen.py gray --layer conv4 --side 64", "starter", "imagenette", 1000),),
        (rendering.gray,), ("lightness, by the encoder", "top-1 % (95 %)"),
    ),
    "colors-imagenette-kmeans": _colors("imagenette-kmeans", "300 photos of Imagenette, from k-means filters"),
    "colors-imagenette": _colors("imagenette", "300 photos of Imagenette, from LSUV"),
    "colors-imagenet-like-240": _colors(
        "imagenet-like-240", "240 photos of ImageNet's classes, from LSUV",
        partial(rendering.trimmed, "imagenet-like-240"),
    ),
    "temperatures": _colors("temperatures", "200 photos of VOC, by temperature, from LSUV", row="full@0.38"),
    "hues": Table(
        "Which colors come back?",
        "The starter's, of pixels of a true chroma over 15, by their true hue.",
        (Once("hues/tiny-imagenet", "colors.py hues", "starter", "tiny-imagenet", 600, below="val"),
         Once("hues/imagenet-like-240", "colors.py hues", "starter", "imagenet-like-240")),
        (rendering.hues,), ("all", "imagenet-like-240: within 45°"),
    ),
    "rank": Table(
        "How many directions do the features use?",
        "The effective rank of the features of 64 held-out photos at 64 px: e to the entropy of the shares of their\n"
        "squared singular values.",
        tuple(Once(f"rank/{name}", "frozen.py rank", name, "tiny-imagenet") for name in ("kmeans", "full", "starter")),
        (rendering.ranks,), ("starter", "conv7"),
    ),
    "starter": Table(
        "How was the network that ships trained?",
        "On 512 held-out photos, at the size of each run; their own chroma is 17.6.",
        (Training(("small", "starter")),), (partial(rendering.held_out, ("small", "starter")),), ("starter", "loss"),
    ),
    "initialization": Table(
        "Does the initialization matter?", "Small runs on the sample photos from three starts, three seeds each.",
        (Training(("init-plain", "init-lsuv", "init-kmeans")),), (rendering.starts,),
        ("init-kmeans", "held-out loss at the end"),
    ),
    "pictures": Table(
        "The README's pictures: photos that no network saw", _ABOUT_PICTURES,
        (Pictures("unseen.png", {"colored": "starter"}), Pictures("methods.png", _METHODS, "--cell 112")),
        (lambda results: "![The starter's](unseen.png)\n\n![By every method](methods.png)",),
    ),
}  # fmt: skip

# Short tables that RESULTS.md shows, by their marks.
PARTS: dict[str, Part] = {
    "evidence": rendering.evidence_short,
    "layers": rendering.layers_short,
    "few-labels": rendering.few_labels,
    "recipe": rendering.recipes_short,
    "colors": partial(rendering.colors_short, "imagenette-kmeans"),
    "temperatures": partial(rendering.colors_short, "temperatures"),
}  # fmt: skip
