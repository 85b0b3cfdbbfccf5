"""Attentive heads: what they gather is PyTorch's attention, and they learn as PyTorch's own gradients say."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssl_colorize.encoder import load_encoder
from ssl_colorize.evaluate import attentive_probe, concatenate_layers, top_k_accuracy
from ssl_colorize.evaluate.attentive import AttentiveHeads, attend
from ssl_colorize.evaluate.heads import grid, loss_and_gradient
from ssl_colorize.evaluate.inputs import head_inputs
from ssl_colorize.evaluate.settings import ProbeSettings

SETTINGS = grid((0.01, 0.5), (0.0, 0.02))
CLASSES, STEPS = 4, 8


def places(seed: int, *shapes: tuple[int, int], photos: int = 5) -> list[Tensor]:
    chance = torch.Generator().manual_seed(seed)
    return [torch.randn(photos, *shape, generator=chance, dtype=torch.float64) for shape in shapes]


def test_gathering_is_pytorchs_attention() -> None:
    (x,) = places(0, (9, 6))
    queries = torch.randn(3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    attention = nn.MultiheadAttention(6, 1, bias=False, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        # PyTorch divides by the square root of the channels.
        attention.in_proj_weight.copy_(torch.cat([6**0.5 * torch.eye(6), torch.eye(6), torch.eye(6)]))
        attention.out_proj.weight.copy_(torch.eye(6))
        expected, weights = attention(queries.expand(5, -1, -1), x, x)
    gathered, ours = attend([x], [queries])
    torch.testing.assert_close(gathered, expected)
    torch.testing.assert_close(ours.mT, weights)


def test_layers_share_one_softmax_and_keep_their_channels_apart() -> None:
    early, late = places(2, (4, 3), (2, 5))
    parts = [torch.randn(2, width, dtype=torch.float64) for width in (3, 5)]
    gathered, _ = attend([early, late], parts)
    # By hand, in one space that has room for both.
    for photo in range(5):
        rows = np.zeros((6, 8))
        rows[:4, :3], rows[4:, 3:] = early[photo], late[photo]
        for number in range(2):
            scores = rows @ np.concatenate([part[number].numpy() for part in parts])
            weights = np.exp(scores) / np.exp(scores).sum()
            np.testing.assert_allclose(gathered[photo, number], 2 * weights @ rows, rtol=1e-12)


@pytest.mark.parametrize("multilabel", [False, True])
def test_heads_that_train_together_are_what_pytorch_trains_alone(multilabel: bool) -> None:
    shapes, count = ((6, 3), (2, 5)), 2
    heads = AttentiveHeads(
        (3, 5), CLASSES, settings=SETTINGS, queries=count, seed=0, multilabel=multilabel, dtype=torch.float64
    )
    first = [each[:count].clone() for each in heads.queries]
    chance = torch.Generator().manual_seed(5)
    shape, low, high = ((5, CLASSES), -1, 2) if multilabel else ((5,), 0, CLASSES)
    batches = [(places(step, *shapes), torch.randint(low, high, shape, generator=chance)) for step in range(STEPS)]
    for step, (x, targets) in enumerate(batches):
        heads.train_on(x, targets, factor=1 - step / STEPS)
    for number, one in enumerate(SETTINGS):
        queries = [each.clone().requires_grad_() for each in first]
        classifier = nn.Linear(count * 8, CLASSES).double()
        nn.init.zeros_(classifier.weight)
        nn.init.zeros_(classifier.bias)
        groups = [{"params": [classifier.weight], "weight_decay": one.weight_decay},
                  {"params": [classifier.bias, *queries]}]  # fmt: skip
        optimizer = torch.optim.SGD(groups, lr=one.learning_rate, momentum=0.9)
        for step, (x, targets) in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = one.learning_rate * (1 - step / STEPS)
            optimizer.zero_grad()
            scores = classifier(attend(x, queries)[0].flatten(1))
            _, gradient = loss_and_gradient(scores.detach()[:, None], targets, multilabel=multilabel)
            scores.backward(gradient[:, 0])
            optimizer.step()
        own = slice(number * count, (number + 1) * count)
        for ours, theirs, before in zip(heads.queries, queries, first, strict=True):
            torch.testing.assert_close(ours[own], theirs.detach(), rtol=1e-8, atol=1e-12)
            assert not torch.allclose(ours[own], before, rtol=1e-3)
        x = batches[0][0]
        with torch.no_grad():
            expected = classifier(attend(x, queries)[0].flatten(1))
        torch.testing.assert_close(heads.scores(x, head=number)[:, 0], expected)
        torch.testing.assert_close(heads.scores(x)[:, number], expected)


def test_a_head_learns_where_to_look() -> None:
    """One place of nine tells the class, and says so in its first channel; the mean over all hides it."""
    chance = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(400, 9, 4, generator=chance)
    labels, where = torch.randint(0, 2, (400,), generator=chance), torch.randint(0, 9, (400,), generator=chance)
    x[..., 0], rows = 0.0, torch.arange(400)
    x[rows, where] = torch.stack([torch.full((400,), 6.0), *(6.0 * (2 * labels - 1) for _ in range(3))], 1)
    heads = AttentiveHeads((4,), 2, settings=grid((0.1,), (0.0,)), queries=2, seed=0)
    for step in range(200):
        heads.train_on([x[:300]], labels[:300], factor=1 - step / 200)
    found = (heads.scores([x[300:]])[:, 0].argmax(1) == labels[300:]).float().mean()
    mean = (x[300:, :, 1:].mean((1, 2)) > 0).long()
    assert found > 0.95 > (mean == labels[300:]).float().mean() + 0.05
    assert (attend([x[300:]], heads.queries)[1].argmax(1) == where[300:, None]).float().mean() > 0.9


def test_the_probe_on_arrays_chooses_without_the_photos_that_it_classifies() -> None:
    chance = np.random.default_rng(0)
    labels = np.arange(150) % 3
    x = chance.normal(size=(150, 6, 4)).astype(np.float32)
    x[np.arange(150), chance.integers(0, 6, 150)] = 1e-3  # of other scales and means, as features are
    x[np.arange(150), chance.integers(0, 6, 150), :3] += 4 * np.eye(3, dtype=np.float32)[labels]
    x = 50 + 7 * x
    found = attentive_probe(x[:100], labels[:100], x[100:], batch_size=20, learning_rates=(1e-6, 0.03))
    assert found.learning_rate == 0.03 and found.choosing > 0.8 and found.scores.shape == (50, 3)
    assert top_k_accuracy(found.scores, labels[100:]) > 0.8
    other = attentive_probe(x[:100], labels[:100], x[100:120], batch_size=20, learning_rates=(1e-6, 0.03))
    assert other.choosing == found.choosing
    np.testing.assert_allclose(other.scores, found.scores[:20], rtol=1e-4, atol=1e-5)


def test_going_on_from_a_state_is_going_on() -> None:
    whole, first, second = (AttentiveHeads((3,), CLASSES, settings=SETTINGS, queries=2, seed=seed, dtype=torch.float64)
                            for seed in (0, 0, 7))  # fmt: skip
    targets = torch.arange(5) % CLASSES
    for number in range(6):
        x = places(number, (4, 3))
        whole.train_on(x, targets)
        if number == 3:
            second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
        (first if number < 3 else second).train_on(x, targets)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_all_layers_are_means_of_each() -> None:
    chance = np.random.default_rng(0)
    maps = {"early": chance.normal(size=(3, 2, 6, 6)), "late": chance.normal(size=(3, 8, 3, 3))}
    found = concatenate_layers(maps, numbers=40)  # at most 20 of each: 2 x 3 x 3 and 8 x 1 x 1
    assert found.shape == (3, 18 + 8) and found.dtype == np.float32
    for photo in range(3):
        early = [
            maps["early"][photo, channel, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean()
            for channel in range(2) for row in range(3) for column in range(3)
        ]  # fmt: skip
        np.testing.assert_allclose(found[photo, :18], early, atol=1e-6)
        np.testing.assert_allclose(found[photo, 18:], maps["late"][photo].mean((1, 2)), atol=1e-6)


def test_what_each_head_sees() -> None:
    encoder = load_encoder("random:eccv16@0.125")
    settings = ProbeSettings(
        encoder="x", data=("x",), heads=("linear", "attentive", "all-layers"), numbers=300, places=30
    )
    inputs = head_inputs(encoder, ("conv1", "conv7"), settings, {"conv1": 6, "conv7": 2}, crop=32)
    assert {each.name: list(each.sides.values()) for each in inputs} == {
        "conv1": [6], "conv7": [2], "conv1/attentive": [5], "conv7/attentive": [4], "all-layers/attentive": [1, 1],
        "all-layers": [4, 1],
    }  # fmt: skip
    assert [each.numbers for each in inputs] == [8 * 36, 64 * 4, 8 * 25, 64 * 16, 8 + 64, 8 * 16 + 64]
