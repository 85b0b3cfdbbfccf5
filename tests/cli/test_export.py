"""`ssl-colorize export`: files, their folder, and mistakes."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ssl_colorize.cli import main
from ssl_colorize.models import load_pretrained


def run(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["export", *words])
    return result.exit_code, result.stdout, result.stderr


def test_an_export_is_a_run_folder(workplace: Path) -> None:
    code, out, err = run("runs/tiny", "--to", "timm", "-o", "out", "--json")
    assert code == 0, err
    assert sorted(each.name for each in (workplace / "out").iterdir()) == [
        "config.yaml", "encoder.timm.safetensors", "metrics.json",
    ]  # fmt: skip
    content = json.loads(out)
    assert content["metrics"]["model"] == "colorize_eccv16" and content["metrics"]["options"] == {"width": 0.125}
    assert content["command"] == "ssl-colorize export runs/tiny --to timm -o out --json"
    assert 'timm.create_model("colorize_eccv16", width=0.125, checkpoint_path="out/encoder.timm.safetensors")' in err


def test_a_hub_folder_holds_what_a_hub_asks_for(workplace: Path) -> None:
    code, out, _ = run("runs/tiny", "--to", "hub-folder", "-o", "hub")
    assert code == 0 and "fill in the license" in out
    assert sorted(each.name for each in (workplace / "hub").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert load_pretrained("hub").input_size == 32
    # Again: nothing is overwritten.
    code, _, err = run("runs/tiny", "--to", "hub-folder", "-o", "hub")
    assert code == 2 and "is there already" in err and err.count("Error:") == 1


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("nothing", "--to", "safetensors"), "No checkpoint at nothing"),
        (("runs/tiny", "--to", "timm", "--what", "colorizer"), "timm's models are encoders"),
        (("runs/tiny",), "Give the kind with --to"),
        (("runs/tiny", "--to", "onnx", "--layer", "conv9"), "has no layer 'conv9'"),
    ],
)
def test_mistakes_are_a_line_and_leave_no_folder(workplace: Path, words: tuple[str, ...], complaint: str) -> None:
    code, _, err = run(*words, "-o", "out")
    assert code == 2 and complaint in err and "Traceback" not in err
    assert not (workplace / "out").exists()
