"""What is said follows from the intervals: worth it, not worth it, or not to be told."""

from ssl_colorize.evaluate.metrics import Difference
from ssl_colorize.worth.verdict import Comparison, imagenet_verdict, verdict

BETTER = Comparison("color", "starter", Difference(0.031, 0.012, 0.05))
WORSE = Comparison("color", "k-means", Difference(-0.02, -0.03, -0.01))
OPEN = Comparison("color", "starter", Difference(0.004, -0.01, 0.02))


def said(**compared: Comparison) -> str:
    shares = {"few": "1 % of the labels", "some": "10 % of the labels", "every": "all labels"}
    return verdict({shares[key]: one for key, one in compared.items()}, budget="10 minutes", test_photos=1400)


def test_an_interval_decides_and_not_the_higher_figure() -> None:
    assert [one.decision for one in (BETTER, WORSE, OPEN)] == ["better", "worse", "open"]
    # One that touches 0 tells nothing.
    assert Comparison("color", "starter", Difference(0.02, 0.0, 0.05)).decision == "open"


def test_worth_it_where_it_is_and_what_to_use_elsewhere() -> None:
    assert said(some=BETTER, few=WORSE, every=OPEN) == (
        "Pretraining on your photos (10 minutes) is worth it: at 10 % of the labels +3.1 points (95 %: 1.2 to 5.0) "
        "against starter. It is not worth it: at 1 % of the labels -2.0 points (95 %: -3.0 to -1.0) against k-means; "
        "use k-means instead. It cannot be told with 1,400 test photos: at all labels +0.4 points (95 %: -1.0 to 2.0) "
        "against starter; use starter, which costs nothing."
    )


def test_not_worth_it() -> None:
    text = said(every=WORSE)
    assert text.startswith("Pretraining on your photos (10 minutes) is not worth it: at all labels -2.0")
    assert "cannot be told" not in text


def test_too_few_test_photos_to_tell() -> None:
    text = said(every=OPEN, some=OPEN)
    assert text.startswith("Whether pretraining on your photos (10 minutes) is worth it cannot be told with 1,400 test")
    assert text.endswith("use starter, which costs nothing.")


def test_the_network_with_labels_of_others() -> None:
    good, bad = (one._replace(row="efficientnet_lite0") for one in (BETTER, OPEN))
    text = imagenet_verdict({"all labels": good, "10 % of the labels": bad})
    assert text.startswith("efficientnet_lite0, which learned from ImageNet's labels, is better: at all labels +3.1")
    assert "10 %" not in text
    assert "is no clear gain: at all labels +0.4" in imagenet_verdict({"all labels": bad})
