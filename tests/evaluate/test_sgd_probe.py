"""Heads that train together give what each would alone, by PyTorch's own layers, loss and optimizer."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_colorize.evaluate.heads import FeatureNorm, LinearHeads, grid

FEATURES, CLASSES, STEPS = 7, 4, 12
SETTINGS = grid((0.003, 0.1, 1.5), (0.0, 0.02))


def batches(*, multilabel: bool) -> list[tuple[Tensor, Tensor, float]]:
    """Features, targets, and the schedule's factor, of each step."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for step in range(STEPS):
        size = 5 + step % 2
        features = torch.randn(size, FEATURES, generator=generator, dtype=torch.float64)
        shape, low, high = ((size, CLASSES), -1, 2) if multilabel else ((size,), 0, CLASSES)
        found.append((features, torch.randint(low, high, shape, generator=generator), 1 - step / STEPS))
    return found


def loss_of(scores: Tensor, targets: Tensor, *, multilabel: bool) -> Tensor:
    if not multilabel:
        return functional.cross_entropy(scores, targets)
    judged = targets >= 0
    return functional.binary_cross_entropy_with_logits(scores[judged], targets[judged].double(), reduction="sum") / len(
        scores
    )


@pytest.mark.parametrize("multilabel", [False, True])
def test_batched_heads_are_single_heads(multilabel: bool) -> None:
    heads = LinearHeads(FEATURES, CLASSES, settings=SETTINGS, multilabel=multilabel, dtype=torch.float64)
    together = [
        heads.train_on(features, targets, factor=factor) for features, targets, factor in batches(multilabel=multilabel)
    ]
    assert heads.weight.shape == (6, CLASSES, FEATURES)
    for number, one in enumerate(SETTINGS):
        alone = nn.Linear(FEATURES, CLASSES).double()
        nn.init.zeros_(alone.weight)
        nn.init.zeros_(alone.bias)
        groups = [{"params": [alone.weight], "weight_decay": one.weight_decay}, {"params": [alone.bias]}]
        optimizer = torch.optim.SGD(groups, lr=one.learning_rate, momentum=0.9)
        for step, (features, targets, factor) in enumerate(batches(multilabel=multilabel)):
            # The schedule multiplies the step and not the velocity, as in PyTorch.
            for group in optimizer.param_groups:
                group["lr"] = one.learning_rate * factor
            optimizer.zero_grad()
            loss = loss_of(alone(features), targets, multilabel=multilabel)
            loss.backward()
            optimizer.step()
            assert together[step][number].item() == pytest.approx(loss.item(), rel=1e-5)
        assert torch.allclose(heads.weight[number], alone.weight, rtol=1e-5, atol=1e-8)
        assert torch.allclose(heads.bias[number], alone.bias, rtol=1e-5, atol=1e-8)
        features = batches(multilabel=multilabel)[0][0]
        assert torch.allclose(heads.scores(features, head=number)[:, 0], alone(features))
        assert torch.allclose(heads.scores(features)[:, number], heads.scores(features, head=number)[:, 0])


def test_heads_differ_by_their_settings() -> None:
    heads = LinearHeads(FEATURES, CLASSES, settings=SETTINGS, dtype=torch.float64)
    for features, targets, factor in batches(multilabel=False):
        heads.train_on(features, targets, factor=factor)
    for number in range(1, len(SETTINGS)):
        assert not torch.allclose(heads.weight[number], heads.weight[number - 1], rtol=1e-3)


def test_going_on_from_a_state_is_going_on() -> None:
    parts = batches(multilabel=False)
    whole, first, second = (LinearHeads(FEATURES, CLASSES, settings=SETTINGS) for _ in range(3))
    for number, (features, targets, factor) in enumerate(parts):
        whole.train_on(features.float(), targets, factor=factor)
        if number == 5:
            second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
        (first if number < 5 else second).train_on(features.float(), targets, factor=factor)
    assert torch.equal(whole.weight, second.weight) and torch.equal(whole.bias, second.bias)


def test_normalization_is_batch_norms() -> None:
    generator = torch.Generator().manual_seed(0)
    ours, theirs = FeatureNorm(5), nn.BatchNorm2d(5, affine=False, momentum=None)
    for _ in range(3):
        x = 3 * torch.randn(4, 5, 3, 3, generator=generator) + torch.arange(5.0).view(-1, 1, 1)
        assert torch.allclose(ours(x), theirs(x), atol=1e-4)
    assert torch.allclose(ours.eval()(x), theirs.eval()(x), atol=1e-4)


def test_the_scale_of_the_features_changes_nothing() -> None:
    x = torch.randn(8, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    x[:, 3] = 0  # a dead channel
    tiny, plain = FeatureNorm(5), FeatureNorm(5)
    for mode in (True, False):
        found = tiny.train(mode)(1e-4 * x)
        assert torch.allclose(found, plain.train(mode)(x), atol=1e-4)
        assert found[:, 0].std() > 0.9 and (found[:, 3] == 0).all()
    assert (FeatureNorm(5)(torch.zeros(2, 5, 1, 1)) == 0).all()
