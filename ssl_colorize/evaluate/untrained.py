"""The row that every figure stands beside: the same network, before it learned anything."""

from ssl_colorize.encoder import Encoder
from ssl_colorize.models.trunks import ColorizationTrunk

# Kinds of sources whose weights are drawn from the seed.
DRAWN = ("random", "kmeans", "timm-random")


def untrained_twin(encoder: Encoder) -> str | None:
    """The source of the same architecture with random weights, as `load_encoder` takes it.

    None if the encoder is that network itself, or if there is no way to have it without its weights.
    """
    kind, _, rest = encoder.name.partition(":")
    if isinstance(encoder.trunk, ColorizationTrunk):
        model = encoder.trunk.model
        return None if kind == "random" else f"random:{model.name}@{model.width:g}"
    return f"timm-random:{rest}" if kind == "timm" else None
