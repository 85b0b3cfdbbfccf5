"""Files of weights: a trained network with everything its colors depend on, in one file; and the authors' own."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ssl_colorize.color import ab_bins
from ssl_colorize.errors import UserError
from ssl_colorize.models.eccv16 import released_keys
from ssl_colorize.models.objectives import AB_SCALE
from ssl_colorize.models.registry import ColorizationModel, create_model, is_model, model_type
from ssl_colorize.models.released import is_release, released_file
from ssl_colorize.models.unwrap import read_state
from ssl_colorize.runs import write_atomically

WEIGHTS_NAME = "model.safetensors"
RELEASED_INPUT_SIZE = 256
_COLOR_PREFIX = "color."
# The objective of a network that learned something else than colors, and has one output.
FEATURES = "features"


@dataclass
class Pretrained:
    """A network and what its outputs mean.

    Attributes:
        model: in eval mode.
        bins: (Q, 2) float32, the ab centers that the logits stand for.
        prior: (Q,) float32, the colors of its training photos, smoothed; None if unknown.
        mix: share of the uniform distribution in its class weights; None if unknown or not rebalanced.
        temperature: of the annealed mean that it decodes with unless told otherwise.
        input_size: short side in pixels of the photos as it saw them in training (before cropping).
        objective: what the outputs are: one of `model.objectives`, or `FEATURES` (no colors: the network learned
            something else, and its layers are what it is for).
        training: figures of its training, free in form.
        source: where it came from.
    """

    model: ColorizationModel
    bins: Tensor = field(default_factory=ab_bins)
    prior: Tensor | None = None
    mix: float | None = None
    temperature: float = 0.38
    input_size: int = RELEASED_INPUT_SIZE
    objective: str = "class"
    training: dict[str, Any] = field(default_factory=dict)
    source: str = ""

    @property
    def colors(self) -> bool:
        """Whether its outputs are colors."""
        return self.objective != FEATURES and self.model.direction == "L-to-ab"

    def require_colors(self) -> None:
        """Refuse a network that was trained for something else.

        Raises:
            UserError: its outputs are no colors.
        """
        if self.model.direction == "ab-to-L":
            raise UserError(
                f"{self.source or 'This network'} predicts lightness from color (direction ab-to-L), so it colors no "
                "photos: it is an encoder only, for linear-probe, knn, svm and split:RUN_L+RUN_ab."
            )
        if not self.colors:
            raise UserError(
                f"{self.source or 'This network'} was not trained to color photos: it is an encoder only, for "
                "linear-probe, knn, svm and finetune. Give a network that `ssl-colorize pretrain` trained."
            )

    def decode(
        self, output: Tensor, light: Tensor, *, temperature: float | None = None, bins: Tensor | None = None
    ) -> Tensor:
        """The model's raw output as colors, ab (B, 2, h, w) float32; see `Objective.decode`.

        Args:
            output: (B, model.outputs, h, w).
            light: what the model saw of the output's pixels, (B, 1, h, w) in 0..100.
            temperature: of the annealed mean; the network's own by default.
            bins: a copy of its own, elsewhere.

        Raises:
            UserError: it predicts no colors, or the output is not finite.
        """
        self.require_colors()
        if not output.isfinite().all():
            raise UserError(
                f"{self.source or 'The network'} gives colors that are not finite: its numbers overflow in "
                f"{self.model.dtype}; use .float() or .bfloat16()."
            )
        # Colors are computed in float32, whatever the network runs in.
        return self.model.objectives[self.objective].decode(
            output.float(), light.float(),
            temperature=self.temperature if temperature is None else temperature,
            bins=self.bins if bins is None else bins,
        )  # fmt: skip

    def to(self, device: torch.device | str) -> "Pretrained":
        self.model.to(device)
        self.bins = self.bins.to(device)
        return self


def predict_ab(
    pretrained: Pretrained, light: Tensor, *, temperature: float | None = None, flip: bool = False
) -> Tensor:
    """The colors that a network predicts.

    Args:
        pretrained: the network; only that of the class objective has a temperature, the others ignore it.
        light: (B, 1, H, W) in 0..100, as `model.light` makes it of photos, sides multiples of `model.multiple`.
        temperature: of the annealed mean; the network's own by default.
        flip: average what the network says of the light and of its mirror image, before decoding; twice the time.

    Returns:
        ab (B, 2, h, w) float32 at 1/target_stride of the input.

    Raises:
        UserError: it predicts no colors.

    >>> pretrained = load_pretrained("eccv16_starter")
    >>> predict_ab(pretrained, torch.full((1, 1, 64, 64), 50.0)).shape
    torch.Size([1, 2, 16, 16])
    """
    pretrained.require_colors()
    output = pretrained.model(light)
    if flip:
        output = (output + pretrained.model(light.flip(-1)).flip(-1)) / 2
    return pretrained.decode(output, light, temperature=temperature)


def save_pretrained(pretrained: Pretrained, path: Path) -> None:
    """Write one self-contained safetensors file, atomically.

    Raises:
        UserError: it cannot be written (full disk, no permission).

    >>> save_pretrained(Pretrained(create_model("eccv16", width=0.125), temperature=0.5), Path("model.safetensors"))
    >>> load_pretrained("model.safetensors").temperature
    0.5
    """
    tensors = dict(pretrained.model.state_dict()) | {_COLOR_PREFIX + "bins": pretrained.bins}
    if pretrained.prior is not None:
        tensors[_COLOR_PREFIX + "prior"] = pretrained.prior.float()
    about = {
        "model": pretrained.model.name,
        "width": pretrained.model.width,
        "mix": pretrained.mix,
        "temperature": pretrained.temperature,
        "input_size": pretrained.input_size,
        "objective": pretrained.objective,
        "lab": "CIELAB, D65 2 degrees, L 0..100",
        "training": pretrained.training,
    }
    write_weights(path, tensors, about, kind="network")


def load_pretrained(source: str | Path, *, device: torch.device | str = "cpu") -> Pretrained:
    """Load a run folder, a weights file that `save_pretrained` wrote, or the authors' released eccv16 file.

    "eccv16-release" is that file from PyTorch's cache, or fetched (`models.released`). Every key must be there and no
    other: a file that fits only in part is refused.

    Raises:
        UserError: nothing is there, or it is not a file of these kinds, or its keys or shapes do not fit.

    >>> pretrained = load_pretrained("eccv16_starter")
    >>> pretrained.model.name, pretrained.model.width, pretrained.objective
    ('eccv16', 0.5, 'class')
    """
    path = released_file(str(source)) if is_release(source) else Path(source)
    if path.is_dir():
        if not (path / WEIGHTS_NAME).is_file():
            raise UserError(f"{path} holds no {WEIGHTS_NAME}: give the folder of a `ssl-colorize pretrain` run.")
        path = path / WEIGHTS_NAME
    if not path.is_file():
        raise UserError(
            f"No checkpoint at {source}: give a run folder, a .safetensors file, the released .pth file, or "
            "eccv16-release."
        )
    pretrained = _load_released(path) if _is_pickled(path) else _load_own(path)
    refuse_infinite({"bins": pretrained.bins, "prior": pretrained.prior}, where=path)
    pretrained.source = str(source)
    pretrained.model.eval()
    return pretrained.to(device)


def _is_pickled(path: Path) -> bool:
    """Whether torch.save wrote a file, whatever its name ends in."""
    if path.suffix in {".safetensors", ".pth", ".pt"}:
        return path.suffix != ".safetensors"
    with path.open("rb") as file:
        return file.read(4)[:2] in (b"PK", b"\x80\x02")


def _load_own(path: Path) -> Pretrained:
    about, tensors = read_weights(path, kind="network", writer="ssl-colorize")
    if not is_model(about["model"]):
        raise UserError(f"{path} holds a {about['model']!r}, which this version does not know.")
    if _COLOR_PREFIX + "bins" not in tensors:
        raise UserError(f"{path} is incomplete: it lacks {_COLOR_PREFIX}bins.")
    bins = tensors.pop(_COLOR_PREFIX + "bins")
    prior = tensors.pop(_COLOR_PREFIX + "prior", None)
    outputs = _outputs(about, where=path)
    model = create_model(about["model"], width=about["width"], outputs=outputs)
    load_exactly(model, tensors, where=path)
    kept = {key: about[key] for key in ("mix", "temperature", "input_size", "objective", "training")}
    return Pretrained(model=model, bins=bins, prior=prior, **kept)


def _outputs(about: dict[str, Any], *, where: Path) -> int:
    """Output channels of the network in a file."""
    objective = about["objective"]
    if objective == FEATURES:
        return 1
    known = model_type(about["model"]).objectives
    if objective not in known:
        raise UserError(
            f"{where} was trained for {objective!r}, which this version does not know for {about['model']}."
        )
    return known[objective].outputs


def _load_released(path: Path) -> Pretrained:
    """The authors' PyTorch file: its decoding convolution holds the bins, its graph a plain softmax."""
    released = read_state(path, mark="model8.6.weight", what="the released eccv16 state dict")
    keys = released_keys()
    if "model_out.weight" not in released:
        raise UserError(f"{path} is not the released eccv16 state dict: it lacks model_out.weight.")
    decoding = released.pop("model_out.weight")
    unknown = sorted(set(released) - set(keys))
    if unknown:
        raise UserError(f"{path} has keys that the released eccv16 has not: {some_of(unknown)}.")
    model = create_model("eccv16")
    if decoding.shape != (2, model.outputs, 1, 1):
        raise UserError(f"{path}: model_out.weight has shape {tuple(decoding.shape)}, expected (2, 313, 1, 1).")
    load_exactly(model, {keys[key]: value for key, value in released.items()}, where=path)
    return Pretrained(model=model, bins=decoding[:, :, 0, 0].T.contiguous() * AB_SCALE, temperature=1.0)


