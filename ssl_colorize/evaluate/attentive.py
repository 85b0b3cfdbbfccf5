"""Attentive heads: learned queries choose which places of a map, or of the maps of several layers, are averaged.

This is Efficient Probing (Psomas et al., Attention, Please! Revisiting Attentive Probing Through the Lens of
Efficiency, 2025, arXiv 2506.10178): several queries, no projection of the keys. Its projection of the values is linear
and so is the classifier after it, which therefore reads what each query gathers as it is. Over several layers the means
of all layers compete in one softmax, as in Ciernik et al., Beyond the Final Layer: Attentive Multi-Layer Fusion for
Vision Transformers, 2026, arXiv 2601.09322; each layer has its own part of a query, since layers differ in width.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_colorize.data import choosing_split
from ssl_colorize.engine.optimizer import Schedule
from ssl_colorize.evaluate.heads import FeatureNorm, HeadSettings, LinearHeads, grid, loss_and_gradient
from ssl_colorize.evaluate.metrics import Predictions, as_array, best_of

# Spread of the first scores of places, as in the authors' code: a query begins near the mean over all places.
FIRST_SPREAD = 0.02

# Of each layer (B, T, D): T places of B photos, D channels.
Places = Sequence[Tensor]


def attend(places: Places, queries: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """What queries gather from the places of one layer or of several: averages weighted by softmax(query . place).

    >>> places = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])  # one photo, two places, two channels
    >>> gathered, weights = attend([places], [torch.tensor([[0.0, 0.0], [0.0, 9.0]])])
    >>> gathered.round(decimals=2).tolist(), weights.round(decimals=2).tolist()
    ([[[0.5, 0.5], [0.0, 1.0]]], [[[0.5, 0.0], [0.5, 1.0]]])

    Args:
        places: (B, T, D) of each layer, with T and D of its own.
        queries: (Q, D) of each layer: its part of each of Q queries.

    Returns:
        (B, Q, sum of all D), what each query gathers from each layer, times the number of layers, so that one layer of
        several counts as much as alone; and the weights (B, sum of all T, Q), which are 1 over all places.
    """
    weights = torch.cat([x @ query.mT for x, query in zip(places, queries, strict=True)], 1).softmax(1)
    parts = weights.split([x.shape[1] for x in places], 1)
    gathered = torch.cat([part.mT @ x for part, x in zip(parts, places, strict=True)], 2)
    return gathered * len(places), weights


def query_gradients(places: Places, weights: Tensor, gradient: Tensor) -> list[Tensor]:
    """The gradient (Q, D) of each layer's part of the queries, from that of what `attend` gathered (B, Q, sum of D)."""
    parts = (gradient * len(places)).split([x.shape[2] for x in places], 2)
    along = torch.cat([x @ part.mT for x, part in zip(places, parts, strict=True)], 1)  # (B, T, Q)
    along = weights * (along - (weights * along).sum(1, keepdim=True))
    each = along.split([x.shape[1] for x in places], 1)
    return [part.flatten(0, 1).mT @ x.flatten(0, 1) for part, x in zip(each, places, strict=True)]


