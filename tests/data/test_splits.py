"""What trains, what chooses and what tests never overlap, and no class is lost on the way."""

import numpy as np
import pytest

from ssl_colorize.data import choosing_split
from ssl_colorize.errors import UserError


def test_choosing_split_takes_its_share_of_every_class() -> None:
    labels = np.repeat(np.arange(4), [50, 10, 2, 1])[np.random.default_rng(0).permutation(63)]
    fit, choose = choosing_split(labels, fraction=0.2, seed=3)
    assert sorted([*fit, *choose]) == list(range(63))
    assert np.bincount(labels[choose], minlength=4).tolist() == [10, 2, 1, 0]
    assert (np.diff(fit) > 0).all() and (np.diff(choose) > 0).all()
    assert choosing_split(labels, seed=3)[1].tolist() == choose.tolist()
    assert choosing_split(labels, seed=4)[1].tolist() != choose.tolist()


def test_choosing_split_never_takes_all_of_a_class() -> None:
    fit, _ = choosing_split(np.repeat(np.arange(3), 2), fraction=0.9)
    assert sorted(np.repeat(np.arange(3), 2)[fit]) == [0, 1, 2]


def test_choosing_split_of_many_labels_keeps_every_class_to_fit_on() -> None:
    labels = np.zeros((40, 3), np.int8)
    labels[:, 0] = 1
    labels[7, 1] = labels[8, 2] = labels[9, 2] = 1
    labels[10:, 1] = -1
    for seed in range(10):
        fit, choose = choosing_split(labels, seed=seed)
        assert len(choose) == 8
        assert ((labels[fit] == 1).sum(0) > 0).all()
        assert 7 not in choose


def test_choosing_split_needs_photos_to_spare() -> None:
    for labels in (np.arange(5), np.ones((1, 2), np.int8), np.eye(3, dtype=np.int8)):
        with pytest.raises(UserError, match="at least 2"):
            choosing_split(labels)
