"""The frozen study's rows and tables: which network stands beside which."""

from typing import Any, NamedTuple

import click
import frozen
import numpy as np
import pytest
import studies

from ssl_colorize.data import LabeledDataset
from ssl_colorize.errors import UserError
from ssl_colorize.evaluate.probe_config import ProbeSettings


def draws(*layers: str, top1: float) -> list[dict]:
    one = {name: {"probe": {"top1": top1, "choosing": top1}} for name in layers}
    return [{"layers": one}]


FOUND = {
    "full": draws("conv1", "conv2", top1=0.5),
    "labels": draws("head", top1=0.9),
    "random": draws("conv1", "conv2", top1=0.1),
    "resnet": draws("layer1", top1=0.7),
    "random resnet": draws("layer1", top1=0.3),
}


def test_each_body_has_a_table_with_its_own_untrained_network_and_the_ceiling():
    assert [list(each) for each in frozen.bodies(FOUND, "probe")] == [
        ["random", "full", "labels"], ["random resnet", "resnet", "labels"]
    ]  # fmt: skip


def test_a_body_that_was_not_measured_so_has_no_table():
    few = {name: [{"layers": {"conv1": {"knn": {}}}}] for name in ("random", "full", "labels")}
    found = few | {name: FOUND[name] for name in ("random resnet", "resnet")}
    assert [list(each) for each in frozen.bodies(found | {"labels": few["labels"]}, "knn")] == [
        ["random", "full", "labels"]
    ]


def test_the_gap_is_closed_from_the_body_s_own_untrained_network():
    ours, resnet = (frozen.table(body, "probe").splitlines() for body in frozen.bodies(FOUND, "probe"))
    # (0.5 - 0.1) / (0.9 - 0.1) and (0.7 - 0.3) / (0.9 - 0.3).
    assert ours[3].endswith("| 50% |") and resnet[3].endswith("| 67% |")
    assert ours[2].endswith("|  |") and ours[4].endswith("|  |")


def test_a_body_is_drawn_untrained_once(monkeypatch):
    ours, other = "random:eccv16@0.5", "random:timm-lightness:resnet18@1"
    twins = {"a": ours, "a1": ours, "b": ours, "c": other}
    monkeypatch.setattr(frozen, "untrained_twins", lambda run: {"random": twins[run]})
    rows = frozen.networks([("first", "a", 0), ("first", "a1", 1), ("second", "b", 0), ("third", "c", 0)])
    assert rows == [
        *(("random", ours, seed) for seed in range(3)), *(("random third", other, seed) for seed in range(3)),
        ("first", "a", 0), ("first", "a1", 1), ("second", "b", 0), ("third", "c", 0), ("labels", studies.CEILING, 0),
    ]  # fmt: skip


def test_runs_of_one_name_are_draws_told_apart_by_their_seeds(monkeypatch):
    class Trained(NamedTuple):
        training: dict[str, Any]

    seeds = {"a": 0, "b": 2, "again": 2}
    monkeypatch.setattr(frozen, "load_pretrained", lambda run: Trained({"recipe": {"seed": seeds[run]}}))
    assert frozen.seeded([("full", "a"), ("full", "b")]) == [("full", "a", 0), ("full", "b", 2)]
    with pytest.raises(UserError, match="again: b is full of seed 2 already"):
        frozen.seeded([("full", "b"), ("full", "again")])


def test_where_a_name_is_one_run_a_second_is_refused():
    assert studies.named(["full=a", "l2=b"]) == {"full": "a", "l2": "b"}
    with pytest.raises(click.UsageError, match="full is a already"):
        studies.named(["full=a", "full=b"])


class Unread:
    """Photos that nobody opens."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def take(self, indices: list[int]) -> "Unread":
        return Unread(len(indices))


def labeled(labels: np.ndarray) -> LabeledDataset:
    return LabeledDataset(Unread(len(labels)), labels, ("a", "b"))


def test_few_labels_are_few_and_equally_of_each_class_and_drawn_several_times():
    chance = np.random.default_rng(0)
    labels = np.arange(400) % 2
    # Of 20 numbers one tells the classes apart, so that more photos find it better.
    features = chance.normal(size=(400, 20)) + np.eye(20)[0] * labels[:, None]
    train, test = labeled(labels[:300]), labeled(labels[300:])
    settings = ProbeSettings(encoder="random", data=("given",), engine="ridge")
    few, many = (
        frozen.few_labels(features[:300], train, features[300:], test, count=count, settings=settings)
        for count in (12, 200)
    )
    assert (few["photos"], many["photos"]) == (12, 200)
    assert few["top1"] < many["top1"] and few["spread"] > 0


def test_machines_rank_what_can_be_told_apart():
    chance = np.random.default_rng(0)
    labels = (chance.random((120, 2)) < 0.4).astype(np.int8)
    features = np.concatenate([labels[:, :1] + 0.1 * chance.normal(size=(120, 1)), chance.normal(size=(120, 3))], 1)
    found = frozen.machines(
        features[:80], labeled(labels[:80]), features[80:], labeled(labels[80:]), seed=0
    )  # fmt: skip
    # The first class is seen, the second is not in the features: 1 and about its share.
    assert 0.6 < found["map"] < 0.85 and 0.5 < found["choosing"] < 0.95
    assert frozen.value(found) == found["map"]
