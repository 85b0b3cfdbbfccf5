"""Which look is the best, and states that come back from a file as they were."""

from pathlib import Path

import torch

from ssl_colorize.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ssl_colorize.finetune.state import Look, State, best_look, restored, stored


def test_the_best_look() -> None:
    low, early, late, high = Look(0, 4, 0.5), Look(0, 2, 0.75), Look(1, 6, 0.75), Look(2, 6, 0.75)
    assert best_look([low, early]) is early
    # Of equal figures the longest training, and then the lowest learning rate.
    assert best_look([low, early, late, high]) is late
    assert best_look([Look(0, 4, float("-inf")), low]) is low


def test_a_state_through_a_file(tmp_path: Path) -> None:
    state = State(1, 3, 12, [Look(0, 12, 0.25), Look(1, 2, float("-inf"))], 4.5, {"weight": torch.arange(3.0)})
    save_checkpoint(Checkpoint("finetune", 3, extra=stored(state)), tmp_path)
    again = restored(load_checkpoint(tmp_path, "finetune").extra)
    assert stored(again).keys() == stored(state).keys()
    assert torch.equal(again.best["weight"], state.best["weight"])
    again.best = state.best = None
    assert again == state
