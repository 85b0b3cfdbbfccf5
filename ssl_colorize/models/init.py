"""Data-dependent initialization (Kraehenbuehl et al. 2016; Mishkin and Matas 2016).

A colorization network that starts from plain random weights spends its first epochs on a sepia average: its outputs
barely depend on the photo. Here every layer starts with responses of unit variance on real photos.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn
from torch.nn import functional

from ssl_colorize.models.registry import ColorizationModel

InitMethod = Literal["kmeans", "lsuv", "plain"]

PATCHES = 10_000
# Whitening solves an eigenproblem in the patch's dimension, which costs its cube; larger patches are whitened along
# their leading directions only.
WHITEN_UP_TO = 1_300
LEADING = 768
# Beyond this many multiply-adds a k-means sweep, the filters are patches drawn at random instead of their centroids.
KMEANS_UP_TO = 1e11
# The first predictions hardly stray from the constant one.
LOGIT_DEVIATION = 0.1


@torch.no_grad()
def initialize(
    model: ColorizationModel,
    *inputs: Tensor,
    method: InitMethod = "kmeans",
    output_bias: Tensor | None = None,
    keep: Sequence[str] = (),
    seed: int = 0,
) -> None:
    """Set a network's weights from photos, in one forward pass, layer by layer.

    - "kmeans": filters are centroids of whitened patches of the layer's own input; each channel is then shifted and
      scaled to mean 0 and variance 1 (magic init without its last, gradient-balancing step, which BatchNorm makes
      unnecessary during pretraining).
    - "lsuv": orthogonal filters, each layer scaled to variance 1.
    - "plain": PyTorch's own; nothing is changed.

    BatchNorm's running statistics become those of these photos, so that the untrained network is usable as it is.
    Modules of `model.own_init` (timm's bodies, with their residual branches) keep the weights that they came with.

    Args:
        model: changed in place, left in eval mode.
        inputs: what the model is called with for a few dozen photos, light (B, 1, H, W) in 0..100 first, on its
            device.
        method: see above.
        output_bias: (outputs,) for the last layer, such as the log of the best constant distribution; training then
            starts from the best constant prediction. Zero if None.
        seed: of every random choice.
        keep: names of modules that are trained already: neither weights nor statistics change.

    >>> from ssl_colorize.models import create_model
    >>> model, light = create_model("eccv16", width=0.125), 100 * torch.rand(4, 1, 32, 32)
    >>> initialize(model, light, method="lsuv")
    >>> round(model.forward_features(light, ["conv1"])["conv1"].square().mean().item() - 0.5, 0)
    0.0
    """
    if method == "plain":
        return
    generator = torch.Generator().manual_seed(seed)
    hooks, momenta = [], {}
    for name, module in model.named_modules():
        if name.partition(".")[0] in keep:
            continue
        if isinstance(module, nn.BatchNorm2d):
            # Without a momentum the statistics are the plain average: of one batch, this one.
            momenta[module] = module.momentum
            module.reset_running_stats()
            module.momentum = None
        elif name == "logits":
            hooks.append(module.register_forward_pre_hook(_OutputLayer(output_bias, generator)))
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and name.partition(".")[0] not in model.own_init:
            hooks.append(module.register_forward_pre_hook(_HiddenLayer(method, generator)))
    try:
        model.train()
        for name in keep:
            model.get_submodule(name).eval()
        model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        model.eval()


class _HiddenLayer:
    """Sets a convolution's weights when its input arrives, just before it runs."""

    def __init__(self, method: InitMethod, generator: torch.Generator) -> None:
        self.method = method
        self.generator = generator

    def __call__(self, layer: nn.Conv2d | nn.ConvTranspose2d, inputs: tuple[Tensor]) -> None:
        assert layer.bias is not None
        layer.bias.zero_()
        if self.method == "kmeans" and isinstance(layer, nn.Conv2d):
            groups = zip(inputs[0].chunk(layer.groups, 1), layer.weight.chunk(layer.groups, 0), strict=True)
            for maps, weight in groups:
                patches = _sample_patches(layer, maps, self.generator)
                weight.copy_(_kmeans_filters(patches, len(weight), self.generator).view_as(weight))
        else:
            filters = torch.empty(layer.weight.shape)
            nn.init.orthogonal_(filters, generator=self.generator)
            layer.weight.copy_(filters)
        if isinstance(layer, nn.Conv2d):
            layer.weight.mul_(_reached(layer, inputs[0]))
        response = layer.forward(inputs[0]).float()
        if self.method == "kmeans":
            deviation, mean = torch.std_mean(response, dim=(0, 2, 3))
        else:
            deviation, mean = response.std(), torch.zeros((), device=response.device)
        scale = 1.0 / deviation.clamp(min=1e-5)
        shape = (1, -1, 1, 1) if isinstance(layer, nn.ConvTranspose2d) else (-1, 1, 1, 1)
        layer.weight.mul_(scale.view(shape) if scale.ndim else scale)
        layer.bias.copy_((-mean * scale).expand_as(layer.bias))


def _reached(layer: nn.Conv2d, maps: Tensor) -> Tensor:
    """1 where a tap of the kernel ever meets the maps (B, C, H, W), 0 where only padding: (k, k).

    The others would never learn, and disturb where the network is shown larger photos than it was trained on.
    """
    sides = []
    for axis in (0, 1):
        padding, kernel = int(layer.padding[axis]), layer.kernel_size[axis]
        size, stride, dilation = maps.shape[2 + axis], layer.stride[axis], layer.dilation[axis]
        outputs = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        met = torch.arange(outputs).view(-1, 1) * stride + torch.arange(kernel) * dilation - padding
        sides.append(((met >= 0) & (met < size)).any(0).to(maps))
    return sides[0].view(-1, 1) * sides[1]


class _OutputLayer:
    """Small random weights, and the given bias."""

    def __init__(self, bias: Tensor | None, generator: torch.Generator) -> None:
        self.bias = bias
        self.generator = generator

    def __call__(self, layer: nn.Conv2d, inputs: tuple[Tensor]) -> None:
        assert layer.bias is not None
        layer.bias.zero_()
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=self.generator))
        layer.weight.mul_(LOGIT_DEVIATION / layer.forward(inputs[0]).std().clamp(min=1e-5))
        if self.bias is not None:
            layer.bias.copy_(self.bias)


