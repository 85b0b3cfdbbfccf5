"""An encoder's trunk that learns on, from a layer of choice."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_colorize.encoder import Encoder
from ssl_colorize.errors import UserError
from ssl_colorize.models.backbone import parameters_behind
from ssl_colorize.models.registry import FeatureInfo
from ssl_colorize.models.trunks import ColorizationTrunk, ColorTrunk, Trunk

BatchNormMode = Literal["frozen", "train"]

# Names of `train_from` that are no layer.
ALL, HEAD = "all", "head"
# Pixels a side of the photo that shows which layer depends on which parameters.
_GRAPH_SIDE = 64


class Backbone(nn.Module):
    """Photos in, feature maps by layer out; layers from `train_from` on learn, those before it never change.

    No graph is recorded for the layers before `train_from`, as none of their parameters takes gradients, and they stay
    in eval mode. Parameters that no chosen layer depends on (the decoder) take no gradients either.

    Attributes:
        trunk: the network; its photos are prepared as the encoder's are.
        layers: the layers that `forward` gives, first to last.
        feature_info: `num_chs`, `reduction` (stride) and `module` (name) of each of `layers`, in order.
        input_size: short side in pixels of photos as the network saw them in training.
        trained: names of the layers that learn, of all of the trunk's up to the deepest of `layers`.
    """

    def __init__(
        self,
        encoder: Encoder,
        layers: Sequence[str],
        *,
        train_from: str = ALL,
        color: bool | None = None,
        batchnorm: BatchNormMode = "frozen",
    ) -> None:
        """Take over an encoder's trunk, which changes: the encoder is used up.

        Args:
            encoder: of any kind; BatchNorm folded and layers rescaled already, if that is wanted (see `prepare`).
            layers: those that `forward` gives.
            train_from: the first layer that learns, "all", or "head" for none.
            color: True gives a colorization network the colors as well, by weights that start at zero, so that it
                computes the same as before; other networks see them if they were trained on them. None changes nothing.
            batchnorm: of the layers that learn: "frozen" keeps the stored statistics (scale and shift learn), "train"
                uses each batch's. Layers that do not learn always use the stored ones.

        Raises:
            UserError: there is no such layer, `train_from` lies beyond the deepest of `layers`, or color cannot be
                had.
        """
        super().__init__()
        self.layers = encoder.choose(layers)
        self.name, self.trunk = encoder.name, encoder.trunk
        self.input_size = self.trunk.input_size
        self.batchnorm = batchnorm
        known = [info["module"] for info in self.trunk.feature_info]
        self.trained = self._layers_from(train_from, known[: known.index(self.layers[-1]) + 1])
        self.feature_info: list[FeatureInfo] = [
            info for info in self.trunk.feature_info if info["module"] in self.layers
        ]
        _choose_color(self.trunk, color, name=self.name)
        owners = layer_parameters(self.trunk, known[: known.index(self.layers[-1]) + 1])
        for name, parameter in self.trunk.named_parameters():
            parameter.requires_grad_(owners.get(name) in self.trained)
        # Names, since other modules may take the place of these (BatchNorm over several processes) or join them.
        self._moving = self._places_that_learn(owners)
        self.train(False)

    def _layers_from(self, first: str, reachable: Sequence[str]) -> tuple[str, ...]:
        if first in (ALL, HEAD):
            return tuple(reachable) if first == ALL else ()
        if first not in reachable:
            known = ", ".join((ALL, *reachable, HEAD))
            raise UserError(f"Setting train_from: no layer {first!r} that the head depends on: choose from {known}.")
        return tuple(reachable[reachable.index(first) :])

    def _places_that_learn(self, owners: Mapping[str, str]) -> tuple[str, ...]:
        """What the names begin with of modules that train mode is for: all in a place of which all that can learns.

        Dropout and BatchNorm without scale have no parameters of their own, and follow what is around them.
        """
        if is_chain(self.trunk):
            return tuple(f"model.{layer}." for layer in self.trained)
        learning = {name.rpartition(".")[0] for name, owner in owners.items() if owner in self.trained}
        still = {name.rpartition(".")[0] for name, _ in self.trunk.named_parameters()} - learning
        around = {name[:end] for name in learning for end, sign in enumerate(name) if sign == "."}
        whole = {name for name in around if not any(each.startswith(f"{name}.") for each in still)}
        return tuple(f"{name}." for name in learning | whole)

    def train(self, mode: bool = True) -> Self:
        """Train mode for the layers that learn, and for their BatchNorm only if its statistics are to move."""
        super().train(mode)
        for name, module in self.trunk.named_modules():
            frozen = isinstance(module, _BatchNorm) and self.batchnorm == "frozen"
            module.training = mode and f"{name}.".startswith(self._moving) and not frozen
        return self

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Feature maps after ReLU.

        Args:
            images: RGB (B, 3, H, W), uint8 or floats in [0, 1]; or L (B, 1, H, W), floats in 0..100. Any H and W, as
                for `Encoder`.

        Returns:
            (B, C, h, w) float32 (also under autocast) by the names in `layers`, first to last.
        """
        return self.trunk.features(images, self.layers)

    def learning(self) -> list[tuple[str, nn.Parameter]]:
        """The parameters that learn, by name."""
        return [(name, parameter) for name, parameter in self.named_parameters() if parameter.requires_grad]


