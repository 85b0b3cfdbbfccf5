"""How good colors are: any methods on any photos, by one protocol, streamed and resumable.

Each photo is read once, every method colors it, and its figures are appended to photos.jsonl, which is summed up at
the end. Memory does not grow with the pixels of the set, only by some numbers a photo.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssl_colorize.data import UnreadableLog, announce
from ssl_colorize.device import choose_device
from ssl_colorize.engine.signals import Interrupted, stop_signals
from ssl_colorize.errors import UserError
from ssl_colorize.runs import write_atomically
from ssl_colorize.score.classifiers import true_classes
from ssl_colorize.score.config import ScoreSettings
from ssl_colorize.score.instruments import FrechetDistances, Instruments, load_instruments
from ssl_colorize.score.measures import LARGEST, PSNR_MOST, RAREST, Weighting, find_weighting, kept_weighting
from ssl_colorize.score.methods import Folder, Method, Watch, load_methods
from ssl_colorize.score.photos import Crops, ScoredPhotos, open_donors, open_scored
from ssl_colorize.score.scorer import Example, Scorer
from ssl_colorize.score.summary import Journal, Line, best_temperatures, heaviest_share, summarize

# Files of a run. To go on takes the lines, what it began with, and FID's sums, of which distances are left at the end.
LINES, START, SUMS, DISTANCES = "photos.jsonl", "start.json", "fid.pt", "fid.json"
# What a metrics.json holds beside the methods.
RESERVED = frozenset({"protocol", "photos", "not_measured", "best_temperature", "rebalancing"})

Say = Callable[[str], None]


@dataclass(frozen=True)
class Scores:
    """What a run found.

    Attributes:
        metrics: the figures of each method by its name; "photos", how many were scored; "not_measured", reasons by
            figure; "rebalancing"; "protocol"; and "best_temperature" where there were several.
        methods: the methods' names, in order.
        examples: some of the photos.
    """

    metrics: dict[str, Any]
    methods: tuple[str, ...]
    examples: list[Example] = field(default_factory=list)


def run_score(
    settings: ScoreSettings,
    folder: Path,
    *,
    resume: bool = False,
    say: Say = lambda line: None,
    watch: Watch = lambda what, done, total: None,
) -> Scores:
    """Score methods on photos.

    Args:
        settings: what and how.
        folder: the run's; it gets photos.jsonl, start.json, prior.npy and fid.pt.
        resume: go on with what the folder holds; the table is then that of a run without interruption.
        say: told what is worth knowing, a line at a time.
        watch: told what is done, how much of it, and of how much.

    Raises:
        UserError: photos, a method, or something to measure with that was named cannot be had.
        Interrupted: SIGINT or SIGTERM; what was done is saved.
    """
    scored = open_scored(settings.data, test=settings.test, limit=settings.limit)
    announce(scored=scored.photos)
    device = choose_device(settings.device)
    methods = load_methods(
        settings.method, temperatures=settings.temperature, flip=settings.flip, device=settings.device
    )
    names = tuple(method.name for method in methods)
    if taken := RESERVED.intersection(names):
        raise UserError(f"A method cannot be called {min(taken)!r}: choose another name.")
    for method in methods:
        method.check(scored.photos, watch=watch)
    draws = any(method.takes_other for method in methods)
    donors = open_donors(scored, settings.random_data, seed=settings.seed) if draws else None
    began = _began(folder) if resume else None
    missing = None if began is None else began["not_measured"]
    instruments = load_instruments(settings, names, device=device, missing=missing)
    classes = _classes(settings, scored, instruments)
    if began is None:
        weighting = find_weighting(settings, folder, methods, watch=watch)
    else:
        weighting = None if began["prior"] is None else kept_weighting(folder, began["prior"])
    if weighting is None:
        instruments.missing["auc_rebalanced"] = "no network here knows a prior; give one with --prior or --prior-data"
    if began is None:
        about = {"prior": None if weighting is None else weighting.about, "not_measured": instruments.missing}
        write_atomically(folder / START, json.dumps(about, indent=2) + "\n")
    scorer = Scorer(methods, None if weighting is None else weighting.weights, instruments, device)
    crops = Crops(scored.photos, size=settings.size, donors=donors)
    lines = _all_lines(settings, folder, scorer, crops, classes, resume=resume, watch=watch)
    _remark(lines, settings.size, say)
    metrics = _metrics(settings, folder, lines, methods, instruments, weighting)
    metrics["protocol"] = _protocol(settings, scored, methods, weighting, instruments, classes)
    examples = scorer.examples(crops, lines, count=settings.show)
    return Scores(metrics, names, examples)


# ---- what it takes --------------------------------------------------------------------------------------------------


def _began(folder: Path) -> dict[str, Any]:
    """What the run began with."""
    path = folder / START
    if not path.is_file():
        raise UserError(f"Nothing to resume: {folder} holds no {START}, so the run had not begun to score.")
    return _read_json(path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except ValueError:
        raise UserError(f"{path} is damaged and cannot be resumed: score in a new run.") from None
    return found


def _classes(settings: ScoreSettings, scored: ScoredPhotos, instruments: Instruments) -> list[int | None]:
    classifier = instruments.classifier
    if classifier is None:
        return [None] * len(scored)
    classes = true_classes(scored, classifier, file=settings.labels)
    if all(each is None for each in classes):
        instruments.missing["classifier_top1"] = (
            "no photo lies in a folder named after a class that the classifier knows; --labels FILE.csv says classes"
        )
    return classes


# ---- the stream ------------------------------------------------------------------------------------------------------


def _all_lines(
    settings: ScoreSettings,
    folder: Path,
    scorer: Scorer,
    crops: Crops,
    classes: list[int | None],
    *,
    resume: bool,
    watch: Watch,
) -> list[Line]:
    """The lines of all photos, after those that are missing were scored."""
    names = [crops.photos.name(index) for index in range(len(crops))]
    journal, fid = Journal(folder / LINES), scorer.instruments.fid
    done = _done(settings, folder, journal, fid, len(names)) if resume else 0
    journal.keep(done, names)
    unreadable = UnreadableLog(folder, len(names), append=resume)
    batches = crops.batches(settings.batch_size, first=done, workers=settings.workers)
    saved = done
    with closing(batches), stop_signals() as stop:
        for batch in batches if done < len(names) else ():
            lines = scorer.lines(batch, classes)
            missing = [crop.unreadable for crop in batch if crop.unreadable]
            unreadable.add(missing, read=len(batch) - len(missing))
            journal.append(lines)
            done += len(lines)
            if fid is not None and (done - saved >= settings.checkpoint_every or done == len(names) or stop.number):
                fid.save(folder / SUMS, counted=done)
                saved = done
            watch("Scoring", done, len(names))
            if stop.number is not None and done < len(names):
                raise Interrupted(folder, stop.number, verb="score")
    return journal.lines()


def _done(settings: ScoreSettings, folder: Path, journal: Journal, fid: FrechetDistances | None, total: int) -> int:
    """How many photos are scored, in whole batches: batches cut otherwise would round otherwise."""
    lines = len(journal.lines())
    if lines == total and (fid is None or (folder / DISTANCES).is_file()):
        return lines
    done = lines - lines % settings.batch_size if fid is None else fid.load(folder / SUMS)
    if done > lines:
        raise UserError(f"{journal.path} lacks lines of photos that were scored: score in a new run.")
    return done


def _distances(folder: Path, fid: FrechetDistances) -> dict[str, float]:
    """Each method's FID, once all photos are counted; the sums, which are large, go."""
    path = folder / DISTANCES
    if not path.is_file():
        write_atomically(path, json.dumps(fid.distances()) + "\n")
    (folder / SUMS).unlink(missing_ok=True)
    return _read_json(path)


