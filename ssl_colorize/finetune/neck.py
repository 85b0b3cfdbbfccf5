"""From a backbone's maps to those that a head reads: normalized, and of several strides a feature pyramid."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from ssl_colorize.encoder import Encoder
from ssl_colorize.errors import UserError
from ssl_colorize.models.registry import FeatureInfo

# Share of a batch in running statistics, once they have settled.
_MOMENTUM = 0.1

CHANNELS = 256  # of a pyramid's maps (Lin et al. 2017)


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


class Pyramid(nn.Module):
    """A backbone's maps, finest first; of several a feature pyramid.

    Attributes:
        out_channels: of every map.
        strides: of each map in pixels.
    """

    def __init__(self, backbone: Encoder, *, normalize: bool | None, coarser: bool = False) -> None:
        """Make what stands between a backbone and a head.

        Args:
            normalize: bring the backbone's maps to mean 0 and variance 1 by channel (`ChannelNorm`); None does so with
                a single one, since a pyramid has convolutions of its own for each.
            coarser: add a map at twice the stride of the coarsest to a pyramid.
        """
        super().__init__()
        self.backbone = backbone
        if normalize is None:
            normalize = len(backbone.feature_info) == 1
        # In a list, since names of layers may hold dots.
        self.norms = nn.ModuleList(
            ChannelNorm(info["num_chs"]) if normalize else nn.Identity() for info in backbone.feature_info
        )
        self.strides = strides(backbone.feature_info)
        channels = [info["num_chs"] for info in backbone.feature_info]
        self.out_channels = channels[0]
        self.fuse: FeaturePyramidNetwork | None = None
        if len(channels) > 1:
            self.out_channels = CHANNELS
            self.fuse = FeaturePyramidNetwork(channels, CHANNELS, LastLevelMaxPool() if coarser else None)
            self.strides += [2 * self.strides[-1]] if coarser else []

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the maps, finest first."""
        return (*self.backbone.layers, *(("pool",) if len(self.strides) > len(self.backbone.layers) else ()))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """RGB (B, 3, H, W) as the backbone takes it -> maps (B, out_channels, h, w) float32 by name."""
        found = self.backbone(images).items()
        maps: dict[str, Tensor] = OrderedDict(
            (name, norm(x)) for norm, (name, x) in zip(self.norms, found, strict=True)
        )
        if self.fuse is not None:
            maps = self.fuse(maps)
        # Boxes need more digits than bfloat16 has.
        return OrderedDict((name, x.float()) for name, x in maps.items())


def strides(info: Sequence[FeatureInfo]) -> list[int]:
    """The strides of the layers that a head reads.

    Raises:
        UserError: two of them are the same, so that there is nothing to fuse them by.
    """
    found = [each["reduction"] for each in info]
    if sorted(set(found)) != found:
        named = ", ".join(f"{each['module']} (stride {each['reduction']})" for each in info)
        raise UserError(f"Setting layers: a pyramid takes one layer of each stride, finest first, not {named}.")
    return found
