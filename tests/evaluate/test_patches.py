"""Segmentation by the nearest patches, against loops in float64, scikit-learn and figures worked out by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsRegressor

from ssl_colorize.errors import UserError
from ssl_colorize.evaluate import neighbor_segmentation
from ssl_colorize.evaluate.patches import PatchBank, as_patches, patch_labels, sample_patches


@pytest.fixture
def arrays() -> tuple[Any, Any, Any]:
    """Features (60, 8) and labels (60, 5) of a bank, and features (20, 8) of queries."""
    chance = np.random.default_rng(0)
    labels = chance.dirichlet(np.full(5, 0.3), 60)
    return chance.normal(size=(60, 8)), labels, chance.normal(size=(20, 8))


def test_cross_attention_as_in_a_loop_in_float64(arrays: tuple[Any, Any, Any]) -> None:
    bank, labels, queries = arrays
    expected = np.zeros((20, 5))
    for number, query in enumerate(queries):
        cosines = [float(query @ row / np.linalg.norm(query) / np.linalg.norm(row)) for row in bank]
        nearest = sorted(range(60), key=lambda row: -cosines[row])[:7]
        weights = np.exp([cosines[row] / 0.1 for row in nearest])
        for weight, row in zip(weights / weights.sum(), nearest, strict=True):
            expected[number] += weight * labels[row]
    found = neighbor_segmentation(bank, labels, torch.from_numpy(queries), k=7, temperature=0.1)
    assert found == pytest.approx(expected, abs=1e-5)
    # Blocks of the search change nothing.
    assert neighbor_segmentation(bank, labels, queries, k=7, temperature=0.1, memory=1) == pytest.approx(found)


def test_at_a_high_temperature_it_is_scikit_learns_mean_of_neighbors(arrays: tuple[Any, Any, Any]) -> None:
    bank, labels, queries = arrays
    reference = KNeighborsRegressor(9, metric="cosine").fit(bank, labels)
    found = neighbor_segmentation(bank, labels, queries, k=9, temperature=1e6)
    assert found == pytest.approx(reference.predict(queries), abs=1e-5)


def test_a_cold_temperature_takes_the_nearest_and_does_not_overflow(arrays: tuple[Any, Any, Any]) -> None:
    bank, labels, _ = arrays
    assert neighbor_segmentation(bank, labels, 1000 * bank, k=30, temperature=1e-6) == pytest.approx(labels, abs=1e-5)


def test_more_neighbors_than_patches_is_one_line(arrays: tuple[Any, Any, Any]) -> None:
    with pytest.raises(UserError, match="holds only 60 patches"):
        neighbor_segmentation(*arrays, k=61)


def test_labels_are_the_shares_of_the_pixels_that_count() -> None:
    chance = np.random.default_rng(0)
    mask = chance.choice([0, 1, 4, 255], (12, 20)).astype(np.uint8)
    mask[:4, :5] = 255
    found = patch_labels(mask, (3, 4), 6).reshape(3, 4, 6)
    for row in range(3):
        for column in range(4):
            pixels = mask[4 * row : 4 * row + 4, 5 * column : 5 * column + 5].ravel()
            counted = pixels[pixels != 255]
            expected = [(counted == number).mean() if len(counted) else 0.0 for number in range(6)]
            assert found[row, column].tolist() == pytest.approx(expected), (row, column)


def test_sampling_takes_rare_classes_first_and_never_what_does_not_count() -> None:
    # 90 patches of background, 6 of a class, 4 that are ignored.
    labels = np.zeros((100, 2), np.float32)
    labels[:90, 0], labels[90:96, 1] = 1, 1
    draws = [sample_patches(labels, 12, np.random.default_rng(seed)) for seed in range(200)]
    assert all(len(set(rows)) == 12 and (np.diff(rows) > 0).all() and rows.max() < 96 for rows in draws)
    rare = np.mean([(rows >= 90).sum() for rows in draws])
    # A background patch's score is 90 u, one of the class 6 u: nearly all of these come before most of those.
    assert 5.2 < rare < 6
    assert len({tuple(rows) for rows in draws}) > 190, "the background is sampled at random"
    assert sample_patches(labels, 1000, np.random.default_rng(0)).tolist() == list(range(96))
    # The scores as the paper has them: classes of a patch, each counted in patches, times a uniform number.
    mixed = np.array([[1, 0], [0.5, 0.5], [0, 1], [0, 1]], np.float32)
    scores = np.array([2, 2 + 3, 3, 3]) * np.random.default_rng(3).uniform(size=4)
    assert sample_patches(mixed, 2, np.random.default_rng(3)).tolist() == sorted(np.argsort(scores)[:2])


def test_a_bank_never_holds_more_than_it_was_made_for() -> None:
    bank = PatchBank(5, 3, 2)
    for number in (1, 2):
        bank.add(np.full((3, 3), number, np.float32), np.eye(2, dtype=np.float32)[[0, 1, 1]])
    assert len(bank) == 5
    assert bank.features[:, 0].tolist() == [1, 1, 1, 2, 2] and bank.labels[:, 1].tolist() == [0, 1, 1, 0, 1]


def test_finer_maps_are_averaged_to_patches() -> None:
    x = torch.arange(32.0).view(1, 1, 4, 8)
    assert as_patches(x, 2, 8)[0, 0].tolist() == [[13.5, 17.5]]
    assert as_patches(x, 16, 8) is x
