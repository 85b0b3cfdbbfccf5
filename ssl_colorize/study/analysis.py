"""From answers to the share labeled real, with standard errors (paper section 3.1)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_colorize.evaluate.metrics import bootstrap_draws
from ssl_colorize.study.storage import Session

# Pairs whose photos were on the screen this much longer or shorter than asked are told in the report.
_TOLERANCE = 0.05


@dataclass(frozen=True)
class Sifted:
    """Sessions, and why others do not count."""

    counted: list[Session]
    unfinished: list[Session]
    inattentive: list[Session]


def sift(sessions: Sequence[Session], *, vigilance: float, unfinished: bool = False) -> Sifted:
    """Tell the sessions that count from those that do not.

    Args:
        vigilance: the share of its vigilance pairs that a session has to answer rightly. A session that was to have
            such pairs and was left before the first is unfinished, whatever else is asked.
        unfinished: count sessions that were not finished, too.
    """
    sifted = Sifted([], [], [])
    watching = any(one.kind == "vigilance" for session in sessions for one in session.answers)
    for session in sessions:
        watched = [one.right for one in session.answers if one.kind == "vigilance"]
        if not session.finished and not (unfinished and _fooled(session) and (watched or not watching)):
            sifted.unfinished.append(session)
        elif watched and sum(watched) < vigilance * len(watched):
            sifted.inattentive.append(session)
        else:
            sifted.counted.append(session)
    return sifted


def _fooled(session: Session, kind: str = "counted") -> list[bool]:
    """Of each of its pairs of a kind, whether the recolored photo was taken for real."""
    return [not one.right for one in session.answers if one.kind == kind]


def share_draws(fooled: NDArray[Any], asked: NDArray[Any], *, resamples: int, seed: int) -> NDArray[np.float64]:
    """Resample participants, then the pairs within each: the share labeled real in every resample.

    Of n pairs of which k were labeled real, a resample of n has a binomial number: drawing that is drawing the pairs.

    Args:
        fooled: (P,) pairs that each participant labeled wrongly.
        asked: (P,) pairs that each participant answered, at least 1.

    Returns:
        (resamples,) shares over all pairs of the drawn participants.
    """
    pairs = np.random.default_rng((seed, 1))

    def share(rows: NDArray[np.int64]) -> float:
        number = asked[rows]
        return float(pairs.binomial(number, fooled[rows] / number).sum() / number.sum())

    return bootstrap_draws(share, len(asked), seed=seed, draws=resamples)


def labeled_real(
    sessions: Sequence[Session], *, kind: str = "counted", resamples: int = 10_000, seed: int = 0
) -> dict[str, Any]:
    """Share of pairs in which the recolored photo was picked as real, and how sure that is.

    Returns:
        "labeled_real", its bootstrap "standard_error" and 95 % interval "low" to "high" (None with fewer than 2
        participants, of whom none could be resampled), "participants" and "pairs".
    """
    answers = [found for session in sessions if (found := _fooled(session, kind))]
    fooled, asked = (np.array([count(each) for each in answers], dtype=np.int64) for count in (sum, len))
    figures: dict[str, Any] = {
        "labeled_real": float(fooled.sum() / asked.sum()) if len(answers) else None,
        "standard_error": None, "low": None, "high": None,
        "participants": len(answers), "pairs": int(asked.sum()),
    }  # fmt: skip
    if len(answers) > 1:
        shares = share_draws(fooled, asked, resamples=resamples, seed=seed)
        low, high = np.percentile(shares, [2.5, 97.5])
        figures |= {"standard_error": float(shares.std(ddof=1)), "low": float(low), "high": float(high)}
    return figures


def analyze(
    sessions: Sequence[Session], methods: Sequence[str], *, vigilance: float, unfinished: bool, seconds: float,
    resamples: int, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """The figures of a study.

    Args:
        methods: in the order in which they are told.
        vigilance: as in `sift`.
        unfinished: as in `sift`.
        seconds: how long each photo was to be shown.

    Returns:
        "methods": by name as `labeled_real`; "vigilance": the same of the vigilance pairs of all finished sessions,
        also those left out, since leaving out by it would flatter it; "sessions": how many; "shown": the median time a
        photo was on the screen in seconds, the share of pairs where one was off by more than 5 %, and the share whose
        photos were loaded more than once, and so perhaps seen twice.
    """
    sifted = sift(sessions, vigilance=vigilance, unfinished=unfinished)
    how: dict[str, Any] = {"resamples": resamples, "seed": seed}
    finished = [session for session in sessions if session.finished]
    return {
        "methods": {
            name: labeled_real([each for each in sifted.counted if each.method == name], **how) for name in methods
        },
        "vigilance": labeled_real(finished, kind="vigilance", **how),
        "sessions": {
            "begun": len(sessions), "finished": len(finished), "counted": len(sifted.counted),
            "unfinished": len(sifted.unfinished), "inattentive": len(sifted.inattentive),
        },
        "shown": _shown(sifted.counted, seconds),
    }  # fmt: skip


def _shown(sessions: Sequence[Session], seconds: float) -> dict[str, float | None]:
    answers = [one for session in sessions for one in session.answers if one.kind != "practice"]
    times = [(one.times.first, one.times.second) for one in answers if one.times.first and one.times.second]
    shown = np.array(times, dtype=float).reshape(-1, 2) / 1000
    off = (np.abs(shown / seconds - 1) > _TOLERANCE).any(1)
    return {
        "seconds": float(np.median(shown)) if len(shown) else None,
        "off": float(off.mean()) if len(shown) else None,
        "loaded_again": sum(one.fetched > 1 for one in answers) / len(answers) if answers else None,
    }


def answers_csv(sessions: Sequence[Session], counted: Sequence[Session]) -> str:
    """Every answer on a line, for a statistician's own tools."""
    out = io.StringIO()
    columns = ("session", "method", "counted", "place", "kind", "photo", "real_first", "picked_first", "labeled_real",
               "first_ms", "second_ms", "took_ms", "loaded")  # fmt: skip
    write = csv.writer(out, lineterminator="\n")
    write.writerow(columns)
    which = {session.number for session in counted}
    for session in sessions:
        for one in session.answers:
            write.writerow(
                (session.number, session.method, int(session.number in which), one.place, one.kind, one.photo,
                 int(one.real_first), int(one.picked_first), int(not one.right),
                 one.times.first, one.times.second, one.times.took, one.fetched)
            )  # fmt: skip
    return out.getvalue()
