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
    """What to export, and as what."""

    source: str = Field(
        description="a run folder, a weights file, or a release; for a graph of an encoder, all that load_encoder takes"
    )
    to: Kind = Field(
        description="safetensors: one self-contained file; timm: the encoder's weights as timm names them; hub-folder: "
        "for a model hub, with a model card; onnx, torch-export: a graph"
    )
    what: What = Field("encoder", description="of graphs: feature maps, or photos")
    rgb: bool = Field(True, description="takes RGB in [0, 1], or the lightness L in 0..100")
    size: int | None = Field(
        None,
        ge=8,
        description="of a colorizer: side in pixels of what the network sees, what it was trained at if not given; of "
        "an encoder: the only size of photos, any if not given",
    )
    temperature: float | None = Field(None, ge=0, description="of a colorizer; the checkpoint's own if not given")
    layers: tuple[str, ...] = Field((), description="outputs of an encoder's graph; all if none is given")
    half: bool = Field(False, description="of safetensors: weights of 16 bits, a file half as large")

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