# ---- the figures -----------------------------------------------------------------------------------------------------


def _metrics(
    settings: ScoreSettings,
    folder: Path,
    lines: list[Line],
    methods: list[Method],
    instruments: Instruments,
    weighting: Weighting | None,
) -> dict[str, Any]:
    read = [line for line in lines if "methods" in line]
    if not read:
        raise UserError(f"None of the {len(lines)} photos could be read. Check what --data points to.")
    figures = summarize(lines, methods, seed=settings.seed)
    if instruments.fid is not None and len(read) > 1:
        for name, distance in _distances(folder, instruments.fid).items():
            figures[name]["fid"] = distance
    metrics: dict[str, Any] = dict(figures)
    metrics |= {"photos": len(read), "not_measured": instruments.missing}
    if weighting is not None:
        metrics["rebalancing"] = {"prior": weighting.about, "heaviest_photo": heaviest_share(read)}
    if len(settings.temperature) > 1:
        true_colorfulness = sum(line["colorfulness"] for line in read) / len(read)
        metrics["best_temperature"] = best_temperatures(
            figures, settings.temperature, true_colorfulness=true_colorfulness
        )
    return metrics


def _remark(lines: list[Line], size: int, say: Say) -> None:
    """Say what a reader of the table should know of the photos."""
    read = [line for line in lines if "methods" in line]
    enlarged = sum(line["enlarged"] for line in read)
    if enlarged:
        say(f"{enlarged} of {len(read)} photos were enlarged to {size} px; a smaller --size takes them as they are.")
    if len(read) < len(lines):
        say(f"{len(lines) - len(read)} photos could not be read; unreadable.txt lists them.")
    share = heaviest_share(read)
    if share is not None and len(read) > 1 and share > max(0.1, 2 / len(read)):
        say(
            f"One photo carries {share:.0%} of the rebalanced weight: see the interval of rebalanced AuC. A prior of "
            "all training photos (ssl-colorize prior, then --prior) knows rare colors better than that of a run."
        )


