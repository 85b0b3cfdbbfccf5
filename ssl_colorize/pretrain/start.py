"""How a run begins: the colors of the first training photos are counted, and the network is initialized on a few."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from math import ceil
from pathlib import Path

import torch
from torch import Tensor

from ssl_colorize.color import ColorStatistics, rebalance_weights
from ssl_colorize.data import Batch
from ssl_colorize.errors import UserError
from ssl_colorize.models import ColorizationModel, Pretrained, load_pretrained
from ssl_colorize.models.init import initialize
from ssl_colorize.models.objectives import BestConstant, TrainingStatistics, subsampled_ab
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.pretext import Pretext
from ssl_colorize.prior import read_prior


def make_network(pretext: Pretext) -> ColorizationModel:
    """The network to train, with PyTorch's own random weights by the recipe's seed, and what is frozen in it frozen.

    Raises:
        UserError: it does not take crops of the recipe's size.
    """
    recipe = pretext.recipe
    torch.manual_seed(recipe.seed)
    model = pretext.make_model()
    for crop in (recipe.crop, *(stage.crop for stage in recipe.in_stages())):
        if crop % model.multiple:
            raise UserError(f"crop must be a multiple of {model.multiple} for {recipe.model}, not {crop}.")
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
        The statistics of the photos, and lines to tell the user, if any.

    Raises:
        UserError: the recipe's start, its prior or published weights cannot be used, or the photos have no colors.
    """
    recipe = pretext.recipe
    # First, since they may not be to be had.
    ready = model.load_imagenet() if recipe.trunk == "imagenet" and recipe.start is None else ()
    kept = list(islice(first, ceil(recipe.init_photos / recipe.in_stages()[0].batch_size)))
    # The rest is counted as it comes: all of it may be gigabytes.
    counted = (batch.photos for batch in chain(kept, first))
    statistics, gray = count_statistics(counted, recipe, stride=model.target_stride, best=pretext.best_constant())
    objective = pretext.make_objective(statistics.to(device), stride=model.target_stride)
    photos = torch.cat([batch.photos for batch in kept])[: recipe.init_photos].to(device)
    inputs = objective.examples(photos, training=True).inputs
    if recipe.start is not None:
        trained = load_pretrained(recipe.start, device=device)
        started = start_from(model, trained, *inputs, output_bias=objective.output_bias)
        return statistics, "\n".join(filter(None, (started, gray)))
    initialize(
        model, *inputs, method=recipe.init, output_bias=objective.output_bias, keep=ready, seed=recipe.seed
    )  # fmt: skip
    return statistics, gray


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


# The best constant gets this share of uniform mass, so that a color the training photos lack costs it 13 nats, not
# infinitely many. It costs 0.001 nats elsewhere.
CONSTANT_FLOOR = 1e-3
# Neighboring pixels are nearly alike: networks that answer at every pixel count no more than this.
FINEST_STRIDE = 4


def count_statistics(
    batches: Iterable[Tensor], recipe: Recipe, *, stride: int, best: BestConstant | None = None
) -> tuple[TrainingStatistics, str | None]:
    """Count batches of training photos (B, 3, H, W) uint8; and say how many of them are gray, if any.

    Args:
        stride: of the network's output; colors are counted at every so manieth pixel, but at no more than every
            fourth.
        best: finds the objective's best constant, where the colors alone do not tell it.

    Raises:
        UserError: no photo has any color, or the recipe's prior file is unusable.
    """
    counted = ColorStatistics(neighbors=recipe.neighbors, sigma=recipe.sigma)
    for photos in batches:
        counted.update(subsampled_ab(photos, max(stride, FINEST_STRIDE)))
        if best is not None:
            best.update(photos)
    if counted.photos == counted.gray_photos:
        raise UserError(f"All {counted.photos} training photos looked at are gray: colorization needs color photos.")
    prior = counted.prior(smoothing=recipe.smoothing) if recipe.prior is None else read_prior(Path(recipe.prior))
    try:
        class_weights = rebalance_weights(prior, recipe.mix) if recipe.rebalance else torch.ones(len(prior))
    except ValueError as error:
        raise UserError(f"Setting mix: {error}.") from None
    if best is None:
        constant = counted.best_constant(class_weights)
        constant = (1 - CONSTANT_FLOOR) * constant + CONSTANT_FLOOR / len(constant)
    else:
        constant = best.result()
    gray = (
        f"{counted.gray_photos:,} of the {counted.photos:,} crops of photos looked at first are gray or nearly so: "
        "such crops teach no color."
    )
    statistics = TrainingStatistics(prior.float(), class_weights, constant.float(), counted.mean_ab().float())
    return statistics, gray if counted.gray_photos else None
