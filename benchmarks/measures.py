"""What is measured of networks, as steps that end in a record: frozen features, fine-tuning, colors, training itself.

Every measure has `steps(workspace)`, what it takes with the trainings before it, and `trained()`, whose trainings.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import colors
from networks import NETWORKS, Network
from records import Record, origin, record
from steps import FINISHED, Command, Step, Workspace, flags

Draw = tuple[Network, int]


class Measure(Protocol):
    """One figure or more of some networks."""

    def steps(self, workspace: Workspace) -> Iterator[Step]:
        """What is done, trainings first; each step ends in a file."""

    def trained(self) -> list[Draw]:
        """The networks and the seeds that are measured."""


def draws(names: Iterable[str]) -> list[Draw]:
    """All seeds of the named networks."""
    return [(NETWORKS[name], seed) for name in names for seed in range(NETWORKS[name].draws)]


@dataclass(frozen=True)
class Frozen:
    """Every layer's features by linear probe and kNN (with several labels: SVMs), judged by test photos."""

    data: str
    side: int
    names: tuple[str, ...]
    limit: int = 12_000

    def trained(self) -> list[Draw]:
        return draws(self.names)

    def steps(self, workspace: Workspace) -> Iterator[Step]:
        yield from workspace.prepared(self.data)
        leave_out: Command = ()
        if self.data != "VOC2012":
            yield from workspace.duplicates()
            leave_out = ("--leave-out", str(workspace.out / "data" / "tested.txt"))
        for network in map(NETWORKS.__getitem__, self.names):
            # The ceiling sees photos as large as it was trained on, small ones enlarged: smaller ones would lower it.
            side = () if network.name == "labels" else ("--side", str(self.side))
            for seed in workspace.seeds(network):
                yield from workspace.training(network, seed)
                path = workspace.results / "frozen" / self.data / f"{network.key(seed)}.json"
                command = (
                    "python", "frozen.py", "test", "--data", str(workspace.photos(self.data)), *side,
                    *workspace.limited(self.limit), *leave_out, "--encoder", workspace.source(network, seed),
                    "--seed", str(seed), "-o", str(path),
                )  # fmt: skip
                yield Step(path, command)


@dataclass(frozen=True)
class Recipes:
    """Runs that differ in a setting or two from the first, judged by training photos that were set aside."""

    rows: Mapping[str, Draw]  # by what the table calls them

    def trained(self) -> list[Draw]:
        return list(self.rows.values())

    def steps(self, workspace: Workspace) -> Iterator[Step]:
        sets = ("tiny-imagenet", "imagenette")
        for name in sets:
            yield from workspace.prepared(name)
        base, seed = next(iter(self.rows.values()))
        for name, (network, draw) in self.rows.items():
            yield from workspace.training(network, draw)
            path = workspace.results / "recipes" / f"{name}-0.json"
            command = (
                "python", "frozen.py", "training", *flags("--data", (f"{workspace.photos(each)}:64" for each in sets)),
                *workspace.limited(), "--base", workspace.source(base, seed), "--run", workspace.source(network, draw),
                "-o", str(path),
            )  # fmt: skip
            yield Step(path, command)


@dataclass(frozen=True)
class Once:
    """One command of `frozen.py` or `colors.py` on one network and a set of photos."""

    path: str  # of the record: its folder and name
    command: str
    name: str
    data: str
    limit: int | None = None
    below: str = ""  # a part of the set

    def trained(self) -> list[Draw]:
        return [(NETWORKS[self.name], 0)]

    def steps(self, workspace: Workspace) -> Iterator[Step]:
        yield from workspace.prepared(self.data)
        yield from workspace.training(NETWORKS[self.name], 0)
        path = workspace.results / f"{self.path}-0.json"
        command = (
            "python", *self.command.split(), "--encoder", workspace.source(NETWORKS[self.name], 0),
            "--data", str(workspace.photos(self.data) / self.below), *workspace.limited(self.limit), "-o", str(path),
        )  # fmt: skip
        yield Step(path, command)