def _sample_patches(layer: nn.Conv2d, maps: Tensor, generator: torch.Generator) -> Tensor:
    """Patches that the layer's filters meet, at random places: (P, C * k * k) float32 on the CPU."""
    pad_y, pad_x = (int(side) for side in layer.padding)
    padded = functional.pad(maps, (pad_x, pad_x, pad_y, pad_y)).float().cpu()
    reach = [dilation * (kernel - 1) for dilation, kernel in zip(layer.dilation, layer.kernel_size, strict=True)]
    batch, _, height, width = padded.shape
    count = min(PATCHES, batch * (height - reach[0]) * (width - reach[1]))
    photo = torch.randint(batch, (count, 1, 1), generator=generator)
    top = torch.randint(height - reach[0], (count, 1, 1), generator=generator)
    left = torch.randint(width - reach[1], (count, 1, 1), generator=generator)
    rows = top + torch.arange(0, reach[0] + 1, layer.dilation[0]).view(1, -1, 1)
    columns = left + torch.arange(0, reach[1] + 1, layer.dilation[1]).view(1, 1, -1)
    # Indexing puts the channels last; filters have them first.
    return padded[photo, :, rows, columns].permute(0, 3, 1, 2).flatten(1)


def _kmeans_filters(patches: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` filters (count, D): centroids of the whitened, contrast-normalized patches (P, D)."""
    centered = patches - patches.mean(0)
    if centered.abs().max() < 1e-6:
        # Flat photos have no patterns to find.
        return torch.randn(count, patches.shape[1], generator=generator)
    whitening = _whitening(centered, generator)
    points = functional.normalize(centered @ whitening)
    if len(points) < 2 * count or points.numel() * count > KMEANS_UP_TO:
        centers = points[torch.randint(len(points), (count,), generator=generator)]
    else:
        seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
        kmeans = MiniBatchKMeans(count, init="random", n_init=1, batch_size=2048, max_iter=10, random_state=seed)
        centers = torch.from_numpy(np.asarray(kmeans.fit(points.numpy()).cluster_centers_, dtype=np.float32))
    return centers @ whitening.T


def _whitening(centered: Tensor, generator: torch.Generator) -> Tensor:
    """A matrix (D, R) that decorrelates patches (P, D); R is D, or fewer leading directions where D is large.

    Without it deep filters come out nearly alike: all follow the few directions in which deep maps vary most.
    """
    size = centered.shape[1]
    # Directions that carry little more than noise are not blown up.
    ridge = 0.1 * float(centered.square().mean())
    if size > WHITEN_UP_TO:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31 - 1, (1,), generator=generator)))
            _, values, vectors = torch.svd_lowrank(centered, q=min(LEADING, *centered.shape), niter=2)
        return vectors * (values.square() / len(centered) + ridge).rsqrt()
    covariance = (centered.T @ centered / len(centered)).double()
    # Added before, not after, and in double precision: eigh does not always converge on the many equal zeros that dead
    # channels and few patches leave.
    covariance.diagonal().add_(ridge)
    values, vectors = torch.linalg.eigh(covariance)
    whitening: Tensor = (vectors / values.sqrt()) @ vectors.T
    return whitening.float()
