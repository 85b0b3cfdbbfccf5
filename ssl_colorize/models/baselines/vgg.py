"""The convolutions of VGG-16 (Simonyan and Zisserman 2014), which both baselines stand on."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_colorize.color import lightness_to_gray
from ssl_colorize.errors import UserError, one_line
from ssl_colorize.models.registry import ColorizationModel

# Channels and number of the 3x3 convolutions of each block; between blocks, maxima over 2 x 2.
BLOCKS = {"conv1": (64, 2), "conv2": (128, 2), "conv3": (256, 3), "conv4": (512, 3), "conv5": (512, 3)}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VGG16(ColorizationModel):
    """A colorization network that begins with blocks of VGG-16. Subclasses add the rest.

    Args:
        width: factor on every hidden width.
        outputs: the network's output channels.
        inputs: its input channels.
        blocks: how many of the five blocks.
        normalized: whether BatchNorm, without scale and shift, stands before every ReLU.
    """

    has_imagenet = True

    def __init__(self, *, width: float, outputs: int, inputs: int, blocks: int, normalized: bool) -> None:
        super().__init__(width=width, outputs=outputs)
        self.blocks = tuple(BLOCKS)[:blocks]
        for number, name in enumerate(self.blocks):
            channels, convs = self.scaled(BLOCKS[name][0]), BLOCKS[name][1]
            layers: list[nn.Module] = []
            for _ in range(convs):
                layers += convolution(inputs, channels, 3, normalized=normalized)
                inputs = channels
            self.add_module(name, nn.Sequential(*layers))
            self.add_layer(name, channels, 2**number)

    def light_of(self, lightness: Tensor) -> Tensor:
        # Both baselines define gray on gamma-encoded values, and then a gray is as light as its value.
        return 100.0 * lightness_to_gray(lightness)

    def convolved(self, x: Tensor) -> Iterator[tuple[str, list[Tensor]]]:
        """Run the blocks on the input (B, inputs, H, W): each one's name, and its maps after every ReLU."""
        for name in self.blocks:
            if name != self.blocks[0]:
                x = functional.max_pool2d(x, 2)
            maps = []
            for module in self.get_submodule(name).children():
                x = module(x)
                if isinstance(module, nn.ReLU):
                    maps.append(x)
            yield name, maps

    def convolutions(self) -> list[nn.Conv2d]:
        """Those of the blocks, first to last."""
        blocks = (self.get_submodule(name) for name in self.blocks)
        return [module for block in blocks for module in block.children() if isinstance(module, nn.Conv2d)]

    def load_imagenet(self) -> tuple[str, ...]:
        """Fill the convolutions with torchvision's VGG-16, of a network of width 1.

        `initialize` leaves them alone from then on, but takes the statistics of BatchNorm, which VGG-16 has not.
        """
        self.fill(imagenet_weights())
        self.own_init = tuple(name for name, _ in self.named_children() if name in self.layers)
        return ()

    @torch.no_grad()
    def fill(self, weights: Mapping[str, Tensor]) -> None:
        """Fill the convolutions of the blocks.

        Args:
            weights: torchvision's state dict. A network of one input channel takes the sum of the three, each over its
                deviation: what they make of a gray photo but for a constant.
        """
        keys = [key.removesuffix(".weight") for key in weights if key.startswith("features.") and "weight" in key]
        # Fewer blocks than VGG-16 has leave the last ones over.
        for conv, key in zip(self.convolutions(), keys, strict=False):
            fill(conv, weights, key)


def unit_range(rgb: Tensor) -> Tensor:
    """RGB as uint8 in 0..255, or as floats in [0, 1], in float32 in [0, 1]."""
    return rgb.float() / 255.0 if rgb.dtype == torch.uint8 else rgb.float()


def fill(conv: nn.Conv2d, weights: Mapping[str, Tensor], key: str) -> None:
    """Copy a layer of torchvision's VGG-16 into a convolution."""
    kernel = weights[f"{key}.weight"]
    if kernel.shape[1] == 3 and conv.in_channels == 1:
        kernel = (kernel / kernel.new_tensor(IMAGENET_STD).view(1, 3, 1, 1)).sum(1, keepdim=True)
    assert conv.bias is not None
    conv.weight.copy_(kernel.view_as(conv.weight))
    conv.bias.copy_(weights[f"{key}.bias"])


def imagenet_weights() -> dict[str, Tensor]:
    """torchvision's VGG-16 of ImageNet's labels, from its cache or the internet.

    Raises:
        UserError: they cannot be had.
    """
    # Slow to import.
    from torchvision.models import VGG16_Weights

    try:
        weights: dict[str, Tensor] = VGG16_Weights.IMAGENET1K_V1.get_state_dict(progress=False)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"torchvision cannot fetch ImageNet's VGG-16 ({one_line(error)}): put the file of "
            f"{VGG16_Weights.IMAGENET1K_V1.url} into {Path(torch.hub.get_dir()) / 'checkpoints'}, "
            "or train the trunk too: --set trunk=scratch."
        ) from None
    return weights


class Conv2d(nn.Conv2d):
    """A convolution that keeps the size, and leaves out the taps that meet nothing but padding: fc6's on small maps."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_exporting():
            # An exported graph knows no sizes.
            return super().forward(x)
        reach = [min(side - 1, kernel // 2) for side, kernel in zip(x.shape[2:], self.kernel_size, strict=True)]
        taps = [slice(kernel // 2 - r, kernel // 2 + r + 1) for r, kernel in zip(reach, self.kernel_size, strict=True)]
        return functional.conv2d(x, self.weight[:, :, taps[0], taps[1]], self.bias, padding=reach)


def convolution(inputs: int, channels: int, kernel: int, *, normalized: bool) -> Sequence[nn.Module]:
    """A convolution that keeps the size, BatchNorm without scale and shift if normalized, and ReLU."""
    norm = [nn.BatchNorm2d(channels, affine=False)] if normalized else []
    # BatchNorm takes the bias out again; VGG-16's own weights have one, and so have all networks here.
    return [Conv2d(inputs, channels, kernel, padding=kernel // 2), *norm, nn.ReLU()]