# ---- the protocol in words, as the output and metrics.json state it --------------------------------------------------


def _protocol(
    settings: ScoreSettings,
    scored: ScoredPhotos,
    methods: Sequence[Method],
    weighting: Weighting | None,
    instruments: Instruments,
    classes: Sequence[int | None],
) -> dict[str, str]:
    """What each figure is, by its name in metrics.json."""
    size = settings.size
    mirrored = ", averaged over the photo and its mirror image" if settings.flip else ""
    text = {
        "photos": f"{scored.about}: upright 8-bit sRGB, short side resized to {size} px (bicubic, antialiased), center "
        f"crop of {size} x {size} px",
        "colors": f"CIELAB in floats (D65, 2 degrees). A network sees lightness only, at its own input size{mirrored}; "
        "its ab are brought to the photo's size bilinearly and joined with the photo's own lightness",
        "auc": f"of ab as predicted, before sRGB limits them: the mean over pixels of 1 - min(d, {LARGEST:.0f}) / "
        f"{LARGEST:.0f}, d the Euclidean ab error; the area under the share of pixels within a threshold, 0 to "
        f"{LARGEST:.0f}",
        "auc_rebalanced": "not measured"
        if weighting is None
        else f"the same over the pixels of all photos together, each weighted by 1 / p~ at the bin nearest to its true "
        f"color (lambda 0); p~ is of {weighting.about}; shares below {RAREST:g} (ImageNet's rarest) count as that",
        "pictures": "all below is measured on 8-bit sRGB pictures in memory, as colorize writes PNGs: what sRGB cannot "
        "show at a pixel's lightness loses chroma, not lightness",
        "psnr": f"mean over photos, in dB; at most {PSNR_MOST} a photo, what rounding to 8 bits costs",
        "ssim": "mean over photos; RGB 0..255, Gaussian window of 11 px, sigma 1.5, mirrored at the borders",
        "colorfulness": "mean over photos of Hasler and Suesstrunk's M3, opponents with their signs, RGB 0..255",
        "cost": "parameters as stored; all that one forward pass at the network's input size computes, in-place "
        "results once; 1 MB = 10^6 bytes; seconds are the median over photos, one at a time, from pixels to ab",
        "intervals": "95 %, bootstrap over photos",
    }
    if instruments.classifier is not None:
        known = sum(each is not None for each in classes)
        meaning = f"right on the {known} photos whose class is known" if known else "the photos' classes are not known"
        text["classifier"] = (
            f"{instruments.classifier.name}, {instruments.classifier.about}; top1 and top5: {meaning}; agreement: the "
            "same first answer as on the true photo"
        )
    if instruments.lpips is not None:
        text["lpips"] = f"mean over photos; {instruments.lpips.about}"
    if instruments.fid is not None:
        text["fid"] = f"of {instruments.fid.extractor.about}, against the true photos; depends on their number"
    if any(method.takes_other for method in methods):
        donors = ", ".join(settings.random_data) or "the same set"
        text["random"] = f"ab of a random other photo of {donors}, cut in the same way"
    if folders := [f"{method.source} ({method.name})" for method in methods if isinstance(method, Folder)]:
        text["folders"] = (
            f"of the pictures in {', '.join(folders)}, found by the photos' names, whatever their endings, and of any "
            "size of the photos' proportions: resized and cropped as the photo is; their ab, the photo's own lightness"
        )
    return text
