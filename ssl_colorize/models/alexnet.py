"""The transfer network of the paper's feature evaluation (section 3.2): AlexNet on lightness, fully convolutional."""

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from ssl_colorize.models.registry import ColorizationModel, centered, register_model


@register_model("alexnet")
class AlexNet(ColorizationModel):
    """L (B, 1, H, W) in 0..100 -> logits (B, outputs, H/8, W/8), rounded up.

    No local response normalization; BatchNorm without scale and shift between each convolution and its ReLU. The
    logits, at stride 16, are resized bilinearly to stride 8.

    Args:
        width: factor on every hidden width.
        outputs: 313 for the bins, 2 for regression of ab.
    """

    target_stride = 8
    multiple = 1
    fully_connected: ClassVar[tuple[str, ...]] = ("fc6", "fc7")
    head_name: ClassVar[str] = "fc8"

    def __init__(self, *, width: float = 1.0, outputs: int = 313) -> None:
        super().__init__(width=width, outputs=outputs)
        c1, c2, c3, c4, c5, c6, c7 = (self.scaled(c) for c in (96, 256, 384, 384, 256, 4096, 4096))
        self.conv1 = _conv(self.channels, c1, 11, stride=4, padding=5)
        self.pool1 = nn.MaxPool2d(3, 2, padding=1)
        self.conv2 = _conv(c1, c2, 5, padding=2, groups=2)
        self.pool2 = nn.MaxPool2d(3, 2, padding=1)
        self.conv3 = _conv(c2, c3, 3, padding=1)
        self.conv4 = _conv(c3, c4, 3, padding=1, groups=2)
        self.conv5 = _conv(c4, c5, 3, padding=1, groups=2)
        self.pool5 = nn.MaxPool2d(3, 1, padding=1)
        self.fc6 = _conv(c5, c6, 6, padding=5, dilation=2)
        self.fc7 = _conv(c6, c7, 1)
        self.logits = nn.Conv2d(c7, outputs, 1)
        for name, channels, reduction in (
            ("conv1", c1, 4), ("conv2", c2, 8), ("conv3", c3, 16), ("conv4", c4, 16), ("conv5", c5, 16),
            ("fc6", c6, 16), ("fc7", c7, 16),
        ):  # fmt: skip
            self.add_layer(name, channels, reduction)

    @staticmethod
    def normalize(light: Tensor) -> Tensor:
        return centered(light)

    def stages(self, lightness: Tensor) -> Iterator[tuple[str, Tensor]]:
        x = self.prepared(lightness)
        for name, module in self.named_children():
            x = module(x)
            if name == "logits":
                size = [-(-side // self.target_stride) for side in lightness.shape[-2:]]
                x = functional.interpolate(x, size, mode="bilinear", align_corners=False)
            if not name.startswith("pool"):
                yield name, x

    def lay_out_for_window(self, *, dropout: float) -> None:
        """No padding, and fc6 on all of pool5's map, as the paper fine-tunes it.

        Of 227 pixels conv1 makes 55 cells, the pools 27, 13 and 6, and fc6 one.
        """
        for conv in (*_convolutions(self.conv1), *_convolutions(self.fc6)):
            conv.padding, conv.dilation = (0, 0), (1, 1)
        for pool in (self.pool1, self.pool2, self.pool5):
            pool.padding, pool.stride = 0, 2
        for block in (self.fc6, self.fc7):
            block.append(nn.Dropout(dropout))

    def lay_out_at_stride_32(self) -> None:
        """The network keeps stride 16 by leaving pool5 at stride 1 and spreading fc6; both go back."""
        for conv in _convolutions(self.fc6):
            conv.padding, conv.dilation = (0, 0), (1, 1)
        # The cell that six cells make lies half a cell to the right of the third, which is where the photo has it.
        self.pool5 = nn.Sequential(nn.MaxPool2d(3, 2, padding=1), nn.ZeroPad2d((2, 3, 2, 3)))  # type: ignore[assignment]
        for info in self.feature_info:
            if info["module"] in self.fully_connected:
                info["reduction"] = 32


def _convolutions(block: nn.Module) -> list[nn.Conv2d]:
    return [module for module in block.modules() if isinstance(module, nn.Conv2d)]


def _conv(
    inputs: int, channels: int, kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1, groups: int = 1
) -> nn.Sequential:
    # BatchNorm takes the mean out again, but it is folded into the convolution before transfer and needs its bias then.
    return nn.Sequential(
        nn.Conv2d(inputs, channels, kernel, stride, padding, dilation, groups),
        nn.BatchNorm2d(channels, affine=False),
        nn.ReLU(),
    )