@dataclass(frozen=True)
class Training:
    """What a training wrote of its held-out photos."""

    names: tuple[str, ...]

    def trained(self) -> list[Draw]:
        return draws(self.names)

    def steps(self, workspace: Workspace) -> Iterator[Step]:
        for network in map(NETWORKS.__getitem__, self.names):
            for seed in workspace.seeds(network):
                yield from workspace.training(network, seed)
                path = workspace.results / "training" / f"{network.key(seed)}.json"
                finish = partial(self._keep, path, workspace.run(network.key(seed)))
                yield Step(path, (), finish=finish)

    @staticmethod
    def _keep(path: Path, run: Path) -> None:
        content = json.loads((run / FINISHED).read_text("utf-8"))
        logged = map(json.loads, (run / "metrics.jsonl").read_text("utf-8").splitlines())
        curve = [row for row in logged if "holdout_loss" in row]
        found = {key: content[key] for key in ("seed", "git", "seconds", "metrics")}
        record(path, found | {"curve": curve})


@dataclass(frozen=True)
class Verb:
    """A verb of `ssl-colorize` that measures frozen features, and what a record takes of its figures."""

    folder: str  # of the records
    command: str  # the verb and its flags
    data: str
    names: tuple[str, ...]
    summary: Callable[[Record], Record]  # from the verb's figures
    limit: int | None = None  # photos to learn from; the verb tests on a quarter as many

    def trained(self) -> list[Draw]:
        return draws(self.names)

    def steps(self, workspace: Workspace) -> Iterator[Step]:
        yield from workspace.prepared(self.data)
        verb, *options = self.command.split()
        for network in map(NETWORKS.__getitem__, self.names):
            for seed in workspace.seeds(network):
                yield from workspace.training(network, seed)
                source, key = workspace.source(network, seed), network.key(seed)
                run = workspace.run(f"{self.folder.replace('/', '-')}-{key}")
                path = workspace.results / self.folder / f"{key}.json"
                command = (
                    "ssl-colorize", verb, "--encoder", source, "--data", str(workspace.photos(self.data)), *options,
                    *workspace.limited(self.limit), "--no-random", "--seed", str(seed), "--workers",
                    str(workspace.workers), "-o", str(run),
                )  # fmt: skip
                finish = partial(self._keep, path, source, run)
                yield Step(path, command, run=run, resume=("ssl-colorize", verb), finish=finish)

    def _keep(self, path: Path, source: str, run: Path) -> None:
        content = json.loads((run / FINISHED).read_text("utf-8"))
        about = {key: content[key] for key in ("seed", "git", "seconds")}
        about |= {part: content["read"]["splits"][part] for part in ("train", "test")}
        record(path, {**origin(source), **about, **self.summary(content["metrics"])})


# ---- fine-tuning -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TuningProtocol:
    """How a task is measured: its figure, what `finetune` is told, and the rates to choose from.

    Without rates it takes the one that the network chose in the task `like`.
    """

    figure: str
    flags: str
    rates: tuple[float, ...] = ()
    like: str = ""


# Small photos, since the runs were trained on small ones, and for 2 cores.
TASKS = {
    "classification": TuningProtocol("map", "--size 72 --crop 64 --epochs 10 --set head_factor=3", (1e-4, 3e-4, 1e-3)),
    "segmentation": TuningProtocol("miou", "--size 96 --epochs 8 --set head_factor=10", (3e-4, 1e-3)),
    "detection": TuningProtocol("voc_map", "--size 96 --epochs 4 --set head_factor=3", like="segmentation"),
}
SGD_RATES = (1e-3, 3e-3, 1e-2)
# The last layer that the paper's alexnet has before its fully connected ones.
CONV5 = "--layer conv5"


@dataclass(frozen=True)
class Tuned:
    """A network, and how it learns on."""

    name: str
    flags: str = CONV5
    rates: tuple[float, ...] = ()  # the task's own, if not given


