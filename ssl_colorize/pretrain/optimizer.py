"""What moves the weights: Adam as in the paper, or Muon, which uses every direction of a layer alike."""

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
    """The recipe's optimizer over all weights.

    A deep plain network trained with Adam comes to use few directions of its features (benchmarks/rank.py). Muon
    orthogonalises the step of each weight matrix (a convolution's is outputs x the rest), so that no direction is
    forgotten. Its steps are scaled to the size of Adam's, and the learning rate means the same.
    """
    if recipe.optimizer == "adam":
        return torch.optim.Adam(
            model.parameters(), lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay
        )
    logits = [weights for name, weights in model.named_parameters() if name.startswith("logits")]
    body = [weights for name, weights in model.named_parameters() if not name.startswith("logits")]
    groups: list[dict[str, Any]] = [{"params": body}, {"params": logits, "use_fallback": True}]
    return Muon(
        groups,
        lr=recipe.learning_rate, momentum=0.95, nesterov=True, betas=recipe.betas, weight_decay=recipe.weight_decay,
        ns_steps=_ITERATIONS, ns_coefficients=_COEFFICIENTS, adjust_lr_fn="match_rms_adamw",
        fallback_lr_scale=_ADAM_SHARE,
    )  # fmt: skip
