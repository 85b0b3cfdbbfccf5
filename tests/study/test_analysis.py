"""The share labeled real: who counts, and standard errors against the bootstrap done pair by pair."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from ssl_colorize.study.analysis import analyze, answers_csv, labeled_real, share_draws, sift
from ssl_colorize.study.protocol import Kind
from ssl_colorize.study.storage import Answer, Session, Times


def session(
    number: int,
    fooled: str,
    *,
    method: str = "full",
    watched: str = "....",
    practice: str = "xx",
    of: int | None = None,
) -> Session:
    """One in signs: x where the recolored photo was taken for real, . where not."""
    kinds: list[tuple[Kind, str]] = [("practice", practice), ("counted", fooled), ("vigilance", watched)]
    answers = [
        Answer(place, kind, f"{number}-{place}.jpg", True, sign == ".", 1, Times(1000.0, 1010.0, 500.0))
        for place, (kind, sign) in enumerate((kind, sign) for kind, signs in kinds for sign in signs)
    ]
    return Session(number, method, len(answers) if of is None else of, tuple(answers))


def test_the_bootstrap_by_hand() -> None:
    # Two participants of two pairs: one always fooled, one never. Drawing pairs changes nothing within either, so a
    # resample is both of one, one of each or both of the other: 0, 1/2, 1 with chances 1/4, 1/2, 1/4.
    shares = share_draws(np.array([2, 0]), np.array([2, 2]), resamples=10_000, seed=0)
    assert [(shares == value).mean() for value in (0, 0.5, 1)] == pytest.approx([0.25, 0.5, 0.25], abs=0.015)
    # One participant, fooled once in two: a resample of two pairs has 0, 1, 2 with chances 1/4, 1/2, 1/4.
    shares = share_draws(np.array([1]), np.array([2]), resamples=10_000, seed=0)
    assert [(shares == value).mean() for value in (0, 0.5, 1)] == pytest.approx([0.25, 0.5, 0.25], abs=0.015)


def test_the_bootstrap_against_drawing_participants_and_pairs_one_by_one() -> None:
    outcomes = [[1, 0, 0, 1, 0], [0, 0, 1], [1, 1, 1, 1, 0, 1, 0], [0, 0, 0, 0], [1, 0]]
    chance = np.random.default_rng(5)
    literal = []
    for _ in range(8000):
        pairs: list[int] = []
        for who in chance.integers(0, len(outcomes), len(outcomes)):
            pairs += [outcomes[who][which] for which in chance.integers(0, len(outcomes[who]), len(outcomes[who]))]
        literal.append(sum(pairs) / len(pairs))
    fooled, asked = np.array([sum(one) for one in outcomes]), np.array([len(one) for one in outcomes])
    quick = share_draws(fooled, asked, resamples=10_000, seed=0)
    # 8000 draws know a standard deviation to 0.8 %, and a mean to 0.0015.
    assert quick.std() == pytest.approx(np.std(literal), rel=0.03)
    assert quick.mean() == pytest.approx(np.mean(literal), abs=0.006)
    assert np.percentile(quick, [10, 90]) == pytest.approx(np.percentile(literal, [10, 90]), abs=0.02)


def test_the_standard_error_in_closed_form() -> None:
    # With n pairs each, the variance of a resample is that of the shares among participants over P, and the mean of
    # p (1 - p) / n over P.
    fooled, n = np.array([9, 14, 3, 20, 11, 8]), 36
    shares = fooled / n
    variance = shares.var() / 6 + (shares * (1 - shares) / n).mean() / 6
    drawn = share_draws(fooled, np.full(6, n), resamples=20_000, seed=1)
    assert drawn.std() == pytest.approx(variance**0.5, rel=0.02)
    assert np.sqrt((shares * (1 - shares) / n).mean() / 6) < 0.6 * variance**0.5, "participants matter in this case"


def test_labeled_real_of_counted_pairs_only() -> None:
    figures = labeled_real([session(1, "x...", watched="xx"), session(2, "xx..", practice="xxxxxxx")])
    assert (figures["labeled_real"], figures["participants"], figures["pairs"]) == (3 / 8, 2, 8)
    assert figures["low"] <= 3 / 8 <= figures["high"] and figures["standard_error"] > 0
    watched = labeled_real([session(1, "x...", watched="xx..")], kind="vigilance")
    assert watched["labeled_real"] == 0.5
    assert watched["standard_error"] is None, "of one participant nobody knows how participants differ"
    assert labeled_real([])["labeled_real"] is None


def test_who_counts() -> None:
    good, three_of_four, two_of_four = (
        session(1, "x."),
        session(2, "x.", watched="...x"),
        session(3, "x.", watched="x..x"),
    )
    unfinished, unwatched = session(4, "x.", of=40), session(5, "xx", watched="", of=40)
    careless = session(6, "x.", watched="x", of=40)
    everybody = [good, three_of_four, two_of_four, unfinished, unwatched, careless]
    sifted = sift(everybody, vigilance=0.75)
    assert sifted.counted == [good, three_of_four] and sifted.inattentive == [two_of_four]
    assert sifted.unfinished == [unfinished, unwatched, careless]
    with_them = sift(everybody, vigilance=0.75, unfinished=True)
    assert with_them.counted == [good, three_of_four, unfinished]
    assert with_them.inattentive == [two_of_four, careless] and with_them.unfinished == [unwatched]
    assert sift(everybody, vigilance=0).counted == [good, three_of_four, two_of_four]


def test_a_study_without_vigilance_pairs_counts_everybody() -> None:
    assert len(sift([session(1, "x.", watched="")], vigilance=0.75).counted) == 1
    assert len(sift([session(1, "x.", watched="", of=9)], vigilance=0.75, unfinished=True).counted) == 1


def test_the_figures_of_a_study() -> None:
    everybody = [
        session(1, "xx..", method="full"), session(2, "x...", method="full"), session(3, "....", method="l2"),
        session(4, "xxxx", method="l2", watched="xxxx"), session(5, "xxxx", method="l2", of=40),
    ]  # fmt: skip
    how = {"vigilance": 0.75, "unfinished": False, "resamples": 500, "seed": 0}
    metrics = analyze(everybody, ["l2", "full", "gray"], seconds=1.0, **how)
    assert list(metrics["methods"]) == ["l2", "full", "gray"]
    assert [one["labeled_real"] for one in metrics["methods"].values()] == [0, 3 / 8, None]
    assert metrics["sessions"] == {"begun": 5, "finished": 4, "counted": 3, "unfinished": 1, "inattentive": 1}
    # Of all that were finished: without the careless one it would be 0 by construction.
    assert metrics["vigilance"]["labeled_real"] == 4 / 16
    assert metrics["shown"] == {"seconds": 1.005, "off": 0, "loaded_again": 0}
    assert analyze(everybody, ["full"], seconds=0.9, **how)["shown"]["off"] == 1


def test_every_answer_on_a_line() -> None:
    everybody = [session(1, "x."), session(2, "x", of=40)]
    rows = list(csv.DictReader(answers_csv(everybody, everybody[:1]).splitlines()))
    assert len(rows) == 8 + 7
    assert [row["labeled_real"] for row in rows[2:4]] == ["1", "0"] and rows[2]["photo"] == "1-2.jpg"
    assert {(row["session"], row["counted"]) for row in rows} == {("1", "1"), ("2", "0")}
