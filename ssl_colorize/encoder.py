"""Frozen features of photos: named layers of a colorization network, or of another one to compare it with."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_colorize.data import open_photos, training_batches
from ssl_colorize.errors import UserError
from ssl_colorize.models import ColorizationModel, create_model, load_pretrained
from ssl_colorize.models.init import initialize
from ssl_colorize.models.pretrained import RELEASED_INPUT_SIZE, refuse_infinite
from ssl_colorize.models.registry import FeatureInfo
from ssl_colorize.models.source import Source
from ssl_colorize.models.trunks import ColorizationTrunk, Lite0Trunk, SplitTrunk, TimmTrunk, Trunk

Pooling = Literal["adaptive", "average", "bilinear"]
BatchNormMode = Literal["frozen", "train"]

# Names of `train_from` that are no layer.
ALL, HEAD = "all", "head"

# By this share of their range numbers may lie outside of it, which they were rounded to.
_SLACK = 1e-3
# Photos, and their side in pixels, that a data-dependent initialization looks at.
_INIT_PHOTOS, _INIT_SIDE = 32, 128


class Encoder(nn.Module):
    """Photos in, feature maps by layer name out: frozen, or learning on from a layer of choice (`trainable`).

    Frozen, nothing in it ever changes: BatchNorm always uses its stored statistics, also after `.train()`, and no
    weight takes gradients. Of one that learns the same holds for the layers before the first that does, for which no
    graph is recorded either, and for what lies beyond the deepest of `layers` (the decoder).

    Attributes:
        source: what `load_encoder` was given.
        trunk: the network.
        layers: names of the layers that `forward` gives, first to last: all, or those that `trainable` chose.
        input_size: short side in pixels of photos as the network saw them in training.
        trained: names of the layers that learn; none of a frozen one.
    """

    def __init__(self, trunk: Trunk, *, source: Source) -> None:
        super().__init__()
        self.trunk = trunk.requires_grad_(False).eval()
        # Channels last in memory, which convolutions take a fifth less time on. Not by the module's `to`, which
        # stumbles over weights of five dimensions.
        for each in (*self.trunk.parameters(), *self.trunk.buffers()):
            if each.ndim == 4:
                each.data = each.data.to(memory_format=torch.channels_last)
        self.source = source
        self.input_size = trunk.input_size
        self.layers = tuple(info["module"] for info in trunk.feature_info)
        self.trained: tuple[str, ...] = ()
        self._batchnorm: BatchNormMode = "frozen"
        # What the names of modules begin with that train mode is for. Names, since other modules may take the place of
        # these (BatchNorm over several processes) or join them.
        self._learning: tuple[str, ...] = ()
        self.training = False

    @property
    def name(self) -> str:
        """Its source, in words."""
        return str(self.source)

    @property
    def untrained(self) -> Source | None:
        """The row that its figures stand beside: the same network before it learned anything.

        None if it is that network itself, or if there is no way to have it without its weights.
        """
        return None if self.trunk.untrained == self.source else self.trunk.untrained

    @property
    def feature_info(self) -> list[FeatureInfo]:
        """`num_chs`, `reduction` (stride) and `module` (name) of each of `layers`, as in timm."""
        return [info for info in self.trunk.feature_info if info["module"] in self.layers]

    def choose(self, layers: Iterable[str] | None) -> tuple[str, ...]:
        """The named layers, first to last, each once; all if none is named.

        Raises:
            UserError: a layer is unknown.
        """
        wanted = tuple(layers or ())
        unknown = [layer for layer in wanted if layer not in self.layers]
        if unknown:
            raise UserError(f"{self.name} has no layer {unknown[0]!r}: choose from {', '.join(self.layers)}.")
        return tuple(layer for layer in self.layers if layer in wanted or not wanted)

    def trainable(
        self,
        layers: Iterable[str],
        *,
        train_from: str = ALL,
        color: bool | None = None,
        batchnorm: BatchNormMode = "frozen",
    ) -> Self:
        """Let layers learn, in place.

        >>> backbone = load_encoder("random:eccv16@0.125").trainable(("conv5",), train_from="conv4")
        >>> backbone.layers, backbone.trained
        (('conv5',), ('conv4', 'conv5'))

        Args:
            layers: those that `forward` gives from here on.
            train_from: the first layer that learns, "all", or "head" for none.
            color: True gives a colorization network the colors as well, by weights that start at zero, so that it
                computes the same as before; other networks see them if they were trained on them. None changes nothing.
            batchnorm: of the layers that learn: "frozen" keeps the stored statistics (scale and shift learn), "train"
                uses each batch's. Layers that do not learn always use the stored ones.

        Raises:
            UserError: there is no such layer, `train_from` lies beyond the deepest of `layers`, color cannot be had,
                or the encoder is for frozen use only.
        """
        self.require_trainable()
        chosen = self.choose(layers)
        reachable = self.layers[: self.layers.index(chosen[-1]) + 1]
        self.trained = self._layers_from(train_from, reachable)
        if color is not None:
            self.trunk.set_color(color, source=self.source)
        owners = self.trunk.parameters_by_layer(reachable)
        for name, parameter in self.trunk.named_parameters():
            parameter.requires_grad_(owners.get(name) in self.trained)
        self.layers, self._batchnorm = chosen, batchnorm
        self._learning = self._modules_that_learn(owners)
        return self.eval()

    def require_trainable(self) -> None:
        """Refuse an encoder that cannot learn on: a split one, or one that sees ab.

        Raises:
            UserError: it is one.
        """
        if self.trunk.frozen_only:
            raise UserError(
                f"{self.name} sees color by a network of direction ab-to-L, which is not fine-tuned: it is for "
                "linear-probe, knn, svm and segment; give finetune one of direction L-to-ab."
            )

    def _layers_from(self, first: str, reachable: Sequence[str]) -> tuple[str, ...]:
        if first in (HEAD, self.trunk.head_name):
            return ()
        if first == ALL:
            return tuple(reachable)
        if first not in reachable:
            known = ", ".join((ALL, *reachable, HEAD))
            raise UserError(f"Setting train_from: no layer {first!r} that the head depends on: choose from {known}.")
        return tuple(reachable[reachable.index(first) :])

    def _modules_that_learn(self, owners: Mapping[str, str]) -> tuple[str, ...]:
        """The beginnings of the names of all modules in places of which all parameters learn.

        Dropout and BatchNorm without scale have no parameters of their own, and follow what is around them.
        """
        learning = {name.rpartition(".")[0] for name, owner in owners.items() if owner in self.trained}
        still = {name.rpartition(".")[0] for name, _ in self.trunk.named_parameters()} - learning
        around = {name[:end] for name in learning for end, sign in enumerate(name) if sign == "."}
        whole = {name for name in around if not any(each.startswith(f"{name}.") for each in still)}
        return tuple(f"{name}." for name in learning | whole)

    def train(self, mode: bool = True) -> Self:
        """Train mode for the layers that learn, and for their BatchNorm only if its statistics are to move."""
        super().train(mode and bool(self.trained))
        for name, module in self.trunk.named_modules():
            fixed = isinstance(module, _BatchNorm) and self._batchnorm == "frozen"
            module.training = mode and f"{name}.".startswith(self._learning) and not fixed
        return self

    def forward(self, images: Tensor, layers: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Feature maps after ReLU.

        Args:
            images: RGB (B, 3, H, W), uint8 or floats in [0, 1]; or L (B, 1, H, W), floats in 0..100. Any H and W: what
                is not a multiple of the network's stride is padded by repeating the edge, and the padding's cells are
                cut off again.
            layers: names; all of `layers` by default.

        Returns:
            (B, C, h, w) by layer, first to last: float32 (also under autocast), or what `half()`, `bfloat16()` or
            `double()` made of the encoder. Lightness is computed in float32 all the same.

        Raises:
            UserError: a layer is unknown, or a frozen network gives numbers that are not finite (half() is often too
                little for it).
            TypeError: the images are no tensor.
            ValueError: they have another shape, another kind of numbers, or numbers out of range.
        """
        chosen = self.choose(layers)
        _check(images)
        maps = self.trunk.features(images, chosen)
        if not self.trained and _looked_at(images):
            self._refuse_infinite(maps)
        return maps

    def _refuse_infinite(self, maps: Mapping[str, Tensor]) -> None:
        # A sum is finite if all is, but for one that overflows: then each is looked at.
        for layer, x in maps.items():
            if not (x.sum(dtype=torch.float32).isfinite() or x.isfinite().all()):
                hint = "" if x.dtype == torch.float32 else f" in {x.dtype}: use .float() or .bfloat16()"
                raise UserError(f"{self.name} gives numbers at {layer} that are not finite{hint}.")

    def vectors(
        self, images: Tensor, layers: Iterable[str] | None = None, *, pool: Pooling = "adaptive", size: int = 1
    ) -> dict[str, Tensor]:
        """Each layer's map pooled to size x size cells and flattened: (B, C * size * size) by layer.

        Of the kind of numbers that `forward` gives; means are taken in float32 or better.
        """
        maps = self(images, layers).items()
        precise = {name: x.to(torch.promote_types(x.dtype, torch.float32)) for name, x in maps}
        return {name: pool_map(precise[name], size, pool).flatten(1).to(x.dtype) for name, x in maps}

    def fingerprint(self) -> str:
        """A hash of all that features depend on: weights, buffers, layers, preprocessing. Same on every device."""
        digest = hashlib.sha256(repr((self.trunk.about, self.trunk.feature_info, self.trunk.multiple)).encode())
        for name, value in sorted([*self.trunk.named_parameters(), *self.trunk.named_buffers()]):
            values = value.detach().cpu().contiguous()
            digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
            digest.update(values.flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()


def pool_map(x: Tensor, size: int, method: Pooling = "adaptive") -> Tensor:
    """Bring maps (B, C, h, w) to (B, C, size, size).

    >>> pool_map(torch.arange(16.0).view(1, 1, 4, 4), 2).tolist()
    [[[[2.5, 4.5], [10.5, 12.5]]]]

    - "adaptive": means over windows that cover the map evenly, some a cell larger than others.
    - "average": means over equal windows, side h - (size - 1) * (h // size), at a stride of h // size. A map smaller
      than size is pooled adaptively, which repeats its cells.
    - "bilinear": values interpolated at the new cells' centers, without smoothing (Zhang et al. 2016).
    """
    if method == "bilinear":
        return functional.interpolate(x, (size, size), mode="bilinear", align_corners=False)
    if method == "average" and min(x.shape[-2:]) >= size:
        stride = [side // size for side in x.shape[-2:]]
        window = [side - (size - 1) * step for side, step in zip(x.shape[-2:], stride, strict=True)]
        return functional.avg_pool2d(x, window, stride)
    if method not in ("adaptive", "average"):
        raise ValueError(f"pooling is 'adaptive', 'average' or 'bilinear', not {method!r}")
    return functional.adaptive_avg_pool2d(x, size)


def load_encoder(source: str | Path | Source, *, device: torch.device | str = "cpu", seed: int = 0) -> Encoder:
    """An encoder from what `--encoder` says.

    >>> encoder = load_encoder("random:eccv16@0.125")
    >>> encoder(torch.zeros(1, 3, 64, 48, dtype=torch.uint8), layers=("conv5",))["conv5"].shape
    torch.Size([1, 64, 8, 6])

    Args:
        source: a run folder, a .safetensors file, the authors' released .pth, "eccv16-release" (that file, fetched if
            need be), or "eccv16_starter" (which comes with this package); "random:eccv16" (untrained) or
            "kmeans:eccv16" (data-dependent initialization on the sample photos), with a width after @ as in
            "random:eccv16@0.5"; "random:timm-lightness:NAME" (untrained, as `pretrain --model timm:NAME` begins);
            "timm:NAME" (its pretrained weights, on RGB; "timm:NAME@L" on lightness), "random:timm-rgb:NAME"
            (untrained); "efficientnet_lite0" (ImageNet labels, on RGB; "@L" as well); "split:RUN_L+RUN_ab" (each
            layer the maps of a run of direction L-to-ab, then those of one of ab-to-L). What sees ab, a split encoder
            as well, refuses images (B, 1, H, W); gray photos in RGB have an ab of zero, so that its maps of ab are the
            same for all of them.
        device: where to put it.
        seed: of the untrained ones.

    Raises:
        UserError: the source is unknown, incomplete, or cannot be had, or holds numbers that are not finite.
    """
    found = Source.parse(source)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trunk = _load_trunk(found, seed)
    refuse_infinite(trunk.state_dict(), where=str(found))
    return Encoder(trunk, source=found).to(device)


def _load_trunk(source: Source, seed: int) -> Trunk:
    """The network of a source; torch's generator is seeded for it."""
    gray = source.lightness_only
    match source.kind:
        case "file":
            pretrained = load_pretrained(source.name)
            return ColorizationTrunk(pretrained.model, input_size=pretrained.input_size)
        case "random" | "kmeans":
            model = create_model(source.name, width=source.width).eval()
            if source.kind == "kmeans":
                _initialize_on_samples(model, seed)
            return ColorizationTrunk(model, input_size=RELEASED_INPUT_SIZE)
        case "timm" | "timm-untrained":
            return TimmTrunk(source.name, pretrained=source.kind == "timm", lightness_only=gray)
        case "lite0":
            return Lite0Trunk(lightness_only=gray)
        case "split":
            return SplitTrunk([_load_trunk(half, seed) for half in source.halves], source=source)


def _initialize_on_samples(model: ColorizationModel, seed: int) -> None:
    batches = training_batches(
        open_photos(["samples"]), resize=(_INIT_SIDE, 2 * _INIT_SIDE), crop=_INIT_SIDE,
        batch_size=_INIT_PHOTOS, seed=seed, start=0, steps=1, workers=0,
    )  # fmt: skip
    initialize(model, model.light(next(iter(batches)).photos), method="kmeans", seed=seed)


def _check(images: Tensor) -> None:
    if not isinstance(images, Tensor):
        raise TypeError(
            f"expected a torch tensor of images, (B, 3, H, W) or (B, 1, H, W), not a {type(images).__name__}"
        )
    shape = tuple(images.shape)
    if images.ndim != 4 or shape[1] not in (1, 3) or 0 in shape[2:]:
        raise ValueError(f"expected images of shape (B, 3, H, W) or (B, 1, H, W), got {shape}")
    if shape[1] == 1 and not images.is_floating_point():
        raise ValueError(f"one channel is lightness, floats in 0..100, not {images.dtype}")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise ValueError(f"expected RGB of uint8 or floats in [0, 1], not {images.dtype}")
    if images.dtype == torch.uint8 or not images.numel() or not _looked_at(images):
        return
    top = 100.0 if shape[1] == 1 else 1.0
    low, high = (value.item() for value in images.detach().aminmax())
    slack = top * max(_SLACK, torch.finfo(images.dtype).eps)
    if not (low >= -slack and high <= top + slack):  # written so that NaN fails
        kind = "lightness (B, 1, H, W) lies in 0..100" if shape[1] == 1 else "RGB of floats (B, 3, H, W) lies in [0, 1]"
        raise ValueError(f"{kind}, but these images span {low:.4g}..{high:.4g}: neither normalize nor scale them")


def _looked_at(images: Tensor) -> bool:
    """Whether there are numbers to look at: a graph that is being made has none."""
    return not (images.is_meta or torch.compiler.is_compiling() or torch.compiler.is_exporting())


__all__: Sequence[str] = ["Encoder", "Pooling", "Source", "load_encoder", "pool_map"]
