"""Mean IoU and what goes with it, against torchmetrics, scikit-learn and figures worked out by hand."""

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix
from torchmetrics.classification import MulticlassJaccardIndex

from ssl_colorize.evaluate.iou import (
    choosing_value,
    class_pixels,
    classes_there,
    iou_figures,
    ious,
    miou_interval,
    summarize_ious,
)


def random_masks(count: int = 3, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """What was said (N, 20, 30), right by six in ten, and the truth, of which a tenth does not count."""
    chance = torch.Generator().manual_seed(0)
    truth = torch.randint(0, classes, (count, 20, 30), generator=chance)
    said = torch.where(torch.rand(truth.shape, generator=chance) < 0.6, truth, (truth + 1) % classes)
    truth[torch.rand(truth.shape, generator=chance) < 0.1] = 255
    return said, truth


def test_ious_worked_by_hand() -> None:
    truth = np.array([[0, 0, 1, 1, 255, 255]], np.uint8)
    said = np.array([[0, 1, 1, 1, 2, 0]], np.uint8)
    pixels = class_pixels(said, truth, 4)
    # What was said where it does not count leaves no trace.
    assert pixels.tolist() == [[1, 2, 0, 0], [2, 2, 0, 0], [1, 3, 0, 0]]
    values = ious(pixels)
    assert values[:2].tolist() == [1 / 2, 2 / 3]
    assert np.isnan(values[2:]).all()
    # A class that is said but not there is a mistake, with an IoU of 0.
    assert ious(class_pixels([2], [0], 3))[[0, 2]].tolist() == [0, 0]


def test_pixels_are_the_margins_of_the_confusion_matrix() -> None:
    said, truth = random_masks()
    counted = (truth != 255).numpy()
    table = confusion_matrix(truth.numpy()[counted], said.numpy()[counted], labels=range(6))
    expected = [np.diagonal(table), table.sum(1), table.sum(0)]
    assert class_pixels(said, truth, 6).tolist() == [each.tolist() for each in expected]


def test_ious_agree_with_torchmetrics() -> None:
    said, truth = random_masks()
    expected = MulticlassJaccardIndex(5, average=None, ignore_index=255)(said, truth).numpy()
    pixels = np.stack([class_pixels(one, other, 5) for one, other in zip(said, truth, strict=True)])
    assert ious(pixels.sum(0)) == pytest.approx(expected, abs=1e-6)
    low, high = miou_interval(pixels, seed=0, draws=50)
    assert low <= expected.mean() <= high


def photos(*seen: tuple[list[int], list[int]]) -> np.ndarray:
    """Counts of photos from what was said and the truth of each."""
    return np.stack([class_pixels(said, truth, 4) for said, truth in seen])


def test_means_tell_all_present_and_common_classes_apart() -> None:
    # The background is always there, class 1 in 20 photos, 2 in one and missed, 3 never there but said once.
    pixels = photos(*[([0, 1], [0, 1])] * 20, ([0, 3], [0, 2]))
    figures = iou_figures(pixels)
    assert figures["miou"] == (1 + 1 + 0 + 0) / 4
    assert figures["miou_present"] == (1 + 1 + 0) / 3
    assert figures["miou_common"] == 1 == choosing_value(pixels)
    assert classes_there(pixels, "abcd") == {"common": ["a", "b"], "rare": ["c"], "absent": ["d"]}
    # Where the background alone is common, those that are there choose.
    few = pixels[1:]
    assert "miou_common" not in iou_figures(few)
    assert choosing_value(few) == iou_figures(few)["miou_present"]


def test_summary_over_seeds() -> None:
    right, wrong = photos(([0, 1], [0, 1]), ([0, 0], [0, 0])), photos(([0, 0], [0, 1]), ([0, 0], [0, 0]))
    found = summarize_ious([right, wrong], ("a", "b", "c", "d"), seed=0)
    assert found["runs"] == [1.0, (3 / 4 + 0) / 2]
    assert found["miou"] == np.mean(found["runs"]) and found["spread"] == pytest.approx(np.std(found["runs"], ddof=1))
    assert found["pixel_accuracy"] == (1 + 3 / 4) / 2
    assert found["per_class"] == {"a": (1 + 3 / 4) / 2, "b": 0.5}
    assert found["low"] <= found["miou"] <= found["high"]


def test_the_interval_of_common_classes_is_theirs_alone() -> None:
    # Classes 0 and 1 are right in half of the photos; the rare class 2 is never found and moves nothing of theirs.
    seen = [([0, 1], [0, 1])] * 12 + [([1, 0], [0, 1])] * 12
    with_rare = photos(*seen, ([3, 3], [2, 2]))
    found = summarize_ious([with_rare], ("a", "b", "c", "d"), seed=0)
    alone = summarize_ious([with_rare[..., :2]], ("a", "b"), seed=0)
    assert found["miou_common"] == alone["miou"] == pytest.approx(1 / 3)
    assert (found["low_common"], found["high_common"]) == (alone["low"], alone["high"])
    assert found["low_common"] < found["miou_common"] < found["high_common"]
    assert "low_common" not in alone
