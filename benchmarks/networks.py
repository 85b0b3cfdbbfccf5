"""Every network of the studies by its name, and how it is trained: a recipe of `configs/` and what differs from it.

Nothing here knows where photos or runs lie; `reproduce.py` does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# The outside ceiling: EfficientNet-Lite0, trained on ImageNet's labels.
CEILING = "efficientnet_lite0"
UNTRAINED = ("random", "kmeans")


@dataclass(frozen=True)
class Network:
    """A row of a table.

    Attributes:
        name: of its run's folder.
        source: of one that nothing here trains, as `load_encoder` takes it; `{width}` is the width of the others.
        config: the recipe of `configs/` that it is trained by.
        settings: what differs from that.
        start: the network whose weights it begins from.
        pretext: of one that `pretexts.py` trains, on what `like` is trained on, seed by seed.
        draws: how many are trained or drawn, with seeds from 0.
        leave_out: whether training photos that have near-copies among test photos are left out.
        samples: whether it is trained on the sample photos that come with the installed packages.
    """

    name: str
    source: str = ""
    config: str = "eccv16_half_64"
    settings: Mapping[str, Any] = field(default_factory=dict)
    start: str = ""
    pretext: str = ""
    like: str = ""
    draws: int = 1
    leave_out: bool = True
    samples: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """The networks that are trained before it."""
        return tuple(each for each in (self.start, self.like) if each)

    def key(self, seed: int) -> str:
        """The name of the run's folder."""
        return f"{self.name}-{seed}"


def _untrained(kind: str, body: str, model: str) -> Network:
    return Network(f"{kind} {body}".strip(), source=f"{kind}:{model}", draws=3)


def _long(name: str, **more: Any) -> Network:
    """One of 115,200 photos, the budget of the evidence."""
    settings = {"steps": 1800} | more.pop("settings", {})
    return Network(name, settings=settings, **more)


def _pilot(name: str, **settings: Any) -> Network:
    """One of 38,400 photos, to compare recipes with."""
    return Network(f"pilot-{name}", settings={"steps": 600} | settings)


def _small(name: str, *, leave_out: bool = True, **settings: Any) -> Network:
    """The same on photos of 32 px."""
    return Network(
        f"pilot-{name}", config="eccv16_half_32", settings={"steps": 600} | settings, leave_out=leave_out
    )  # fmt: skip


_LSUV = {"init": "lsuv"}
_ALL = (
    # Untrained, and taught by ImageNet's labels.
    _untrained("random", "", "eccv16@{width}"),
    _untrained("kmeans", "", "eccv16@{width}"),
    _untrained("random", "alexnet", "alexnet@{width}"),
    _untrained("kmeans", "alexnet", "alexnet@{width}"),
    _untrained("random", "resnet18", "timm-lightness:resnet18"),
    _untrained("random", "convnext", "timm-lightness:convnext_atto"),
    Network("labels", source=CEILING),
    # The evidence: one budget, the paper's rows, other pretexts, and names as the ceiling.
    _long("full", draws=3),
    _long("class", settings={"rebalance": False}),
    _long("l2", settings={"objective": "l2", "rebalance": False}),
    _long("nn10", settings={"neighbors": 10}),
    _long("alexnet", settings={"model": "alexnet"}),
    Network("rotation", pretext="rotation", like="full", draws=3),
    Network("autoencoder", pretext="autoencoder", like="full"),
    Network("supervised", pretext="supervised", like="full", draws=2),
    # From LSUV, trained before the near-copies were known.
    _long("lsuv", settings=_LSUV, leave_out=False),
    _long("lsuv-long", settings=_LSUV | {"steps": 3600}, leave_out=False),
    _long("resnet18", settings=_LSUV | {"model": "timm:resnet18"}, leave_out=False),
    _long("convnext", settings=_LSUV | {"model": "timm:convnext_atto"}, leave_out=False),
    _long("lsuv-class", settings=_LSUV | {"rebalance": False}, leave_out=False),
    _long("lsuv-l2", settings=_LSUV | {"objective": "l2", "rebalance": False}, leave_out=False),
    Network("dahl", config="dahl_half_64", leave_out=False),
    Network("larsson", config="larsson_half_64", leave_out=False),
    Network("l2-from-full", config="l2_from_full_half_64", start="lsuv", leave_out=False),
    # The network that ships.
    Network("small", config="eccv16_half_32"),
    Network("starter", settings={"steps": 1800, "learning_rate": 5e-4}, start="small"),
    # Recipes, a setting or two each.
    _pilot("base"),
    _pilot("lsuv", init="lsuv"),
    _pilot("lr5e-4", learning_rate=5e-4),
    _pilot("lr2e-3", learning_rate=2e-3),
    _pilot("mix08", mix=0.8),
    _pilot("jitter", jitter=0.3),
    _pilot("blur", blur=0.3),
    _pilot("scale", resize=[64, 160]),
    _pilot("noema", ema=None),
    _pilot("steps", schedule="steps", milestones=[[400, 3e-4], [520, 1e-4]]),
    _small("small32", steps=1200),
    _small("curriculum_first"),
    Network("pilot-curriculum", settings={"steps": 300, "learning_rate": 5e-4}, start="pilot-curriculum_first"),
    _small("photos1000", limit=1000, leave_out=False),
    _small("photos10000", limit=10000, leave_out=False),
    Network("pilot-hypercolumn", pretext="hypercolumn", like="pilot-base"),
    # Initializations, on few photos.
    *(
        Network(
            f"init-{init}", config="quickstart", draws=3, leave_out=False, samples=True,
            settings={"init": init, "steps": 400, "resize": [64, 112], "evaluate_every": 25},
        )
        for init in ("plain", "lsuv", "kmeans")
    ),
)  # fmt: skip
NETWORKS = {network.name: network for network in _ALL}


def kind_of(name: str) -> str:
    """What a row is, without the body that it belongs to: "random resnet18" is a "random"."""
    return name.partition(" ")[0]


def row_order(name: str) -> tuple[int, int, str]:
    """The order of rows: untrained networks first, those of labels last."""
    last = {"supervised": 2, "labels": 3}.get(name, 1)
    return (0 if kind_of(name) in UNTRAINED else last, 0 if kind_of(name) == "random" else 1, name)
