"""From a backbone's maps to those that a head reads: its only one, or a feature pyramid over several strides."""

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from ssl_colorize.encoder import Encoder
from ssl_colorize.finetune.annotated_task import strides
from ssl_colorize.finetune.norm import ChannelNorm

CHANNELS = 256  # of a pyramid's maps (Lin et al. 2017)


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
