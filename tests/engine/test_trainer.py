"""The loop on a line to fit: what it logs, saves and evaluates when, and that it goes on to the bit."""

import math
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssl_colorize.engine import trainer
from ssl_colorize.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ssl_colorize.engine.log import RunLog, TrainingProgress, read_log
from ssl_colorize.engine.optimizer import Schedule, make_optimizer
from ssl_colorize.engine.signals import Interrupted
from ssl_colorize.engine.trainer import Diverged, GradientStep, Session, fit, refuse_broken, training_session

STEPS = 9


def points(start: int) -> Iterator[tuple[Tensor, Tensor]]:
    """y = 3 x - 1, four points a step."""
    for step in range(start, STEPS):
        x = torch.rand(4, 1, generator=torch.Generator().manual_seed(step))
        yield x, 3 * x - 1


def run(folder: Path, *, resume: bool = False, at: int = -1, action: Any = None, **options: Any) -> nn.Linear:
    """Fit the line; `action` is called in the step after `at` steps, and may give a factor on its loss."""
    folder.mkdir(exist_ok=True)
    line = nn.Linear(1, 1)
    nn.init.zeros_(line.weight), nn.init.zeros_(line.bias)
    optimizer = make_optimizer("adam", [{"params": list(line.parameters())}])
    state = load_checkpoint(folder, "line") if resume else Checkpoint("line", 0, line.state_dict())
    line.load_state_dict(state.model)
    if state.optimizer:
        optimizer.load_state_dict(state.optimizer)
    taken = iter(range(state.step, STEPS))

    def loss(batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        factor = action() if next(taken) == at else None
        # Drawn anew in every step.
        error = (line(batch[0]) + 0.01 * torch.randn(4, 1) - batch[1]).square().mean()
        return {"loss": error * (factor or 1), "twice": 2 * error.detach()}

    def rate(step: int) -> float:
        return 0.1 * Schedule(STEPS)(step)

    with training_session("cpu", folder, command="line") as session, RunLog(folder, state.step) as log:

        def save(step: int) -> None:
            refuse_broken(line.parameters(), step, session)
            save_checkpoint(Checkpoint("line", step, line.state_dict(), optimizer.state_dict()), folder)

        fit(
            GradientStep(line, optimizer, loss, learning_rate=rate, seed=5),
            points(state.step), start=state.step, steps=STEPS, learning_rate=rate, session=session, log=log,
            progress=TrainingProgress(state.step, STEPS, 4, quiet=True),
            **{"save": save, "save_every": 4, **options},
        )  # fmt: skip
    return line


def rows(folder: Path) -> list[dict[str, Any]]:
    """The log without what a clock says."""
    return [{key: value for key, value in row.items() if key != "photos_per_second"} for row in read_log(folder)]


def interrupt() -> None:
    signal.raise_signal(signal.SIGTERM)


def test_the_line_is_found_and_every_step_logged(tmp_path: Path) -> None:
    line = run(tmp_path)
    log = read_log(tmp_path)
    x = torch.linspace(0, 1, 50)[:, None]
    assert (line(x) - (3 * x - 1)).square().mean() < 0.8 * (3 * x - 1).square().mean()
    assert [row["step"] for row in log] == list(range(1, STEPS + 1))
    assert all(row["twice"] == pytest.approx(2 * row["loss"]) for row in log)
    assert log[0]["learning_rate"] == 0.1
    assert load_checkpoint(tmp_path, "line").step == STEPS


def test_long_runs_log_fewer_steps_but_whatever_is_evaluated_or_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "LOG_ROWS", 3)
    saved: list[int] = []
    run(
        tmp_path, save=saved.append, save_every=4, evaluate=lambda step: {"holdout_loss": float(step)},
        evaluate_at=lambda step: step in (5, 7), columns=lambda step: {"epoch": step / 2}, logged_before=100,
    )  # fmt: skip
    log = read_log(tmp_path)
    assert saved == [4, 8, 9]
    assert [row["step"] for row in log] == [101, 103, 104, 105, 106, 107, 108, 109]
    assert [(row["step"], row["holdout_loss"]) for row in log if "holdout_loss" in row] == [(105, 5), (107, 7)]
    assert all(row["epoch"] == (row["step"] - 100) / 2 for row in log)


def test_any_step_will_do(tmp_path: Path) -> None:
    """One that moves its weights by itself, as the linear probe's."""
    seen = []

    def take_step(batch: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        seen.append(step)
        return {"loss": batch[0].mean()}

    with training_session("cpu", tmp_path, command="line") as session, RunLog(tmp_path) as log:
        fit(
            take_step, points(3), start=3, steps=STEPS, learning_rate=lambda step: 1.0, session=session, log=log,
            progress=TrainingProgress(3, STEPS, 4, quiet=True), save=lambda step: None, save_every=100,
        )  # fmt: skip
    assert seen == list(range(3, STEPS))


@pytest.mark.parametrize("at", [0, 4, 7])
def test_a_stopped_run_goes_on_to_the_bit(tmp_path: Path, at: int) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    expected = run(whole)
    said = f"after step {at + 1}; saved. Go on with: ssl-colorize line --resume {parts}"
    with pytest.raises(Interrupted, match=said) as stopped:
        run(parts, at=at, action=interrupt)
    assert stopped.value.signum == signal.SIGTERM
    torch.manual_seed(123)
    line = run(parts, resume=True)
    assert rows(parts) == rows(whole)
    assert torch.equal(line.weight, expected.weight) and torch.equal(line.bias, expected.bias)


def test_a_signal_in_the_last_step_stops_nothing(tmp_path: Path) -> None:
    run(tmp_path, at=STEPS - 1, action=interrupt)
    assert load_checkpoint(tmp_path, "line").step == STEPS


def test_a_loss_that_blows_up_is_told_and_never_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Step 6 would be logged, step 8 saved.
    monkeypatch.setattr(trainer, "LOG_ROWS", 1)
    with pytest.raises(Diverged, match=r"The loss became nan at step 8: lower the learning rate, .* untouched\."):
        run(tmp_path, at=5, action=lambda: math.nan)
    assert load_checkpoint(tmp_path, "line").step == 4


def test_broken_weights_are_told(tmp_path: Path) -> None:
    with training_session("cpu", tmp_path, command="line") as session:
        check = partial(refuse_broken, step=3, session=session)
        check([torch.ones(2)])
        with pytest.raises(Diverged, match="The weights are no longer finite at step 3"):
            check([torch.ones(2), torch.tensor([1.0, math.inf])])


def test_a_gradient_is_clipped(tmp_path: Path) -> None:
    line = nn.Linear(3, 1, bias=False)
    before = line.weight.detach().clone()
    step: GradientStep[Tensor] = GradientStep(
        line, make_optimizer("sgd", [{"params": [line.weight]}], momentum=0.0), lambda x: {"loss": line(x).sum()},
        learning_rate=lambda step: 1.0, seed=0, clip=0.5,
    )  # fmt: skip
    step(torch.tensor([[0.0, 3.0, 4.0]]), 0)
    torch.testing.assert_close(before - line.weight.detach(), torch.tensor([[0.0, 0.3, 0.4]]))


def test_time_counts_from_the_sittings_before(tmp_path: Path) -> None:
    with training_session("cpu", tmp_path, command="line") as session:
        assert isinstance(session, Session) and 0 <= session.seconds < 1
        session.seconds_before = 50.0
        assert 50 <= session.seconds < 51
        assert session.share_of(6) == 6 and not session.stop_requested()
