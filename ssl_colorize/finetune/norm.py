"""What stands between a trunk and a new head."""

from torch import Tensor, nn

# Share of a batch in running statistics, once they have settled.
_MOMENTUM = 0.1


class ChannelNorm(nn.Module):
    """Maps (B, C, h, w) to mean 0 and variance 1 by channel, with nothing that learns.

    Features come in any scale, and a few channels may outweigh all others; a new head learns from all of them alike. It
    is what the probe of frozen features does as well (Zhang et al. 2016, section 3.2).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        # A module of its own, of which several processes make one.
        # Untrained networks' features may be tiny, and a larger epsilon would keep them so.
        self.norm = nn.BatchNorm2d(channels, affine=False, eps=1e-8)
        self._settled = False

    def forward(self, x: Tensor) -> Tensor:
        # Reading the count makes a GPU wait, so it ends with the first batches.
        if self.training and not self._settled:
            # They count alike: with a tenth each, the statistics would take dozens of steps to settle.
            assert self.norm.num_batches_tracked is not None
            share = 1 / (1 + int(self.norm.num_batches_tracked))
            self.norm.momentum, self._settled = max(_MOMENTUM, share), share <= _MOMENTUM
        normalized: Tensor = self.norm(x.float())
        return normalized
