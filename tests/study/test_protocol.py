"""The paper's session: 10 pairs with feedback, 40 without, 4 of those real against Random, order by a coin."""

from __future__ import annotations

from random import Random

import pytest

from ssl_colorize.errors import UserError
from ssl_colorize.study.protocol import Protocol, plan_session

PHOTOS = [f"{number}.jpg" for number in range(60)]


def test_a_session_is_the_papers() -> None:
    pairs = plan_session(PHOTOS, Protocol(), Random(0))
    assert [pair.kind for pair in pairs[:10]] == ["practice"] * 10
    kinds = [pair.kind for pair in pairs[10:]]
    assert (kinds.count("counted"), kinds.count("vigilance"), len(kinds)) == (36, 4, 40)
    assert len({pair.photo for pair in pairs}) == 50, "a photo that comes twice gives its truth away"
    assert Protocol().seconds == 1


def test_order_place_and_photo_are_chance() -> None:
    plans = [plan_session(PHOTOS, Protocol(), Random(seed)) for seed in range(400)]
    first = sum(pair.real_first for plan in plans for pair in plan) / (400 * 50)
    assert abs(first - 0.5) < 0.015  # four standard deviations of a fair coin
    watched = [sum(plan[place].kind == "vigilance" for plan in plans) for place in range(10, 50)]
    assert min(watched) > 15 and max(watched) < 70  # 40 each, +- 6
    # The coin knows nothing of the kind.
    vigilance = [pair.real_first for plan in plans for pair in plan if pair.kind == "vigilance"]
    assert abs(sum(vigilance) / len(vigilance) - 0.5) < 0.05


def test_nonsense_is_refused() -> None:
    with pytest.raises(UserError, match="vigilance"):
        Protocol.resolve(flags={"vigilance": 0.9})
    with pytest.raises(ValueError, match="larger than population"):
        plan_session(PHOTOS[:49], Protocol(), Random(0))
