"""A source is read once, written as it was, and refused in a line that names it."""

import pytest

from ssl_colorize.errors import UserError
from ssl_colorize.models.source import Source, current_name


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("random:eccv16", Source("random", "eccv16")),
        ("random:eccv16@0.5", Source("random", "eccv16", 0.5)),
        ("kmeans:alexnet@0.25", Source("kmeans", "alexnet", 0.25)),
        ("random:timm-lightness:vit_tiny,patch_size=8", Source("random", "timm:vit_tiny,patch_size=8")),
        ("random:timm-rgb:resnet18@L", Source("timm-untrained", "resnet18", lightness_only=True)),
        ("timm:resnet50.a1_in1k", Source("timm", "resnet50.a1_in1k")),
        ("efficientnet_lite0@L", Source("lite0", "efficientnet_lite0", lightness_only=True)),
        ("eccv16_starter", Source("file", "eccv16_starter")),
    ],
)
def test_a_source_is_read_once_and_written_as_it_was(text: str, source: Source) -> None:
    assert Source.parse(text) == Source.parse(source) == source
    assert str(source) == text
    assert source.untrained == text.startswith(("random:", "kmeans:"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "No encoder '': give a run folder"),
        ("nothing/here", "No encoder 'nothing/here': give a run folder"),
        ("random:vgg", "'random:vgg': no network 'vgg', choose from alexnet, dahl, eccv16, larsson"),
        ("random:", "'random:': no network ''"),
        ("random:eccv16@half", "'half' is no width; write it like random:eccv16@0.5"),
        ("kmeans:eccv16@-1", "'kmeans:eccv16@-1': a width lies above 0 and up to 4"),
        ("random:eccv16@nan", "a width lies above 0 and up to 4"),
        ("random:timm-lightness:resnet18@2", "comes in one width; leave @2 away"),
        ("kmeans:timm:resnet18", "begin as timm has it; use random:timm-lightness:resnet18"),
        ("timm:", "names no network"),
        ("random:timm-rgb:@L", "names no network"),
        ("random:timm-rgb:resnet18@gray", "after @ comes L"),
        ("efficientnet_lite0@RGB", "after @ comes L"),
        ("timm-random:resnet18@L", "'timm-random:resnet18@L' is called 'random:timm-rgb:resnet18@L' now"),
        ("random:timm:resnet18", "'random:timm:resnet18' is called 'random:timm-lightness:resnet18' now"),
    ],
)
def test_what_is_no_source_is_told_in_one_line(text: str, complaint: str) -> None:
    with pytest.raises(UserError) as caught:
        Source.parse(text)
    assert complaint in str(caught.value) and "\n" not in str(caught.value)


def test_former_names_have_todays() -> None:
    for former in ("timm-random:resnet18@L", "random:timm:resnet18"):
        now = current_name(former)
        assert current_name(now) == now == str(Source.parse(now))
