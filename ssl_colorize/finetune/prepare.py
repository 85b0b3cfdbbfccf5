"""What the paper does to a network before transfer: BatchNorm folded away, layers rescaled to learn alike.

Both are for colorization networks: chains of convolutions with ReLU (and max pooling) between them.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_colorize.encoder import Encoder
from ssl_colorize.errors import UserError
from ssl_colorize.models.registry import ColorizationModel

# Random gradients that a ratio is averaged over: the first layer has few weights, and so a noisy one.
DRAWS = 16
# Below this a BatchNorm's factor counts as this, or the border, which its inverse sets, would be infinite.
_LEAST_FACTOR = 1e-6

Convolution = nn.Conv2d | nn.ConvTranspose2d


def prepare(encoder: Encoder, *, rescale: bool, lightness: Tensor | None = None, top: str | None = None) -> Encoder:
    """Fold an encoder's BatchNorm and, if asked, rescale its layers, in place.

    Args:
        encoder: of a colorization network.
        rescale: bring the layers up to `top` to learn at similar rates.
        lightness: (B, 1, H, W) in 0..100: the photos to rescale on, on the encoder's device.
        top: the deepest layer that is used, whose map stays as it is; earlier ones come out scaled.

    Raises:
        UserError: the encoder is another network, or a layer is dead on these photos.
    """
    model = encoder.trunk.colorizer
    if model is None or not model.chain:
        raise UserError(
            f"Settings rescale and batchnorm: fold are for our networks, not for {encoder.name}: leave them away."
        )
    fold_batchnorm(model)
    model.requires_grad_(False)
    if rescale:
        if lightness is None:
            raise ValueError("rescaling looks at photos")
        rescale_layers(model, lightness, top=top)
    return encoder


@torch.no_grad()
def measure_statistics(encoder: Encoder, photos: Tensor) -> None:
    """Make BatchNorm's stored statistics those of photos, in place.

    An untrained network has stored none: with means of 0 and variances of 1 its BatchNorm does nothing, and a deep
    network's maps shrink to a constant, from which nothing can be learned with frozen statistics.

    Args:
        encoder: of any kind.
        photos: (B, 3, H, W) uint8, some dozens.
    """
    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        # Of the one batch alone.
        norm.momentum, norm.training = 1.0, True
    if norms:
        encoder(photos, encoder.layers[-1:])
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum, norm.training = momentum, False


# ---- folding ---------------------------------------------------------------------------------------------------------


class Bordered(nn.Module):
    """A convolution with a constant of each of its input's channels beside its weights."""

    border: Tensor  # (C,) of the input's channels
    arguments: ClassVar[tuple[str, ...]] = (
        "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups",
    )  # fmt: skip

    @classmethod
    def of(cls, conv: Convolution, border: Tensor) -> Self:
        """The convolution with its weights, and a border."""
        options = {name: getattr(conv, name) for name in cls.arguments}
        made = cls(**options, bias=conv.bias is not None, device="meta")
        for name, parameter in conv.named_parameters():
            made.register_parameter(name, parameter)
        made.register_buffer("border", border)
        return made


class BorderedConv2d(Bordered, nn.Conv2d):
    """A convolution whose padding is the border, not zero.

    Where BatchNorm stood between ReLU and this convolution, the zeros around the map were zeros after the BatchNorm.
    Folded away, the map around them is what the BatchNorm takes to zero.
    """

    def forward(self, x: Tensor) -> Tensor:
        down, right = (int(side) for side in self.padding)
        sides = (right, right, down, down)
        outside = functional.pad(x.new_zeros(1, 1, *x.shape[-2:]), sides, value=1.0)
        # Added, since the inside is to stay as it is to the bit.
        padded = functional.pad(x, sides) + outside * self.border.view(1, -1, 1, 1)
        return functional.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class ShiftedConvTranspose2d(Bordered, nn.ConvTranspose2d):
    """A transposed convolution of its input less the border.

    Its outputs take their sums over different parts of the kernel, so the constant cannot go into the bias.
    """

    arguments: ClassVar[tuple[str, ...]] = (*Bordered.arguments, "output_padding")

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return super().forward(x - self.border.view(1, -1, 1, 1), output_size)


@torch.no_grad()
def fold_batchnorm(model: ColorizationModel) -> None:
    """Let a network compute the same maps, of the same names, without BatchNorm, in place.

    A BatchNorm right after a convolution (alexnet) goes into it. One after ReLU (eccv16) goes into the next
    convolution, whose padding changes with it (`BorderedConv2d`). What is folded are the stored statistics, so the maps
    are those of eval mode.
    """
    leaves = [(name, module) for name, module in model.eval().named_modules() if not list(module.children())]
    before: nn.Module | None = None
    waiting: nn.BatchNorm2d | None = None
    for name, module in leaves:
        if isinstance(module, nn.BatchNorm2d):
            if isinstance(before, nn.Conv2d):
                _fold_back(before, module)
            else:
                waiting = module
            model.set_submodule(name, nn.Identity())
        elif isinstance(module, Convolution) and waiting is not None:
            model.set_submodule(name, _fold_forward(module, waiting))
            waiting = None
        elif waiting is not None and not isinstance(module, nn.Identity):
            raise ValueError(f"{name} stands between a BatchNorm and the convolution to fold it into")
        before = module


def _factor_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """BatchNorm in eval mode as x -> factor * x + shift, each (C,), in double precision."""
    assert norm.running_mean is not None and norm.running_var is not None
    factor = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.affine:
        factor = factor * norm.weight.double()
    shift = -norm.running_mean.double() * factor
    return factor, shift + norm.bias.double() if norm.affine else shift