class ColorStem(nn.Module):
    """A first convolution that sees ab beside L: its weights for ab start at zero.

    Two convolutions and their sum, rather than one with three input channels, so that the output of a zero ab stem is
    the gray one's to the bit.
    """

    def __init__(self, gray: nn.Conv2d) -> None:
        super().__init__()
        self.gray = gray
        # A copy, since timm has convolutions of its own kinds.
        self.ab = copy.deepcopy(gray)
        self.ab.in_channels, self.ab.bias = 2, None
        self.ab.weight = nn.Parameter(gray.weight.new_zeros(gray.out_channels, 2, *gray.kernel_size))

    def forward(self, lab: Tensor) -> Tensor:
        """Lab (B, 3, H, W), normalized -> (B, C, h, w)."""
        total: Tensor = self.gray(lab[:, :1]) + self.ab(lab[:, 1:])
        return total


def _choose_color(trunk: Trunk, color: bool | None, *, name: str) -> None:
    """Make a trunk see color, or only light.

    Raises:
        UserError: it cannot.
    """
    if isinstance(trunk, ColorizationTrunk):
        if color and not trunk.color:
            trunk.color = True
            first, conv = next((name, each) for name, each in trunk.named_modules() if isinstance(each, nn.Conv2d))
            if conv.in_channels != 1:
                raise UserError(f"Setting color: {name} sees light by more than one convolution: leave color away.")
            stem = ColorStem(conv).to(conv.weight.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            trunk.set_submodule(first, stem)
    elif isinstance(trunk, ColorTrunk) and color is not None and color == trunk.lightness_only:
        plain = name.removesuffix("@L")
        wanted = f"--encoder {plain} sees color" if color else f"--encoder {plain}@L sees none"
        raise UserError(f"Setting color: {name} sees {'lightness alone' if color else 'color'}; {wanted}.")


def is_chain(trunk: Trunk) -> bool:
    """Whether the trunk is a colorization network whose layers are modules that run one after the other."""
    return isinstance(trunk, ColorizationTrunk) and trunk.model.chain


def layer_parameters(trunk: Trunk, layers: Sequence[str]) -> dict[str, str]:
    """The layer that each parameter belongs to: the first one, of `layers` in order, that depends on it.

    The layers of our chains are their modules of that name; of other networks autograd tells. Parameters that no layer
    depends on are left out.
    """
    reached = _reached_parameters(trunk, layers)
    if is_chain(trunk):
        return {name: name.split(".")[1] for name in reached}
    return reached


def _reached_parameters(trunk: Trunk, layers: Sequence[str]) -> dict[str, str]:
    """Which parameters each layer's graph ends in, found on an empty photo."""
    names = {id(parameter): name for name, parameter in trunk.named_parameters()}
    before = {parameter: parameter.requires_grad for parameter in trunk.parameters()}
    side = _GRAPH_SIDE if isinstance(trunk, ColorizationTrunk) else trunk.input_size
    owners: dict[str, str] = {}
    seen: set[Any] = set()
    try:
        trunk.requires_grad_(True)
        photo = torch.zeros(1, 3, side, side, device=next(trunk.parameters()).device)
        with torch.enable_grad():
            maps = trunk.features(photo, list(layers))
        for layer in layers:
            for parameter in parameters_behind(maps[layer], seen):
                owners[names[id(parameter)]] = layer
    finally:
        for parameter, learns in before.items():
            parameter.requires_grad_(learns)
    return owners
