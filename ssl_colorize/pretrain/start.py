"""How a run begins: the colors of the first training photos are counted, and the network is initialized on a few."""

from collections.abc import Iterator
from itertools import chain, islice
from math import ceil

import torch
from torch import Tensor

from ssl_colorize.data import Batch
from ssl_colorize.errors import UserError
from ssl_colorize.models import ColorizationModel, Pretrained, load_pretrained
from ssl_colorize.models.init import initialize
from ssl_colorize.models.objectives import TrainingStatistics
from ssl_colorize.pretrain.pretext import Pretext
from ssl_colorize.pretrain.statistics import count_statistics


def make_network(pretext: Pretext) -> ColorizationModel:
    """The network to train, with PyTorch's own random weights by the recipe's seed, and what is frozen in it frozen.

    Raises:
        UserError: it does not take crops of the recipe's size.
    """
    recipe = pretext.recipe
    torch.manual_seed(recipe.seed)
    model = pretext.make_model()
    if recipe.crop % model.multiple:
        raise UserError(f"crop must be a multiple of {model.multiple} for {recipe.model}, not {recipe.crop}.")
    if recipe.trunk == "imagenet":
        model.freeze_trunk()
    return model


def begin(
    pretext: Pretext, model: ColorizationModel, first: Iterator[Batch], *, device: torch.device
) -> tuple[TrainingStatistics, str | None]:
    """Initialize a network, in place.

    Args:
        pretext: what it is taught.
        model: changed in place.
        first: batches of the first training photos, at least `init_photos` and `prior_photos` of them.
        device: the model's.

    Returns:
        The statistics of the photos, and a line to tell the user, if any.

    Raises:
        UserError: the recipe's start, its prior or published weights cannot be used, or the photos have no colors.
    """
    recipe = pretext.recipe
    # First, since they may not be to be had.
    ready = model.load_imagenet() if recipe.trunk == "imagenet" and recipe.start is None else ()
    kept = list(islice(first, ceil(recipe.init_photos / recipe.batch_size)))
    # The rest is counted as it comes: all of it may be gigabytes.
    counted = (batch.photos for batch in chain(kept, first))
    statistics = count_statistics(counted, recipe, stride=model.target_stride, best=pretext.best_constant())
    objective = pretext.make_objective(statistics.to(device), stride=model.target_stride)
    photos = torch.cat([batch.photos for batch in kept])[: recipe.init_photos].to(device)
    inputs = objective.examples(photos, training=True).inputs
    if recipe.start is not None:
        trained = load_pretrained(recipe.start, device=device)
        return statistics, start_from(model, trained, *inputs, output_bias=objective.output_bias)
    initialize(
        model, *inputs, method=recipe.init, output_bias=objective.output_bias, keep=ready, seed=recipe.seed
    )  # fmt: skip
    return statistics, None


def start_from(model: ColorizationModel, trained: Pretrained, *inputs: Tensor, output_bias: Tensor | None) -> str:
    """Give a network the weights of a trained one; its last layer starts anew where it predicts something else.

    Args:
        inputs: what the model is called with for a few photos, which a new last layer is fitted to.
        output_bias: (outputs,) of a new last layer.

    Returns:
        What to tell the user: whence the weights are, and which were left.

    Raises:
        UserError: the two are not the same network.
    """
    other = trained.model
    if (other.name, other.width) != (model.name, model.width):
        raise UserError(
            f"Setting start: {trained.source} holds {other.name} x {other.width:g}, not {model.name} x {model.width:g}."
        )
    if other.outputs == model.outputs:
        model.load_state_dict(other.state_dict())
        return f"Started from the weights of {trained.source}."
    last = {f"logits.{part}": value for part, value in model.get_submodule("logits").state_dict().items()}
    model.load_state_dict(other.state_dict() | last)
    keep = [name for name, _ in model.named_children() if name != "logits"]
    initialize(model, *inputs, method="lsuv", output_bias=output_bias, keep=keep)
    return (
        f"Started from the weights of {trained.source} but for {' and '.join(last)}: "
        f"it has {other.outputs} outputs, this run {model.outputs}."
    )
