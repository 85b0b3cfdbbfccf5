"""Networks that give every pixel a class: a head with context at the trunk's stride, and the paper's FCN-32s."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_colorize.encoder import Encoder
from ssl_colorize.errors import UserError
from ssl_colorize.finetune.config import SegmentationSettings
from ssl_colorize.finetune.neck import Pyramid

# Reach of the head's three views in cells: with the pooled one they see an object, its surroundings and the scene.
_DILATIONS = (1, 4, 8)
_GROUPS = 8  # of GroupNorm, which unlike BatchNorm does the same to a photo whatever else is in the batch


class Segmenter(nn.Module):
    """RGB photos (B, 3, H, W), uint8, to logits (B, classes, H, W)."""

    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features, self.head = features, head

    def forward(self, photos: Tensor) -> Tensor:
        """Logits at the photos' own resolution."""
        return functional.interpolate(self.coarse(photos), photos.shape[-2:], mode="bilinear", align_corners=False)

    def coarse(self, photos: Tensor) -> Tensor:
        """Logits (B, classes, h, w) float32 at the head's stride."""
        logits: Tensor = self.head(self.features(photos))
        return logits.float()


class FinestMap(nn.Module):
    """A backbone's map, or the finest of its pyramid, to which the coarser ones have been added."""

    def __init__(self, backbone: Encoder, *, normalize: bool | None) -> None:
        super().__init__()
        self.pyramid = Pyramid(backbone, normalize=normalize)
        self.out_channels = self.pyramid.out_channels

    def forward(self, photos: Tensor) -> Tensor:
        return self.pyramid(photos)[self.pyramid.names[0]]  # type: ignore[no-any-return]


class ContextHead(nn.Module):
    """Three dilated 3x3 convolutions and the map's mean beside each other, then 1x1 convolutions (Chen et al. 2017)."""

    def __init__(self, channels: int, classes: int, *, hidden: int, dropout: float) -> None:
        super().__init__()
        self.views = nn.ModuleList(
            _block(nn.Conv2d(channels, hidden, 3, padding=reach, dilation=reach, bias=False), hidden)
            for reach in _DILATIONS
        )
        self.scene = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, hidden, 1), nn.ReLU())
        total = (len(_DILATIONS) + 1) * hidden
        self.joined = _block(nn.Conv2d(total, hidden, 1, bias=False), hidden)
        self.classify = nn.Sequential(nn.Dropout(dropout), nn.Conv2d(hidden, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) -> logits (B, classes, h, w)."""
        views = [view(x) for view in self.views]
        scene = self.scene(x).expand(-1, -1, *x.shape[-2:])
        return self.classify(self.joined(torch.cat((*views, scene), dim=1)))  # type: ignore[no-any-return]


def _block(conv: nn.Conv2d, channels: int) -> nn.Sequential:
    # Untrained networks' features may be tiny, and a larger epsilon would keep them so.
    return nn.Sequential(conv, nn.GroupNorm(_GROUPS, channels, eps=1e-8), nn.ReLU())


class TopMap(nn.Module):
    """The deepest of a backbone's maps."""

    def __init__(self, backbone: Encoder) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, photos: Tensor) -> Tensor:
        return self.backbone(photos)[self.backbone.layers[-1]]  # type: ignore[no-any-return]


def make_segmenter(backbone: Encoder, settings: SegmentationSettings, *, classes: int) -> Segmenter:
    """A segmenter with a new head: one with context at the backbone's stride, or the paper's.

    Raises:
        UserError: the settings do not fit each other or the network.
    """
    if settings.head == "fcn32s":
        return _fcn_32s(backbone, classes, dropout=settings.dropout)
    if settings.hidden % _GROUPS:
        raise UserError(f"Setting hidden: {settings.hidden} is no multiple of {_GROUPS}.")
    features = FinestMap(backbone, normalize=settings.normalize)
    head = ContextHead(features.out_channels, classes, hidden=settings.hidden, dropout=settings.dropout)
    return Segmenter(features, head)


def _fcn_32s(backbone: Encoder, classes: int, *, dropout: float) -> Segmenter:
    """The paper's: a linear classifier on fc7 at stride 32, enlarged bilinearly (Long et al. 2015)."""
    model = backbone.trunk.colorizer
    if model is None or backbone.layers[-1:] != model.fully_connected[-1:]:
        raise UserError(f"Setting head: fcn32s is for fc7 of our alexnet, not for {backbone.name}: use context.")
    model.lay_out_at_stride_32()
    score = nn.Conv2d(backbone.feature_info[-1]["num_chs"], classes, 1)
    # As in the paper, all classes score alike at first.
    nn.init.zeros_(score.weight)
    return Segmenter(TopMap(backbone), nn.Sequential(nn.Dropout(dropout), score))
