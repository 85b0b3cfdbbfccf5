"""What moves the weights: Adam as in the paper, Muon, which uses every direction of a layer alike, or plain SGD."""

from typing import Any

import torch
from timm.optim.muon import Muon
from torch import nn

from ssl_colorize.pretrain.config import Recipe

# Muon's matrices take fewer iterations with these coefficients to be as good as orthogonal.
_COEFFICIENTS, _ITERATIONS = "polar_express", 4
# Biases, BatchNorm, the first convolution and the logits stay with AdamW, at this share of the learning rate.
_ADAM_SHARE = 0.3


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over all weights that are not frozen.

    A deep plain network trained with Adam comes to use few directions of its features (benchmarks/frozen.py rank). Muon
    orthogonalizes the step of each weight matrix (a convolution's is outputs x the rest), so that no direction is
    forgotten. Its steps are scaled to the size of Adam's, and the learning rate means the same.
    """
    trained = {name: weights for name, weights in model.named_parameters() if weights.requires_grad}
    if recipe.optimizer == "adam":
        return torch.optim.Adam(
            trained.values(), lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay
        )
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            trained.values(), lr=recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
    logits = [weights for name, weights in trained.items() if name.startswith("logits")]
    body = [weights for name, weights in trained.items() if not name.startswith("logits")]
    groups: list[dict[str, Any]] = [{"params": body}, {"params": logits, "use_fallback": True}]
    return muon(
        groups, learning_rate=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay,
        adam_share=_ADAM_SHARE,
    )  # fmt: skip


def muon(
    groups: list[dict[str, Any]],
    *,
    learning_rate: float,
    betas: tuple[float, float],
    weight_decay: float,
    adam_share: float,
) -> torch.optim.Optimizer:
    """Muon over groups of weights; those with "use_fallback", and all that are no matrices, stay with AdamW.

    Args:
        groups: as torch's optimizers take them.
        learning_rate: of matrices, whose steps are as large as Adam's would be.
        betas: of AdamW.
        weight_decay: decoupled, as AdamW's.
        adam_share: what AdamW's learning rate is times this one.
    """
    return Muon(
        groups,
        lr=learning_rate, momentum=0.95, nesterov=True, betas=betas, weight_decay=weight_decay,
        ns_steps=_ITERATIONS, ns_coefficients=_COEFFICIENTS, adjust_lr_fn="match_rms_adamw",
        fallback_lr_scale=adam_share,
    )  # fmt: skip
