"""The frozen study's rows and tables: which network stands beside which."""

import frozen
import studies


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
    assert [list(each) for each in frozen.bodies(FOUND)] == [
        ["random", "full", "labels"], ["random resnet", "resnet", "labels"]
    ]  # fmt: skip


def test_the_gap_is_closed_from_the_body_s_own_untrained_network():
    ours, resnet = (frozen.table(body, "probe").splitlines() for body in frozen.bodies(FOUND))
    # (0.5 - 0.1) / (0.9 - 0.1) and (0.7 - 0.3) / (0.9 - 0.3).
    assert ours[3].endswith("| 50% |") and resnet[3].endswith("| 67% |")
    assert ours[2].endswith("|  |") and ours[4].endswith("|  |")


def test_a_body_is_drawn_untrained_once(monkeypatch):
    twins = {"a": "random:eccv16@0.5", "b": "random:eccv16@0.5", "c": "random:timm:resnet18@1"}
    monkeypatch.setattr(frozen, "untrained_twins", lambda run: {"random": twins[run]})
    rows = frozen.networks({"first": "a", "second": "b", "third": "c"})
    assert [row for row in rows if row[2] == 0] == [
        ("random", twins["a"], 0), ("random third", twins["c"], 0),
        ("first", "a", 0), ("second", "b", 0), ("third", "c", 0), ("labels", studies.CEILING, 0),
    ]  # fmt: skip
