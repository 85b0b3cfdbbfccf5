"""The colorization network of Zhang, Isola, Efros (ECCV 2016), supplementary table: eight blocks without pooling."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ssl_colorize.models.registry import ColorizationModel, centered, register_model


@dataclass(frozen=True)
class Block:
    """3x3 convolutions each with ReLU, the last with the block's stride; BatchNorm after the last ReLU."""

    channels: int
    convs: int
    stride: int = 1
    dilation: int = 1


BLOCKS = {
    "conv1": Block(64, 2, stride=2),
    "conv2": Block(128, 2, stride=2),
    "conv3": Block(256, 3, stride=2),
    "conv4": Block(512, 3),
    "conv5": Block(512, 3, dilation=2),
    "conv6": Block(512, 3, dilation=2),
    "conv7": Block(512, 3),
}
DECODER_CHANNELS = 256


@register_model("eccv16")
class ECCV16(ColorizationModel):
    """L (B, 1, H, W) in 0..100 -> logits (B, outputs, H/4, W/4) for H and W that are multiples of 8.

    Args:
        width: factor on every hidden width; 1 is the paper's (32.2 M parameters), 0.5 a quarter of its cost.
        outputs: 313 for the bins, 2 for regression of ab.
    """

    target_stride = 4
    multiple = 8

    def __init__(self, *, width: float = 1.0, outputs: int = 313) -> None:
        super().__init__(width=width, outputs=outputs)
        previous, reduction = self.channels, 1
        for name, block in BLOCKS.items():
            channels = self.scaled(block.channels)
            self.add_module(name, _make_block(previous, channels, block))
            previous, reduction = channels, reduction * block.stride
            self.add_layer(name, channels, reduction)
        hidden = self.scaled(DECODER_CHANNELS)
        self.conv8 = nn.Sequential(
            nn.ConvTranspose2d(previous, hidden, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.ReLU(),
        )
        self.logits = nn.Conv2d(hidden, outputs, 1)

    @staticmethod
    def normalize(light: Tensor) -> Tensor:
        return centered(light) / 100.0

    def stages(self, lightness: Tensor) -> Iterator[tuple[str, Tensor]]:
        x = self.prepared(lightness)
        for name in self.layers:
            block = self.get_submodule(name)
            assert isinstance(block, nn.Sequential)
            *convs, norm = block
            for layer in convs:
                x = layer(x)
            # Features are read after the ReLU, before the BatchNorm that prepares the next block's input.
            yield name, x
            x = norm(x)
        yield "logits", self.logits(self.conv8(x))


def _make_block(inputs: int, channels: int, block: Block) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index in range(block.convs):
        stride = block.stride if index == block.convs - 1 else 1
        layers.append(nn.Conv2d(inputs, channels, 3, stride=stride, padding=block.dilation, dilation=block.dilation))
        layers.append(nn.ReLU())
        inputs = channels
    return nn.Sequential(*layers, nn.BatchNorm2d(channels))


def released_keys() -> dict[str, str]:
    """The keys of the authors' published state dict -> the keys here. `model_out.weight` (the decoding) has none."""
    keys: dict[str, str] = {}
    for number, (name, block) in enumerate(BLOCKS.items(), start=1):
        keys |= _renamed(f"model{number}", name, range(0, 2 * block.convs, 2), ("weight", "bias"))
        norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        keys |= _renamed(f"model{number}", name, [2 * block.convs], norm)
    keys |= _renamed("model8", "conv8", [0, 2, 4], ("weight", "bias"))
    return keys | {"model8.6.weight": "logits.weight", "model8.6.bias": "logits.bias"}


def _renamed(old: str, new: str, indices: Sequence[int], parts: Sequence[str]) -> dict[str, str]:
    return {f"{old}.{index}.{part}": f"{new}.{index}.{part}" for index in indices for part in parts}
