"""What a table takes, as steps: each a command, the file that says it is done, and how a stopped one goes on."""

import fcntl
import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import click
from networks import CEILING, NETWORKS, Network
from records import record

from ssl_colorize.errors import UserError

Command = tuple[str, ...]
HERE = Path(__file__).parent
# Where the sets of photos lie below the folder that holds them all.
SETS = {
    "tiny-imagenet": "tiny-imagenet",
    "imagenette128": "imagenette128",
    "VOC2012": "VOCdevkit/VOC2012",
    "imagenet-like-240": "imagenet-like-240",
}
# What a run writes when it is done, and what says that a stopped one can go on.
FINISHED = "metrics.json"
STOPPED = ("checkpoint.pt", "photos.jsonl")


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Attributes:
        made: the file that is there when it is done.
        command: what does it; empty where nothing has to run.
        late: flags of the command that are known once the steps before it are done.
        run: the run's folder, if it may be stopped and goes on; `resume` is the command's beginning for that.
        finish: writes `made` from a finished run.
    """

    made: Path
    command: Command
    late: Callable[[], Command] = tuple
    run: Path | None = None
    resume: Command = ()
    finish: Callable[[], None] | None = None

    def pending(self) -> Command:
        """The command that is left to run."""
        if self.run is not None and (self.run / FINISHED).is_file():
            return ()
        if self.run is not None and any((self.run / name).is_file() for name in STOPPED):
            return (*self.resume, "--resume", str(self.run))
        return (*self.command, *self.late())


@dataclass(frozen=True)
class Workspace:
    """Where photos are read and everything else is written, and what is done otherwise for a quick look.

    Attributes:
        sets: folders of photos by their names in `SETS`.
        out: holds `data/`, `runs/` and `results/`.
        settings: `key=value` for every pretraining, over what `NETWORKS` says.
        limit: photos at most, in all that reads photos.
        draws: seeds of each network, in place of its own number.
        workers: processes that decode photos.
    """

    sets: Mapping[str, Path]
    out: Path
    settings: tuple[str, ...] = ()
    limit: int | None = None
    draws: int | None = None
    workers: int = 1

    @property
    def results(self) -> Path:
        return self.out / "results"

    def seeds(self, network: Network) -> range:
        return range(1 if network.source == CEILING else self.draws or network.draws)

    def run(self, name: str) -> Path:
        return self.out / "runs" / name

    def limited(self, limit: int | None = None) -> Command:
        """The flag for at most so many photos."""
        counts = [each for each in (limit, self.limit) if each is not None]
        return ("--limit", str(min(counts))) if counts else ()

    def source(self, network: Network, seed: int) -> str:
        """The encoder of a network, as `load_encoder` takes it."""
        if not network.source:
            return str(self.run(network.key(seed)))
        widths = [text.partition("=")[2] for text in self.settings if text.startswith("width=")]
        return network.source.format(width=(widths or ["0.5"])[-1])

    # ---- photos

    def photos(self, name: str) -> Path:
        """The folder of a set.

        Raises:
            UserError: --data has no such set.
        """
        if name == "imagenette":
            whole = self.photos("imagenette128")
            return whole if (whole / "val").is_dir() else self.out / "data" / "imagenette"
        if name not in self.sets:
            raise UserError(f"No {name} in --data: give the folder that holds {SETS[name]}, or --data {name}=FOLDER.")
        return self.sets[name]

    def prepared(self, name: str) -> Iterator[Step]:
        """What is done before a set is read: of Imagenette a fifth is set aside for testing."""
        folder = self.photos(name)
        if name == "imagenette" and folder != self.photos("imagenette128"):
            command = ("python", "duplicates.py", "split", str(self.photos("imagenette128")), str(folder))
            yield Step(folder / "split.txt", command)

    @property
    def training_photos(self) -> tuple[str, ...]:
        return tuple(str(self.photos(name) / "train") for name in ("tiny-imagenet", "imagenette"))

    def duplicates(self) -> Iterator[Step]:
        """Training photos that have near-copies among test photos, and those test photos."""
        yield from self.prepared("imagenette")
        tests = [self.photos(name) / "val" for name in ("tiny-imagenet", "imagenette")]
        tests += [self.sets[name] for name in ("VOC2012", "imagenet-like-240") if name in self.sets]
        found = self.out / "data"
        command = (
            "python", "duplicates.py", "find", *flags("--train", self.training_photos), *flags("--against", tests),
            *self.limited(), "--tested", str(found / "tested.txt"), "-o", str(found / "duplicates.txt"),
        )  # fmt: skip
        yield Step(found / "duplicates.txt", command)

    # ---- networks

    def training(self, network: Network, seed: int) -> Iterator[Step]:
        """How a network comes about, with those that it needs."""
        if network.source:
            return
        for name in network.needs:
            yield from self.training(NETWORKS[name], seed)
        if not network.samples:
            yield from self.prepared("imagenette")
        run = self.run(network.key(seed))
        if network.pretext:
            verb: Command = ("python", "pretexts.py", network.pretext)
            command = (*verb, "--like", str(self.run(f"{network.like}-{seed}")), "-o", str(run))
        else:
            verb = ("ssl-colorize", "pretrain")
            if network.leave_out:
                yield from self.duplicates()
            command = (*verb, *self._recipe(network, seed), "-o", str(run))
        yield Step(run / FINISHED, command, run=run, resume=verb)

    def _recipe(self, network: Network, seed: int) -> Command:
        settings = dict(network.settings)
        if network.start:
            settings["start"] = str(self.run(f"{network.start}-{seed}"))
        if network.leave_out:
            settings["exclude"] = str(self.out / "data" / "duplicates.txt")
        changed = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items()]
        photos = flags("--data", ["samples"]) if network.samples else flags("--train", self.training_photos)
        return (
            "--config", network.config, *photos, *flags("--set", (*changed, *self.settings)),
            *self.limited(), "--seed", str(seed), "--workers", str(self.workers),
        )  # fmt: skip


def flags(name: str, values: Iterable[object]) -> Command:
    """One flag given several times."""
    return tuple(part for value in values for part in (name, str(value)))


# ---- running ---------------------------------------------------------------------------------------------------------


def unfinished(steps: Iterable[Step]) -> Iterator[Step]:
    """Each step once, in order, but those that are done."""
    seen = set()
    for step in steps:
        if step.made not in seen and not step.made.is_file():
            yield step
        seen.add(step.made)


def perform(steps: Iterable[Step]) -> None:
    """Do what is left to do; a signal goes to the command that runs, which saves before it stops.

    Several processes may work in one folder: each step is done by one of them.
    """
    for step in unfinished(steps):
        with alone(step.made):
            if step.made.is_file():
                continue
            command = step.pending()
            if command:
                click.echo(f"$ {shown(command)}", err=True)
                code = _call(command)
                if code:
                    click.echo("Stopped. The same command goes on.", err=True)
                    sys.exit(code if code > 0 else 128 - code)
            if step.finish is not None:
                step.finish()


@contextmanager
def alone(made: Path) -> Iterator[None]:
    """Hold a step; another process that comes to it waits, and then finds it done."""
    made.parent.mkdir(parents=True, exist_ok=True)
    with (made.parent / f".{made.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def shown(command: Command) -> str:
    """A command as one types it."""
    return shlex.join(f"benchmarks/{part}" if before == "python" else part
                      for before, part in zip(("", *command), command, strict=False))  # fmt: skip


def _call(command: Command) -> int:
    """Run a command of the package or of this folder; its exit code."""
    program, *rest = command
    line = [sys.executable, "-m", "ssl_colorize", *rest]
    if program == "python":
        line = [sys.executable, str(HERE / rest[0]), *rest[1:]]
    # Standard output is the table's; what commands say goes beside it.
    with subprocess.Popen(line, stdout=2) as child:

        def forward(number: int, frame: FrameType | None) -> None:
            child.send_signal(number)

        # Ctrl-C reaches the child by itself.
        before = {each: signal.signal(each, handler) for each, handler in (
            (signal.SIGTERM, forward), (signal.SIGINT, lambda number, frame: None)
        )}  # fmt: skip
        try:
            return child.wait()
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


def begin(workspace: Workspace) -> None:
    """Write down what is done otherwise in a folder, so that figures of two budgets never mix.

    Raises:
        UserError: the folder was begun with another.
    """
    path = workspace.out / "reproduce.json"
    wanted = {"settings": list(workspace.settings), "limit": workspace.limit}
    if not path.is_file():
        record(path, wanted)
    elif (found := json.loads(path.read_text("utf-8"))) != wanted:
        raise UserError(f"{workspace.out} was begun with {found}, not {wanted}: give another --out.")