@dataclass(frozen=True)
class Transfer:
    """Fine-tuning on VOC, all layers, the rate chosen with the first seed on a fifth of the training photos."""

    task: str
    rows: Mapping[str, Tuned]  # by what the table calls them

    def trained(self) -> list[Draw]:
        return [(NETWORKS[row.name], 0) for row in self.rows.values()]

    def steps(self, workspace: Workspace) -> Iterator[Step]:
        for seed in range(workspace.draws or 1):
            for name, row in self.rows.items():
                yield from workspace.training(NETWORKS[row.name], 0)
                yield self._step(workspace, name, row, seed)

    def _step(self, workspace: Workspace, name: str, row: Tuned, seed: int) -> Step:
        run = workspace.run(f"{self.task}-{name}-{seed}")
        path = workspace.results / "transfer" / self.task / f"{name}-{seed}.json"
        verb = ("ssl-colorize", "finetune", self.task)
        source = workspace.source(NETWORKS[row.name], 0)

        command = (
            *verb, "--encoder", source, "--data", str(workspace.photos("VOC2012")), *TASKS[self.task].flags.split(),
            *row.flags.split(), "--set", "choose_length=false", *workspace.limited(), "--seed", str(seed),
            "--workers", str(workspace.workers), "-o", str(run),
        )  # fmt: skip
        return Step(
            path, command, late=partial(self._rates, workspace, name, row, seed), run=run, resume=verb,
            finish=lambda: record(path, self._summary(source, run)),
        )  # fmt: skip

    def _rates(self, workspace: Workspace, name: str, row: Tuned, seed: int) -> Command:
        protocol = TASKS[self.task]
        rates = row.rates or protocol.rates
        if rates and seed == 0:
            return flags("--learning-rate", (f"{rate:g}" for rate in rates))
        first = workspace.run(f"{self.task if rates else protocol.like}-{name}-0") / FINISHED
        if not first.is_file():
            return ("--learning-rate", f"(what {first.parent} chose)")
        return ("--learning-rate", f"{json.loads(first.read_text('utf-8'))['metrics']['learning_rate']:g}")

    def _summary(self, source: str, run: Path) -> Record:
        """What the table takes of a finished training, and how it came about."""
        content: dict[str, Any] = json.loads((run / FINISHED).read_text("utf-8"))
        figure = TASKS[self.task].figure
        kept = (figure, f"{figure}_common", "low", "high", "choosing", "learning_rate", "epochs", "steps")
        settings = ("size", "crop", "layers", "optimizer", "head_factor", "rescale", "batch_size")
        return {
            **origin(source), "task": self.task, "seed": content["seed"], "git": content["git"],
            "seconds_of_fine_tuning": content["seconds"],
            **{key: content["metrics"].get(key) for key in kept},
            "settings": {key: content["config"].get(key) for key in settings},
        }  # fmt: skip


# ---- colors ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Score:
    """Colors by every measure of `ssl-colorize score`, with paired differences between the methods."""

    name: str
    data: str
    methods: Mapping[str, str]  # what the table calls them -> the network; "" is truth, gray or random itself
    flags: str = ""
    limit: int | None = None
    against: tuple[str, ...] = ("gray",)
    below: str = ""  # a folder of the set's, which holds its photos

    def trained(self) -> list[Draw]:
        return [(NETWORKS[name], 0) for name in self.methods.values() if name]

    def steps(self, workspace: Workspace) -> Iterator[Step]:
        for network, _ in self.trained():
            yield from workspace.training(network, 0)
        yield from workspace.prepared(self.data)
        yield from workspace.prepared("imagenette")
        prior = workspace.run("prior")
        counting = ("ssl-colorize", "prior", *flags("--train", workspace.training_photos), *workspace.limited(), "-o",
                    str(prior))  # fmt: skip
        yield Step(prior / "prior.npy", counting)
        photos, run = workspace.photos(self.data) / self.below, workspace.run(f"colors-{self.name}")
        # The photos' classes, where folders do not say them.
        labels = flags("--labels", [photos / "labels.csv"] if (photos / "labels.csv").is_file() else [])
        methods = [
            f"{name}={workspace.source(NETWORKS[key], 0)}" if key else name for name, key in self.methods.items()
        ]
        verb = ("ssl-colorize", "score")
        command = (
            *verb, "--data", str(photos), *labels, *workspace.limited(self.limit), *self.flags.split(),
            "--lpips", "none", "--fid-features", "efficientnet_lite0", "--prior", str(prior / "prior.npy"),
            *flags("--method", methods), "-o", str(run),
        )  # fmt: skip
        path = workspace.results / "colors" / f"{self.name}-0.json"
        finish = partial(colors.record_scores, run, path, against=self.against)
        yield Step(path, command, run=run, resume=verb, finish=finish)


@dataclass(frozen=True)
class Pictures:
    """The sheet of photos that no network saw."""

    file: str
    names: Mapping[str, str]
    flags: str = ""

    def trained(self) -> list[Draw]:
        return [(NETWORKS[name], 0) for name in self.names.values()]

    def steps(self, workspace: Workspace) -> Iterator[Step]:
        for network, _ in self.trained():
            yield from workspace.training(network, 0)
        path = workspace.results / self.file
        runs = [f"{name}={workspace.source(NETWORKS[key], 0)}" for name, key in self.names.items()]
        command = ("python", "colors.py", "pictures", *runs, *self.flags.split(), "-o", str(path))
        yield Step(path, command)
