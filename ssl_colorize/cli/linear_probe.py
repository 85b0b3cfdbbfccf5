"""``ssl-colorize linear-probe``: what a linear classifier reads from each layer of a frozen encoder."""

from __future__ import annotations

from pathlib import Path

import click

from ssl_colorize.cli.flags import settings_options
from ssl_colorize.cli.measured import FLAGS, title_of, write_classes
from ssl_colorize.cli.run import Invocation, finish, note
from ssl_colorize.evaluate.settings import ProbeSettings

# What a resumed run may do otherwise without becoming another run.
FREE_TO_CHANGE = frozenset({"workers", "device", "checkpoint_every", "cache", "no_cache"})


@click.command()
@settings_options(
    ProbeSettings, "encoder", "data", "layers", "heads", "engine", "protocol", "epochs", "steps", "also", "corrupt",
    *FLAGS, resume=True
)  # fmt: skip
def linear_probe(invocation: Invocation[ProbeSettings]) -> None:
    """Train linear classifiers on every layer of a frozen encoder.

    All layers, heads and learning rates learn in one pass. Each head's learning rate is chosen on a part of the
    training photos; the test photos are read once. For several GPUs: torchrun --nproc-per-node N -m ssl_colorize
    linear-probe.
    """
    from ssl_colorize.evaluate import run_linear_probe
    from ssl_colorize.report.plots import probe_plot
    from ssl_colorize.report.tables import layers_of, layers_table, robustness_tables

    settings = invocation.settings(free=FREE_TO_CHANGE)
    with invocation.running("linear-probe", settings) as run:
        metrics = run_linear_probe(
            settings, run.folder, resume=invocation.resume is not None, say=run.say, watch=run.watch
        )
    if not run.first:
        return
    listed, drawn = write_classes(metrics, run.folder, depth=0), run.folder / "layers.png"
    content = run.write(metrics)
    names = ", ".join(Path(item).name for item in (*settings.data, *settings.train))
    probe_plot(metrics, drawn, about=f"{settings.encoder} on {names}")
    title = title_of(settings, run.folder, content["seconds"])
    layers, untrained = layers_of(metrics), metrics.get("random", {})
    chosen = "strength" if "strength" in next(iter(layers.values())) else "learning_rate"
    rows = [((layer, f"{found[chosen]:g}"), found, untrained.get(layer, {})) for layer, found in layers.items()]
    part = "all training photos, after choosing" if settings.refit else f"{1 - settings.choosing:.0%} of the photos"
    note(f"Heads trained on {part}; the test photos were read once; the encoder's weights are bit for bit the same.")
    best = max(layers, key=lambda name: layers[name]["choosing"])
    words = f"{best} (of {len(layers)}, chosen on training photos)" if len(layers) > 1 else best
    finish(
        content,
        layers_table(rows, ("layer", chosen.removeprefix("learning_")), title=title),
        *robustness_tables(layers[best], untrained.get(best, {}), name=words),
        next_step=f"look at {drawn}; classes are in {listed}.",
        as_json=invocation.as_json,
    )
