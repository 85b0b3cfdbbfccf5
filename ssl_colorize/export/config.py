"""Settings of `ssl-colorize export`."""

from typing import Literal

from pydantic import Field

from ssl_colorize.config import Settings
from ssl_colorize.errors import UserError

Kind = Literal["safetensors", "timm", "hub-folder", "onnx", "torch-export"]
What = Literal["encoder", "colorizer"]
# Those that hold a graph, for which more can be chosen.
GRAPHS = ("onnx", "torch-export")


class ExportSettings(Settings):
    """What to export, and as what.

    Attributes:
        source: a run folder, a weights file, or a release; for a graph of an encoder, all that `load_encoder` takes.
        to: the kind of file or folder.
        what: which half of the network.
        rgb: whether photos come as RGB in [0, 1], or as L in 0..100.
        size: of a colorizer, the side in pixels of what the network sees, by default what it was trained at; of an
            encoder, the only height and width of its photos, by default any.
        temperature: of the annealed mean of a colorizer; by default the checkpoint's own.
        layers: of an encoder's graph, its outputs; all by default.
        half: of a safetensors file, whether its weights are 16-bit floats.
    """

    source: str
    to: Kind
    what: What = "encoder"
    rgb: bool = True
    size: int | None = Field(default=None, ge=8)
    temperature: float | None = Field(default=None, ge=0)
    layers: tuple[str, ...] = ()
    half: bool = False

    @property
    def channels(self) -> int:
        return 3 if self.rgb else 1

    def check(self) -> None:
        """Refuse what has no meaning for this kind.

        Raises:
            UserError: naming the flag.
        """
        graph = self.to in GRAPHS
        if self.to == "timm" and self.what == "colorizer":
            raise UserError("--what colorizer: timm's models are encoders; use --to onnx, torch-export or safetensors.")
        if self.to == "safetensors" and not self.rgb:
            raise UserError("--light: a safetensors file holds weights, which take no photos; leave it away.")
        for flag, given, fits in (
            ("--size", self.size is not None, graph),
            ("--temperature", self.temperature is not None, graph and self.what == "colorizer"),
            ("--half", self.half, self.to == "safetensors"),
            ("--layer", bool(self.layers), graph and self.what == "encoder"),
        ):
            if given and not fits:
                raise UserError(f"{flag} means nothing for --to {self.to} --what {self.what}: leave it away.")
