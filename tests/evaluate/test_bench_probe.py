"""The measurements run and say what they mean; how fast a machine is, is not for a test to say."""

from ssl_colorize.evaluate.bench_probe import (
    extraction_targets,
    measure_extraction,
    measure_probe,
    probe_targets,
)

SMALL = {"encoder": "random:eccv16@0.125", "crop": 16, "batch_size": 4, "repeats": 1}


def test_ratios_are_of_what_was_timed() -> None:
    found = measure_probe(classes=3, **SMALL) | measure_extraction(photos=8, workers=0, **SMALL)  # type: ignore[arg-type]
    assert found["probe_ratio"] == found["probe_seconds_all"] / found["probe_seconds_one"]
    speed = found["photos_per_second_extracted"] / found["photos_per_second_bare"]
    assert abs(speed - found["extraction_ratio"]) < 1e-6
    assert found["probe_heads"] == 56
    assert "at 16 px, 56 heads against 1" in probe_targets(found)[0][0]
    assert "at 16 px" in extraction_targets(found)[0][0]


def test_targets_are_judged_the_right_way_round() -> None:
    figures = {"probe_ratio": 1.4, "extraction_ratio": 0.95, "probe_heads": 56.0, "probe_crop": 8, "extraction_crop": 8}
    assert [row[-1] for row in (*probe_targets(figures), *extraction_targets(figures))] == ["no", "yes"]