def parameter_count(model: torch.nn.Module) -> int:
    """Trainable numbers of a network.

    >>> parameter_count(torch.nn.Linear(3, 4))
    16
    """
    return sum(math.prod(parameter.shape) for parameter in model.parameters())


# Where the description stands in the file's metadata.
_ABOUT = "ssl_colorize"
# Of what is written; 1 had no number and no kind of its own, but said one of these.
FORMAT = 2
_KINDS_OF_FORMAT_1 = {"ssl-colorize 1": "network", "ssl-colorize finetuned 1": "finetuned"}


def write_weights(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any], *, kind: str) -> None:
    """Write tensors, from any device, with a description that JSON takes.

    Args:
        path: of the file.
        tensors: by name.
        about: the description.
        kind: of file: "network" or "finetuned".

    Raises:
        UserError: the file cannot be written (full disk, no permission).
    """
    # Tensors that share memory are written each on its own, which safetensors asks for.
    solid = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}

    whole = {"format": FORMAT, "kind": kind, **about}

    def write(target: Path) -> None:
        try:
            save_file(solid, target, metadata={_ABOUT: json.dumps(whole)})
        except SafetensorError as error:
            raise OSError(str(error)) from error

    write_atomically(path, write)


def read_weights(path: Path, *, kind: str, writer: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The description and the tensors of a file, on the CPU.

    Args:
        path: of the file.
        kind: that it has to be of.
        writer: the command that writes such files, for the message.

    Returns:
        The description, whose "format" is the number that the file was written with; and the tensors by name.

    Raises:
        UserError: it is no safetensors file, or not one of that kind, or of a newer format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(_ABOUT, "null"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise UserError(f"{path} is not a readable safetensors file: {error}.") from None
    if isinstance(about, dict) and about.get("format") in _KINDS_OF_FORMAT_1:
        about |= {"format": 1, "kind": _KINDS_OF_FORMAT_1[about["format"]]}
    if not isinstance(about, dict) or about.get("kind") != kind:
        raise UserError(f"{path} was not written by {writer} (its metadata does not say that it holds a {kind}).")
    number = about["format"]
    if number > FORMAT:
        raise UserError(f"{path} is of format {number}, this version reads up to {FORMAT}: update ssl-colorize.")
    return about, tensors


def load_exactly(model: torch.nn.Module, tensors: dict[str, Tensor], *, where: Path) -> None:
    """Load a state dict of which every key and shape fits.

    Raises:
        UserError: a key is missing or left over, a shape differs, or a number is not finite; it names them.
    """
    refuse_infinite(tensors, where=where)
    expected = model.state_dict()
    # Old files may lack the counter, which only matters for a momentum that is not used.
    missing = sorted(key for key in set(expected) - set(tensors) if not key.endswith("num_batches_tracked"))
    unknown = sorted(set(tensors) - set(expected))
    if missing or unknown:
        parts = [f"lacks {some_of(missing)}"] * bool(missing) + [f"has unknown {some_of(unknown)}"] * bool(unknown)
        raise UserError(f"{where} does not fit the network: it {' and '.join(parts)}.")
    for key, value in tensors.items():
        if value.shape != expected[key].shape:
            have, want = tuple(value.shape), tuple(expected[key].shape)
            raise UserError(f"{where} does not fit the network: {key} has shape {have}, expected {want}.")
    model.load_state_dict(expected | tensors)


def refuse_infinite(tensors: Mapping[str, Tensor | None], *, where: Path | str) -> None:
    """Refuse weights that nothing can be computed with.

    Args:
        tensors: by name.
        where: they are from, for the message.

    Raises:
        UserError: some number is NaN or infinite; it names the tensors.

    >>> refuse_infinite({"a": torch.tensor([1.0, float("nan")])}, where="x.safetensors")
    Traceback (most recent call last):
    ssl_colorize.errors.UserError: x.safetensors holds numbers that are not finite (NaN or infinite) in a: ...
    """
    broken = [
        key
        for key, value in tensors.items()
        if value is not None and value.is_floating_point() and not value.isfinite().all()
    ]
    if broken:
        raise UserError(
            f"{where} holds numbers that are not finite (NaN or infinite) in {some_of(broken)}: its training diverged, "
            "or it was saved in too small a type. Take an earlier checkpoint."
        )


def some_of(keys: list[str]) -> str:
    return ", ".join(keys[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")
