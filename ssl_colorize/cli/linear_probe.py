"""``ssl-colorize linear-probe``: what a linear classifier reads from each layer of a frozen encoder."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssl_colorize.cli import options
from ssl_colorize.cli.resuming import first_process, refuse_unknown_folder, resumed_settings

if TYPE_CHECKING:
    from ssl_colorize.cli.measuring import Run
    from ssl_colorize.evaluate.settings import ProbeSettings

# What a resumed run may do otherwise without becoming another run.
FREE_TO_CHANGE = frozenset({"workers", "device", "checkpoint_every", "cache", "no_cache"})


@click.command()
@options.encoder
@options.labeled_data
@options.layers
@click.option("--engine", type=click.Choice(["sgd", "ridge", "logistic"]), help="ridge is quick. [default: sgd]")
@click.option("--protocol", type=click.Choice(["small", "zhang16"]), help="Crops, maps, schedule. [default: small]")
@click.option("--epochs", type=float, metavar="N", help="Passes over the photos. [default: 20]")
@click.option("--steps", type=click.IntRange(min=1), metavar="N", help="Optimizer steps, in place of --epochs.")
@options.seeds
@options.untrained
@options.out
@options.config
@options.resize
@options.crop
@options.batch_size
@options.limit
@options.seed
@options.workers
@options.device
@options.cache
@options.no_cache
@options.resume
@options.assignments
@options.as_json
def linear_probe(
    out: Path | None,
    config: Path | None,
    assignments: tuple[str, ...],
    as_json: bool,
    resume: Path | None,
    **flags: Any,
) -> None:
    """Train linear classifiers on every layer of a frozen encoder.

    All layers and learning rates learn in one pass. Each layer's learning rate is chosen on a part of the training
    photos; the test photos are read once. For several GPUs: torchrun --nproc-per-node N -m ssl_colorize linear-probe.
    """
    from time import perf_counter

    from ssl_colorize.engine.signals import Interrupted
    from ssl_colorize.evaluate.linear_probe import linear_probe as measure

    settings = _settings(config, assignments, flags, resume)
    began = perf_counter()
    try:
        with _process(settings, resume or out) as run:
            metrics = measure(settings, run.folder, resume=resume is not None, say=run.say, watch=run.watch)
    except Interrupted as stopped:
        if first_process():
            click.echo(str(stopped), err=True)
        click.get_current_context().exit(128 + stopped.signum)
    if first_process():
        _report(settings, run.folder, metrics, perf_counter() - began, as_json=as_json)


def _process(settings: ProbeSettings, out: Path | None) -> AbstractContextManager[Run]:
    """The folder and the bar of the first process; the others of torchrun are silent."""
    from ssl_colorize.cli.measuring import Run, measuring

    refuse_unknown_folder(out)
    if first_process():
        return measuring("linear-probe", settings, out)
    assert out is not None
    out.mkdir(parents=True, exist_ok=True)
    return nullcontext(Run(out, lambda line: None, lambda what, done, total: None))


def _settings(
    config: Path | None, assignments: tuple[str, ...], flags: dict[str, Any], resume: Path | None
) -> ProbeSettings:
    from ssl_colorize.cli.measuring import resolve
    from ssl_colorize.evaluate.settings import ProbeSettings

    # --steps and --epochs replace each other, also what a file says.
    if (flags["epochs"] is None) != (flags["steps"] is None):
        assignments = ("steps=null" if flags["steps"] is None else "epochs=null", *assignments)
    if resume is None:
        return resolve(ProbeSettings, file=config, assignments=assignments, flags=flags)
    return resumed_settings(
        ProbeSettings, resume, config=config, free=FREE_TO_CHANGE,
        ask=lambda file: resolve(ProbeSettings, file=file, assignments=assignments, flags=flags),
    )  # fmt: skip


def _report(settings: ProbeSettings, folder: Path, metrics: dict[str, Any], seconds: float, *, as_json: bool) -> None:
    import json

    from ssl_colorize.cli.output import command_line
    from ssl_colorize.report.plots import layers_of, probe_plot
    from ssl_colorize.runs import write_atomically, write_metrics

    # Hundreds of figures a layer: a file of their own keeps metrics.json readable.
    per_class: dict[str, Any] = {layer: one.pop("per_class") for layer, one in layers_of(metrics).items()}
    if "random" in metrics:
        per_class["random"] = {layer: one.pop("per_class") for layer, one in metrics["random"].items()}
    write_atomically(folder / "per_class.json", json.dumps(per_class, indent=2) + "\n")
    content = write_metrics(
        folder, command=command_line(), metrics=metrics, config=settings.model_dump(mode="json"), seed=settings.seed,
        seconds=seconds,
    )  # fmt: skip
    about = f"{settings.encoder} on {', '.join(Path(item).name for item in settings.data)}"
    probe_plot(metrics, folder / "layers.png", about=about)
    if as_json:
        click.echo(json.dumps(content, indent=2))
    else:
        _print(metrics, title=about)
    part = "all training photos, after choosing" if settings.refit else f"{1 - settings.choosing:.0%} of the photos"
    click.echo(
        f"Heads trained on {part}; the test photos were read once; the encoder's weights are bit for bit the same.",
        err=True,
    )
    click.echo(f"Next: look at {folder / 'layers.png'}; classes are in {folder / 'per_class.json'}.", err=as_json)


def _print(metrics: dict[str, Any], *, title: str) -> None:
    """One row a layer, in percent."""
    from ssl_colorize.cli.measuring import interval, percent
    from ssl_colorize.cli.output import results
    from ssl_colorize.report.plots import layers_of
    from ssl_colorize.report.tables import rows_table

    layers = layers_of(metrics)
    one = next(iter(layers.values()))
    main = "map" if "map" in one else "top1"
    chosen = "strength" if "strength" in one else "learning_rate"
    titles = {main: "mAP %" if main == "map" else "top-1 %", "interval": "95 % interval", "top5": "top-5 %",
              "map_common": "mAP, common classes %",
              chosen: chosen.removeprefix("learning_"), "random": "untrained %"}  # fmt: skip
    rows = []
    for layer, found in layers.items():
        spread = f" +- {percent(found['spread'])}" if "spread" in found else ""
        cells = {main: percent(found[main]) + spread, "interval": interval(found), chosen: f"{found[chosen]:g}"}
        if "top5" in found:
            cells["top5"] = percent(found["top5"])
        if "map_common" in one:
            cells["map_common"] = percent(found["map_common"])
        if "random" in metrics:
            cells["random"] = percent(metrics["random"][layer][main])
        rows.append((layer, *(cells[key] for key in titles if key in cells)))
    shown = [text for key, text in titles.items() if key in cells]
    results().print(rows_table(("layer", *shown), rows, title=title))
