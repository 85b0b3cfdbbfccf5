"""The paper's objectives: targets by hand, the loss against PyTorch's own cross-entropy with dense targets."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_colorize.color import ab_bins
from ssl_colorize.models import objectives as module
from ssl_colorize.models.objectives import (
    constant_cross_entropy,
    entropy,
    make_targets,
    soft_cross_entropy,
    squared_error,
    subsampled_ab,
)

# ---- targets ---------------------------------------------------------------------------------------------------------


CORNERS = ((255, 0, 0), (0, 128, 0), (30, 60, 200), (120, 110, 100))


def made_photo() -> Tensor:
    """8 x 8 noise with known colors where a stride of 4 looks: (3, 8, 8) uint8."""
    photo = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    for (row, column), color in zip(((0, 0), (0, 4), (4, 0), (4, 4)), CORNERS, strict=True):
        photo[row, column] = color
    return torch.from_numpy(photo).permute(2, 0, 1)


def gray_photo() -> Tensor:
    return torch.linspace(0, 255, 64).to(torch.uint8).view(1, 8, 8).expand(3, 8, 8)


def test_targets_are_the_colors_at_every_fourth_pixel() -> None:
    targets = make_targets(made_photo()[None], torch.arange(313.0), stride=4)
    expected = rgb2lab(np.array(CORNERS, dtype=np.uint8).reshape(2, 2, 3))[..., 1:]
    assert targets.ab.shape == (1, 2, 2, 2)
    assert np.abs(targets.ab[0].permute(1, 2, 0).numpy() - expected).max() < 1e-3
    nearest = ((ab_bins().double().numpy() - expected.reshape(4, 1, 2)) ** 2).sum(-1).argmin(1)
    assert targets.indices[0, 0].flatten().tolist() == nearest.tolist()
    # Weights were 0, 1, 2, ..., so they tell which bin they were taken from.
    assert targets.pixel_weights[0].flatten().tolist() == nearest.tolist()
    assert targets.indices.shape == targets.weights.shape == (1, 5, 2, 2)


def test_the_input_is_the_whole_photos_lightness() -> None:
    photo = made_photo()
    targets = make_targets(photo[None], torch.ones(313), stride=4)
    expected = rgb2lab(photo.permute(1, 2, 0).numpy())[..., 0]
    assert targets.lightness.shape == (1, 1, 8, 8)
    assert np.abs(targets.lightness[0, 0].numpy() - expected).max() < 1e-3


@pytest.mark.parametrize(("side", "stride", "answer"), [(180, 8, 23), (176, 4, 44), (9, 4, 3)])
def test_odd_sizes_round_up(side: int, stride: int, answer: int) -> None:
    assert subsampled_ab(torch.zeros(1, 3, side, side), stride).shape == (1, 2, answer, answer)


def test_gray_photos_weigh_nothing_and_leave_the_others_alone() -> None:
    class_weights = torch.linspace(0.5, 2, 313)
    together = make_targets(torch.stack((gray_photo(), made_photo())), class_weights, stride=4)
    alone = make_targets(made_photo()[None], class_weights, stride=4)
    assert not together.pixel_weights[0].any()
    assert torch.equal(together.pixel_weights[1:], alone.pixel_weights) and alone.pixel_weights.all()


# ---- loss ------------------------------------------------------------------------------------------------------------


def made(
    batch: int = 3, bins: int = 11, neighbors: int = 4, *, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, and targets whose bins are distinct within a pixel; the first photo has weight 0."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(batch, bins, 2, 5, generator=generator, dtype=dtype)
    indices = torch.rand(batch, bins, 2, 5, generator=generator).argsort(1)[:, :neighbors]
    weights = torch.rand(batch, neighbors, 2, 5, generator=generator).to(dtype)
    weights = weights / weights.sum(1, keepdim=True)
    pixel_weights = 3 * torch.rand(batch, 2, 5, generator=generator).to(dtype)
    pixel_weights[0] = 0
    return logits, indices, weights, pixel_weights


def dense(indices: Tensor, weights: Tensor, bins: int = 11) -> Tensor:
    shape = (len(indices), bins, *indices.shape[2:])
    return weights.new_zeros(shape).scatter_add_(1, indices, weights)


def test_gradient_by_finite_differences() -> None:
    logits, indices, weights, pixel_weights = made(dtype=torch.float64)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: soft_cross_entropy(z, indices, weights, pixel_weights)[0], [logits])


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("chunk", [1, 25 * 11, 1 << 22])
def test_loss_and_gradient_are_those_of_dense_targets(
    monkeypatch: pytest.MonkeyPatch, chunk: int, memory_format: torch.memory_format
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    logits, indices, weights, pixel_weights = made()
    ours = logits.clone(memory_format=memory_format).requires_grad_()
    theirs = logits.clone().requires_grad_()
    loss, each = soft_cross_entropy(ours, indices, weights, pixel_weights)
    expected_each = functional.cross_entropy(theirs, dense(indices, weights), reduction="none")
    expected = (expected_each * pixel_weights).sum() / pixel_weights.numel()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.allclose(each, expected_each, atol=1e-5)
    # Whatever comes after the loss scales the gradient.
    (7 * loss).backward()
    (7 * expected).backward()
    assert ours.grad is not None and theirs.grad is not None
    assert ours.grad.is_contiguous(memory_format=memory_format)
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-6)
    assert not ours.grad[0].any() and ours.grad[1:].all()


def test_half_precision_logits_lose_only_their_own_rounding() -> None:
    logits, indices, weights, pixel_weights = made()
    half = logits.bfloat16().requires_grad_()
    full = half.detach().float().requires_grad_()
    loss, each = soft_cross_entropy(half, indices, weights, pixel_weights)
    expected, expected_each = soft_cross_entropy(full, indices, weights, pixel_weights)
    assert loss.dtype == each.dtype == torch.float32
    assert torch.equal(loss, expected) and torch.equal(each, expected_each)
    loss.backward()
    expected.backward()
    assert half.grad is not None and full.grad is not None and half.grad.dtype == torch.bfloat16
    assert torch.allclose(half.grad.float(), full.grad, rtol=2**-8, atol=1e-9)


def test_double_logits_stay_double() -> None:
    loss, each = soft_cross_entropy(*made(dtype=torch.float64))
    assert loss.dtype == each.dtype == torch.float64


def test_large_logits_do_not_overflow() -> None:
    logits, indices, weights, pixel_weights = made()
    logits = (logits * 1e4).requires_grad_()
    loss, _ = soft_cross_entropy(logits, indices, weights, pixel_weights)
    loss.backward()
    assert loss.isfinite() and logits.grad is not None and logits.grad.isfinite().all()


def test_the_sum_is_divided_by_pixels_not_by_weights() -> None:
    logits, indices, weights, pixel_weights = made()
    loss, each = soft_cross_entropy(logits, indices, weights, pixel_weights)
    assert soft_cross_entropy(logits, indices, weights, 2 * pixel_weights)[0].item() == pytest.approx(2 * loss.item())
    # The photo of weight 0 pulls the average down: without it, the same sum over fewer pixels.
    without, _ = soft_cross_entropy(logits[1:], indices[1:], weights[1:], pixel_weights[1:])
    assert loss.item() == pytest.approx(without.item() * 2 / 3, rel=1e-6)
    # The unweighted figure counts it in full.
    assert (each[0] > 0).all()


def test_a_pixel_by_hand() -> None:
    # Softmax of (0, ln 3) is (1/4, 3/4); target (1/2, 1/2), weight 4, one of two pixels; the other has weight 0.
    logits = torch.tensor([0.0, math.log(3)]).view(1, 2, 1, 1).expand(1, 2, 1, 2).clone().requires_grad_()
    indices = torch.tensor([1, 0]).view(1, 2, 1, 1).expand(1, 2, 1, 2)
    loss, each = soft_cross_entropy(logits, indices, torch.full((1, 2, 1, 2), 0.5), torch.tensor([[[4.0, 0.0]]]))
    nats = -0.5 * math.log(1 / 4) - 0.5 * math.log(3 / 4)
    assert each.flatten().tolist() == pytest.approx([nats, nats])
    assert loss.item() == pytest.approx(4 * nats / 2)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == pytest.approx([4 * (1 / 4 - 1 / 2) / 2, 0, 4 * (3 / 4 - 1 / 2) / 2, 0])


def test_the_unweighted_figure_takes_no_gradient() -> None:
    logits, *targets = made()
    _, each = soft_cross_entropy(logits.requires_grad_(), *targets)
    assert not each.requires_grad


class LargeTensors(TorchDispatchMode):
    """Storages of at least `numbers` elements that operations allocate."""

    def __init__(self, numbers: int, known: list[Tensor]) -> None:
        super().__init__()
        self.numbers = numbers
        self.storages = {tensor.untyped_storage().data_ptr() for tensor in known}
        self.found: list[Tensor] = []

    def __torch_dispatch__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor) and tensor.numel() >= self.numbers:
                storage = tensor.untyped_storage().data_ptr()
                if storage not in self.storages:
                    self.storages.add(storage)
                    # Kept, so that no later tensor gets the same address.
                    self.found.append(tensor)
        return result


def test_the_only_tensor_of_the_logits_size_is_their_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 1)
    logits, indices, weights, pixel_weights = made(batch=8, bins=50)
    logits.requires_grad_()
    with LargeTensors(logits.numel(), [logits]) as ours:
        loss, _ = soft_cross_entropy(logits, indices, weights, pixel_weights)
        assert ours.found == []
        loss.backward()
    assert len(ours.found) == 1 and ours.found[0].shape == logits.shape

    # The plain way, so that the count would see a dense target.
    with LargeTensors(logits.numel(), [logits]) as plain:
        (
            functional.cross_entropy(logits, dense(indices, weights, 50), reduction="none") * pixel_weights
        ).mean().backward()
    assert len(plain.found) >= 4


@pytest.mark.parametrize("wrong", [1, 2, 3])
def test_targets_that_do_not_fit_are_refused(wrong: int) -> None:
    parts = list(made())
    parts[wrong] = parts[wrong][..., :-1]
    with pytest.raises(ValueError, match="do not fit"):
        soft_cross_entropy(*parts)


def test_entropy_and_the_constants_cross_entropy_by_hand() -> None:
    weights = torch.tensor([[0.5, 1.0], [0.5, 0.0]]).view(1, 2, 1, 2)
    assert entropy(weights).flatten().tolist() == pytest.approx([math.log(2), 0])
    indices = torch.tensor([[0, 2], [1, 0]]).view(1, 2, 1, 2)
    nats = constant_cross_entropy(torch.tensor([0.5, 0.25, 0.25]), indices, weights)
    assert nats.flatten().tolist() == pytest.approx([0.5 * math.log(2) + 0.5 * math.log(4), math.log(4)])


def test_the_least_cross_entropy_is_the_entropy() -> None:
    _, indices, weights, pixel_weights = made()
    best = dense(indices, weights).clamp(min=1e-30).log()
    loss, each = soft_cross_entropy(best, indices, weights, pixel_weights)
    assert torch.allclose(each, entropy(weights), atol=1e-6)
    assert loss.item() == pytest.approx((entropy(weights) * pixel_weights).mean().item(), rel=1e-5)


def test_squared_error_by_hand() -> None:
    output = torch.tensor([[1.0, 0.0], [2.0, 0.0]]).view(1, 2, 1, 2).bfloat16()
    value = squared_error(output, torch.tensor([[0.0, 3.0], [0.0, 4.0]]).view(1, 2, 1, 2), torch.tensor([[[1.0, 2.0]]]))
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(0.5 * (1 * (1 + 4) + 2 * (9 + 16)) / 2)
