"""How good colors are: any methods on any photos, by one protocol, streamed and resumable.

Each photo is read once, every method colors it, and its figures are appended to photos.jsonl, which is summed up at
the end. Memory does not grow with the pixels of the set, only by some numbers a photo.
"""

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import torch

from ssl_colorize.data import UnreadableLog
from ssl_colorize.device import choose_device
from ssl_colorize.engine.signals import Interrupted, stop_signals
from ssl_colorize.errors import UserError
from ssl_colorize.models.trunks import LITE0
from ssl_colorize.runs import write_atomically
from ssl_colorize.score.classes import true_classes
from ssl_colorize.score.classifiers import load_classifier
from ssl_colorize.score.config import OFF, ScoreSettings
from ssl_colorize.score.examples import Example, choose_examples
from ssl_colorize.score.journal import Journal, Line
from ssl_colorize.score.methods import Method, Random, load_methods
from ssl_colorize.score.perception import INCEPTION, FrechetDistances, Lpips, LpipsNet, load_extractor
from ssl_colorize.score.protocol import protocol
from ssl_colorize.score.scorer import Instruments, Scorer
from ssl_colorize.score.stream import Others, ScoredPhotos, open_others, open_scored, pieces
from ssl_colorize.score.summary import best_temperatures, heaviest_share, summarize
from ssl_colorize.score.weighting import Weighting, find_weighting, kept_weighting

# Files of a run. To go on takes the lines, what it began with, and FID's sums, of which distances are left at the end.
LINES, START, SUMS, DISTANCES = "photos.jsonl", "start.json", "fid.pt", "fid.json"

Say = Callable[[str], None]
Watch = Callable[[str, int, int], None]
T = TypeVar("T")


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
        UserError: photos, a method, or something asked for to measure with cannot be had.
        Interrupted: SIGINT or SIGTERM; what was done is saved.
    """
    device = choose_device(settings.device)
    methods = load_methods(settings.method, temperatures=settings.temperature, device=settings.device)
    scored = open_scored(settings.data, limit=settings.limit)
    draws = any(isinstance(method, Random) for method in methods)
    others = open_others(scored, settings.random_data, seed=settings.seed) if draws else None
    began = _began(folder) if resume else None
    instruments = _instruments(settings, methods, device, began)
    classes = _classes(settings, scored, instruments)
    weighting = _weighting(settings, folder, methods, began, watch)
    if weighting is None:
        instruments.missing["auc_rebalanced"] = "no network here knows a prior; give one with --prior or --prior-data"
    if began is None:
        about = {"prior": None if weighting is None else weighting.about, "not_measured": instruments.missing}
        write_atomically(folder / START, json.dumps(about, indent=2) + "\n")
    scorer = Scorer(methods, None if weighting is None else weighting.weights, instruments, device=device)
    lines = _all_lines(settings, folder, scorer, scored, classes, others, resume=resume, watch=watch)
    text = protocol(
        photos=scored.about, size=settings.size, weighting=weighting, instruments=instruments, classes=classes,
        others=None if others is None else ", ".join(settings.random_data) or "the same set",
    )  # fmt: skip
    _remark(lines, settings.size, say)
    metrics = _metrics(settings, folder, lines, methods, instruments, weighting) | {"protocol": text}
    examples = choose_examples(scorer, scored, others, lines, size=settings.size, count=settings.show)
    return Scores(metrics, tuple(method.name for method in methods), examples)


# ---- what it takes --------------------------------------------------------------------------------------------------


def _began(folder: Path) -> dict[str, Any]:
    """What the run began with."""
    path = folder / START
    if not path.is_file():
        raise UserError(f"Nothing to resume: {folder} holds no {START}, so the run had not begun to score.")
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def _weighting(
    settings: ScoreSettings, folder: Path, methods: list[Method], began: dict[str, Any] | None, watch: Watch
) -> Weighting | None:
    if began is not None:
        return None if began["prior"] is None else kept_weighting(folder, began["prior"])
    return find_weighting(
        folder, methods, file=settings.prior, data=settings.prior_data, workers=settings.workers, watch=watch
    )


def _instruments(
    settings: ScoreSettings, methods: list[Method], device: torch.device, began: dict[str, Any] | None
) -> Instruments:
    """The networks that measure. One that was not asked for by name may be missing, and then a line says why."""
    found = Instruments(missing=dict(began["not_measured"]) if began else {})

    def get(name: str, asked: str | None, usual: str, load: Callable[[str], T]) -> T | None:
        if name in found.missing:
            return None
        if asked == OFF:
            found.missing[name] = "switched off"
            return None
        try:
            return load(asked or usual)
        except UserError as error:
            # A run that goes on cannot leave a measure away that it began with.
            if asked is not None or began is not None:
                raise
            found.missing[name] = str(error)
            return None

    def frechet(source: str) -> FrechetDistances:
        return FrechetDistances(load_extractor(source, device=device), [method.name for method in methods])

    found.classifier = get("classifier", settings.classifier, LITE0, lambda name: load_classifier(name, device=device))
    found.lpips = get("lpips", settings.lpips, "alex", lambda net: Lpips(cast(LpipsNet, net), device=device))
    found.fid = get("fid", settings.fid_features, INCEPTION, frechet)
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
    scored: ScoredPhotos,
    classes: list[int | None],
    others: Others | None,
    *,
    resume: bool,
    watch: Watch,
) -> list[Line]:
    """The lines of all photos, after those that are missing were scored."""
    names = [scored.photos.name(index) for index in range(len(scored))]
    journal, fid = Journal(folder / LINES), scorer.instruments.fid
    done = _done(settings, folder, journal, fid, len(names)) if resume else 0
    journal.keep(done, names)
    unreadable = UnreadableLog(folder, len(names), append=resume)
    source = pieces(
        scored, size=settings.size, batch_size=settings.batch_size, first=done, workers=settings.workers, others=others
    )
    saved = done
    with closing(source), stop_signals() as stop:
        for piece in source if done < len(names) else ():
            lines = scorer.lines(piece, names, classes)
            unreadable.add(list(piece.unreadable.values()), read=len(piece.indices))
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
    return lines - lines % settings.batch_size if fid is None else fid.load(folder / SUMS)


def _distances(folder: Path, fid: FrechetDistances) -> dict[str, float]:
    """Each method's FID, once all photos are counted; the sums, which are large, go."""
    path = folder / DISTANCES
    if not path.is_file():
        write_atomically(path, json.dumps(fid.distances()) + "\n")
    (folder / SUMS).unlink(missing_ok=True)
    found: dict[str, float] = json.loads(path.read_text("utf-8"))
    return found


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