class AttentiveHeads:
    """R attentive heads that differ only in learning rate and weight decay, trained by SGD with momentum.

    All begin with the same queries, drawn from the seed, and a classifier that is zero. Queries learn at the rate of
    their head, and do not decay.
    """

    def __init__(
        self,
        channels: Sequence[int],
        classes: int,
        *,
        settings: Sequence[HeadSettings],
        queries: int,
        seed: int,
        multilabel: bool = False,
        momentum: float = 0.9,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """`channels` are those of each layer, `queries` the number of queries of a head."""
        self.settings, self.count, self.multilabel, self.momentum = tuple(settings), queries, multilabel, momentum
        self.classifier = LinearHeads(
            queries * sum(channels), classes, settings=settings, multilabel=multilabel, momentum=momentum,
            device=device, dtype=dtype,
        )  # fmt: skip
        chance = torch.Generator().manual_seed(seed)
        # On channels of variance 1.
        drawn = [torch.randn(queries, width, generator=chance) * FIRST_SPREAD / width**0.5 for width in channels]
        self.queries = [each.repeat(len(self.settings), 1).to(device, dtype) for each in drawn]  # (R x queries, D)
        self._velocity = [torch.zeros_like(each) for each in self.queries]
        rates = torch.tensor([one.learning_rate for one in self.settings], device=device, dtype=dtype)
        self._rates = rates.repeat_interleave(queries)[:, None]

    @torch.no_grad()
    def scores(self, places: Places, *, head: int | None = None) -> Tensor:
        """The scores (B, R, C) of all heads, or (B, 1, C) of one."""
        if head is None:
            return self.classifier.scores(self._per_head(attend(places, self.queries)[0]))
        own = slice(head * self.count, (head + 1) * self.count)
        gathered, _ = attend(places, [each[own] for each in self.queries])
        return self.classifier.scores(gathered.flatten(1), head=head)

    @torch.no_grad()
    def train_on(self, places: Places, targets: Tensor, *, factor: float = 1.0) -> Tensor:
        """One step on a batch; as of `LinearHeads`."""
        gathered, weights = attend(places, self.queries)
        features = self._per_head(gathered)
        scores = self.classifier.scores(features)
        loss, gradient = loss_and_gradient(scores, targets, multilabel=self.multilabel)
        back = torch.bmm(gradient.transpose(0, 1), self.classifier.weight).transpose(0, 1)  # (B, R, queries x D)
        slopes = query_gradients(places, weights, back.unflatten(2, (self.count, -1)).flatten(1, 2))
        self.classifier.descend(features, gradient, factor=factor)
        for query, velocity, slope in zip(self.queries, self._velocity, slopes, strict=True):
            velocity.mul_(self.momentum).add_(slope)
            query.addcmul_(velocity, self._rates, value=-factor)
        return loss

    def _per_head(self, gathered: Tensor) -> Tensor:
        """(B, R x queries, D) -> (B, R, queries x D)."""
        found: Tensor = gathered.unflatten(1, (len(self.settings), self.count)).flatten(2)
        return found

    def state_dict(self) -> dict[str, Tensor]:
        """What a stopped training needs to go on exactly."""
        state = self.classifier.state_dict()
        for number, (query, velocity) in enumerate(zip(self.queries, self._velocity, strict=True)):
            state |= {f"queries.{number}": query, f"queries_velocity.{number}": velocity}
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The opposite of `state_dict`."""
        for name, value in self.state_dict().items():
            value.copy_(state[name])


class AttentiveScores(NamedTuple):
    """What `attentive_probe` gives."""

    scores: NDArray[np.float32]  # (M, C), the highest for the predicted class
    learning_rate: float  # that was chosen
    choosing: float  # accuracy, or mean average precision, on the rows that it was chosen on


def attentive_probe(
    places: Any,
    labels: Any,
    others: Any,
    *,
    classes: int | None = None,
    learning_rates: Sequence[float] = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3),
    weight_decay: float = 5e-4,
    queries: int = 4,
    epochs: int = 20,
    batch_size: int = 64,
    choosing: float = 0.2,
    seed: int = 0,
) -> AttentiveScores:
    """An attentive head on the places of one layer, its learning rate chosen on a part of the training photos.

    Args:
        places: (N, T, D), array or tensor, of the training photos: T places, such as patches, of D channels.
        labels: (N,) classes from 0 on; or (N, C) of 1, 0 and -1 (not counted).
        others: (M, T, D), likewise, of the photos to classify.
        classes: C; by default one more than the largest label.
        queries: of a head.
        choosing: share of the photos, of each class alike, to choose on; heads are fitted on the others.
        seed: of the split, of the first queries, and of the order of the photos.

    Raises:
        UserError: no class has 2 photos.

    >>> chance = np.random.default_rng(0)
    >>> labels = np.arange(120) % 2
    >>> places = chance.normal(size=(120, 5, 3)).astype(np.float32)
    >>> places[np.arange(120), chance.integers(0, 5, 120)] = np.stack([np.full(120, 6), 9 * labels, 0 * labels], 1)
    >>> found = attentive_probe(places[:80], labels[:80], places[80:], batch_size=16)
    >>> bool((found.scores.argmax(1) == labels[80:]).mean() > 0.9)
    True
    """
    x, known, asked = as_array(places), as_array(labels), as_array(others)
    count = classes or (known.shape[1] if known.ndim == 2 else int(known.max()) + 1)
    fit, held = choosing_split(known, fraction=choosing, seed=seed)
    norm = FeatureNorm(x.shape[2])
    shown = _normal(norm.train(), x[fit])
    targets = torch.from_numpy(known[fit]).long()
    heads = AttentiveHeads(
        [x.shape[2]], count, settings=grid(learning_rates, (weight_decay,)), queries=queries, seed=seed,
        multilabel=known.ndim == 2,
    )  # fmt: skip
    chance = np.random.default_rng(seed)
    batches = [rows for _ in range(epochs) for rows in _batches(chance.permutation(len(fit)), batch_size)]
    schedule = Schedule(len(batches))
    for step, rows in enumerate(batches):
        heads.train_on([shown[rows]], targets[rows], factor=schedule(step))
    found = heads.scores([_normal(norm.eval(), x[held])])
    predictions = [Predictions.of(each, known[held]) for each in found.unbind(1)]
    best = best_of(predictions)
    scores = heads.scores([_normal(norm, asked)], head=best)[:, 0]
    return AttentiveScores(scores.numpy(), learning_rates[best], predictions[best].value)


def _normal(norm: FeatureNorm, places: NDArray[Any]) -> Tensor:
    """Places (N, T, D), each channel normalized."""
    x = torch.tensor(places, dtype=torch.float32)
    normal: Tensor = norm(x.mT.unsqueeze(-1))[..., 0].mT
    return normal


def _batches(order: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [order[start : start + size] for start in range(0, len(order), size)]
