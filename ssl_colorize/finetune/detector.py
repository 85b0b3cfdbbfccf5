"""Faster R-CNN and Fast R-CNN of torchvision's parts on our backbones."""

import copy
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign

from ssl_colorize.data.transforms import PADDING
from ssl_colorize.encoder import Encoder
from ssl_colorize.finetune.config import DetectionSettings
from ssl_colorize.finetune.neck import Pyramid

# Anchors from an eighth of the photo's short side to all of it, each in three shapes.
_SMALLEST, _ANCHOR_SIZES, _ASPECTS = 1 / 8, 4, (0.5, 1.0, 2.0)
_CELLS = 7  # a region is pooled to so many cells a side
_GRAY = PADDING / 255
_LEAST_SCORE = 0.01  # detections below are dropped

# Regions that the proposal network passes on (Ren et al. 2015, with fewer in training, as photos here are smaller).
_PROPOSALS = {
    "rpn_pre_nms_top_n_train": 1000,
    "rpn_pre_nms_top_n_test": 1000,
    "rpn_post_nms_top_n_train": 500,
    "rpn_post_nms_top_n_test": 300,
}


class Detector(nn.Module):
    """Photos in, boxes out.

    In train mode it gives the losses of regions and boxes, in eval mode the detections.
    """

    def __init__(self, backbone: Encoder, settings: DetectionSettings, *, classes: int, size: int) -> None:
        """A detector with a new head.

        Args:
            backbone: whose maps it reads.
            settings: with proposals, regions come with the photos (Fast R-CNN) instead of from the network.
            classes: kinds of objects.
            size: short side of photos in pixels, which the anchors are made for.
        """
        super().__init__()
        self.given_proposals = settings.proposals is not None
        head = _own_layers(backbone, settings.dropout) if settings.reuse_fc else None
        # The network's own layers want its maps as they were.
        normalize = settings.normalize if head is None else False
        maps = _Centered(Pyramid(backbone, normalize=normalize, coarser=not self.given_proposals))
        cells = _CELLS if head is None else head.cells
        inner = nn.Sequential(TwoMLPHead(maps.out_channels * cells**2, settings.hidden), nn.Dropout(settings.dropout))
        anchors = _anchors(maps.pyramid, size)
        self.network = FasterRCNN(
            maps,
            rpn_anchor_generator=anchors,
            rpn_head=_Float32RPNHead(maps.out_channels, anchors.num_anchors_per_location()[0]),
            box_roi_pool=MultiScaleRoIAlign(list(backbone.layers), output_size=cells, sampling_ratio=2),
            box_head=inner if head is None else head,
            box_predictor=_Float32Predictor(settings.hidden if head is None else head.out_channels, classes + 1),
            box_batch_size_per_image=settings.regions,
            box_score_thresh=_LEAST_SCORE,
            box_nms_thresh=settings.nms,
            box_detections_per_img=settings.detections,
            **_PROPOSALS,
        )
        # Anchors are laid out by a whole number of pixels a cell.
        cell = max(info["reduction"] for info in backbone.feature_info)
        self.network.transform = _AsGiven(max(cell, backbone.trunk.multiple))
        if self.given_proposals:
            self.network.rpn = _GivenProposals()

    def forward(self, photos: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Losses by name in train mode; in eval mode a dict for each photo.

        Args:
            photos: (3, H, W) uint8 each.
            targets: for each photo "boxes" (K, 4) and "labels" (K,), which count from 1; and "proposals" (P, 4), also
                in eval mode, where they are given.

        Returns:
            In eval mode "boxes" (D, 4) in pixels, "labels" (D,) from 1 and "scores" (D,), the surest first.
        """
        return self.network([photo.float() / 255 for photo in photos], targets)


class _AsGiven(GeneralizedRCNNTransform):  # type: ignore[misc]
    """Puts photos of any size into a batch. They come resized, boxes with them."""

    def __init__(self, size_divisible: int) -> None:
        # What is padded with zeros is gray after _Centered.
        super().__init__(1, 1, [_GRAY] * 3, [1.0] * 3, size_divisible=size_divisible)

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        return image, target


class _Centered(nn.Module):
    """Adds the gray again that `_AsGiven` took off, before a backbone that wants RGB in [0, 1]."""

    def __init__(self, pyramid: Pyramid) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.out_channels = pyramid.out_channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.pyramid((images + _GRAY).clamp(0, 1))  # type: ignore[no-any-return]


def _anchors(pyramid: Pyramid, size: int) -> AnchorGenerator:
    """All sizes on the only map, or a size on each map of a pyramid."""
    count = len(pyramid.strides)
    sizes = np.geomspace(_SMALLEST, 1.0, _ANCHOR_SIZES if count == 1 else count) * size
    whole = tuple(round(float(each)) for each in sizes)
    return AnchorGenerator((whole,) if count == 1 else tuple((each,) for each in whole), (_ASPECTS,) * count)


class _Float32RPNHead(RPNHead):  # type: ignore[misc]
    """Under autocast too: offsets of boxes need more digits than bfloat16 has."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        logits, offsets = super().forward(x)
        return [each.float() for each in logits], [each.float() for each in offsets]


class _Float32Predictor(FastRCNNPredictor):  # type: ignore[misc]
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores, offsets = super().forward(x)
        return scores.float(), offsets.float()


class _GivenProposals(nn.Module):
    """Takes the place of the network that proposes regions."""

    def forward(
        self, images: Any, features: Any, targets: list[dict[str, Tensor]] | None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        assert targets is not None, "Fast R-CNN needs proposals with each photo"
        return [target["proposals"] for target in targets], {}


class OwnLayers(nn.Module):
    """fc6 and fc7 of the colorization AlexNet as a box head, starting from its weights (Girshick 2015).

    Attributes:
        cells: a region is to be pooled to so many cells a side.
        out_channels: units of its output.
    """

    def __init__(self, fc6: nn.Module, fc7: nn.Module, *, dropout: float) -> None:
        super().__init__()
        self.fc6, self.fc7 = copy.deepcopy(fc6), copy.deepcopy(fc7)
        self.requires_grad_(True)
        self.dropout = nn.Dropout(dropout)
        conv = next(each for each in self.fc6.modules() if isinstance(each, nn.Conv2d))
        # On the map its cells are 2 apart; on a region's 6 x 6 it is a matrix product.
        conv.padding, conv.dilation = (0, 0), (1, 1)
        self.cells = int(conv.kernel_size[0])
        self.out_channels = next(each.out_channels for each in self.fc7.modules() if isinstance(each, nn.Conv2d))

    def train(self, mode: bool = True) -> Self:
        """BatchNorm keeps its stored statistics: those of a few regions are no good ones."""
        super().train(mode)
        for each in self.modules():
            if isinstance(each, nn.BatchNorm2d):
                each.train(False)
        return self

    def forward(self, regions: Tensor) -> Tensor:
        """(R, C, 6, 6) -> (R, out_channels)."""
        hidden = self.dropout(self.fc6(regions))
        return torch.flatten(self.dropout(self.fc7(hidden)), 1)


def _own_layers(backbone: Encoder, dropout: float) -> OwnLayers | None:
    """The network's fully connected layers as a box head, if it has any and the map is the one that they read."""
    model = backbone.trunk.colorizer
    if model is None or not model.fully_connected:
        return None
    if backbone.layers != (model.layers[model.layers.index(model.fully_connected[0]) - 1],):
        return None
    return OwnLayers(*(model.get_submodule(name) for name in model.fully_connected), dropout=dropout)