def _fold_back(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Put a BatchNorm of a convolution's output into the convolution."""
    factor, shift = _factor_and_shift(norm)
    assert conv.bias is not None
    conv.weight.copy_(conv.weight.double() * factor.view(-1, 1, 1, 1))
    conv.bias.copy_(conv.bias.double() * factor + shift)


def _fold_forward(conv: Convolution, norm: nn.BatchNorm2d) -> nn.Module:
    """A convolution that does what it did to a BatchNorm's output to the BatchNorm's input."""
    factor, shift = _factor_and_shift(norm)
    factor = torch.where(factor.abs() < _LEAST_FACTOR, _LEAST_FACTOR, factor)
    border = (-shift / factor).to(conv.weight)
    weight = conv.weight.double()
    if isinstance(conv, nn.ConvTranspose2d):
        conv.weight.copy_(weight * factor.view(-1, 1, 1, 1))
        return ShiftedConvTranspose2d.of(conv, border)
    assert conv.bias is not None and conv.groups == 1
    conv.bias.add_((weight.sum((2, 3)) @ shift).to(conv.bias))
    conv.weight.copy_(weight * factor.view(1, -1, 1, 1))
    return BorderedConv2d.of(conv, border)


# ---- rescaling -------------------------------------------------------------------------------------------------------


def gradient_ratios(
    model: ColorizationModel, lightness: Tensor, *, top: str | None = None, draws: int = DRAWS, seed: int = 0
) -> dict[str, float]:
    """How large each layer's gradient is against its weights: sqrt(mean dW^2 / mean W^2), by the convolution's name.

    Gradients are those of random normal ones, independent at every number of the topmost map (Kraehenbuehl et al.
    2016); only the ratios' relations to each other mean anything. A layer whose ratio is ten times another's learns
    ten times as fast.

    Args:
        model: in eval mode, with or without BatchNorm.
        lightness: (B, 1, H, W) in 0..100, some photos, on the model's device.
        top: the layer that the gradients come from; the logits by default.
        draws: random gradients that the squares are averaged over.
        seed: of these.
    """
    convolutions = dict(_convolutions(model, top))
    weights = [conv.weight for conv in convolutions.values()]
    before = [weight.requires_grad for weight in weights]
    generator = torch.Generator().manual_seed(seed)
    try:
        for weight in weights:
            weight.requires_grad_(True)
        with torch.enable_grad():
            output = _map(model, lightness, top)
        squares = torch.zeros(len(weights), dtype=torch.float64)
        for draw in range(draws):
            gradient = torch.randn(output.shape, generator=generator).to(output)
            found = torch.autograd.grad(output, weights, gradient, retain_graph=draw < draws - 1)
            squares += torch.stack([each.double().square().mean().cpu() for each in found])
    finally:
        for weight, learns in zip(weights, before, strict=True):
            weight.requires_grad_(learns)
    sizes = torch.stack([weight.detach().double().square().mean().cpu() for weight in weights])
    return dict(zip(convolutions, (squares / draws / sizes).sqrt().tolist(), strict=True))


@torch.no_grad()
def rescale_layers(
    model: ColorizationModel, lightness: Tensor, *, top: str | None = None, draws: int = DRAWS, seed: int = 0
) -> dict[str, float]:
    """Bring all layers to their geometric mean in `gradient_ratios`, in place; the topmost map stays as it is.

    A ReLU network does not care where a positive factor stands. A layer's weights times c make its gradient 1 / c as
    large and its ratio 1 / c^2; so c is the root of the ratio over the ratios' geometric mean, and all c multiply to 1.
    Biases and borders are scaled by what the maps that they are added to come out scaled by.

    Args:
        model: a network without BatchNorm (`fold_batchnorm`).
        lightness: as in `gradient_ratios`.
        top: the deepest layer that is used, the logits by default; what lies beyond keeps its weights, and is of no
            further use.
        draws: as in `gradient_ratios`.
        seed: likewise.

    Returns:
        What each of the network's named layers' maps come out scaled by, 1 for `top`.

    Raises:
        UserError: a layer has no gradient, which is dead on these photos.
    """
    if any(isinstance(module, _BatchNorm) for module in model.modules()):
        raise ValueError("fold BatchNorm first: it undoes what scaling the layer before it does")
    ratios = gradient_ratios(model, lightness, top=top, draws=draws, seed=seed)
    dead = [name for name, ratio in ratios.items() if not 0 < ratio < float("inf")]
    if dead:
        raise UserError(f"Setting rescale: layer {dead[0]} of {model.name} has no gradient on these photos: set false.")
    logs = torch.tensor(list(ratios.values()), dtype=torch.float64).log()
    factors = ((logs - logs.mean()) / 2).exp().tolist()
    scale, scales = 1.0, {}
    for factor, (name, conv) in zip(factors, _convolutions(model, top), strict=True):
        if isinstance(conv, Bordered):
            conv.border.mul_(scale)
        scale *= factor
        conv.weight.mul_(factor)
        assert conv.bias is not None
        conv.bias.mul_(scale)
        scales[name.partition(".")[0]] = scale
    return {layer: scales[layer] for layer in (*model.layers, "logits") if layer in scales}


def _convolutions(model: ColorizationModel, top: str | None) -> Iterator[tuple[str, Convolution]]:
    """A network's convolutions in the order they run, up to those of layer `top`."""
    names: Sequence[str] = [name for name, _ in model.named_children()]
    reached = names[: names.index(top or "logits") + 1]
    for name, module in model.named_modules():
        if isinstance(module, Convolution) and name.partition(".")[0] in reached:
            yield name, module


def _map(model: ColorizationModel, lightness: Tensor, top: str | None) -> Tensor:
    return model(lightness) if top in (None, "logits") else model.forward_features(lightness, (str(top),))[str(top)]
