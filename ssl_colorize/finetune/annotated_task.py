"""What detection and segmentation share: their photos, their splits, and the sizes that photos are brought to."""

from ssl_colorize.data.transforms import Augmentation, resized
from ssl_colorize.encoder import Encoder
from ssl_colorize.finetune.config import FinetuneSettings
from ssl_colorize.finetune.tasks import OnPhotos

LONGEST = 1000 / 600  # long side against short side at most, as in Fast R-CNN

# A map coarser than this loses small objects; a pyramid then adds finer ones.
_COARSEST, _FINEST = 16, 8


class AnnotatedTask(OnPhotos):
    """A task on photos with boxes or masks; see `tasks.Task`."""

    _input_size: int | None = None

    @property
    def size(self) -> int:
        """Short side in pixels of photos; known once there is an encoder."""
        size: int | None = self.settings.size or self._input_size
        assert size is not None, "layers() or build() comes first"
        return size

    def note_size(self, network: Encoder) -> None:
        """Take the size from the network, unless the settings give one."""
        self._input_size = network.input_size

    def augmentation(self, crop: int | None) -> Augmentation:
        """Of training photos, by the settings."""
        low, high = (max(1, round(self.size * scale)) for scale in self.settings.scales)
        # A crop shows its share of a long photo anyway.
        return Augmentation((low, high), self.longest(high) if crop is None else None, crop)

    def longest(self, short_side: int) -> int:
        """The long side in pixels that photos of this short side may have."""
        return round(LONGEST * short_side)

    def target(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height that a photo to judge is brought to."""
        return resized(size, self.size, self.longest(self.size))


def map_layers(encoder: Encoder, settings: FinetuneSettings, *, pyramid: bool | None) -> tuple[str, ...]:
    """The layers that a head on maps reads, first to last.

    Those of `settings.layers`, or else the deepest layer that is not fully connected; with a pyramid the deepest layer
    of each stride from 8 pixels up (from 4 up if it is asked for).

    Args:
        pyramid: None has one where the deepest layer's stride is above 16 pixels.

    Raises:
        UserError: there is no such layer.
    """
    if settings.layers:
        return encoder.choose(settings.layers)
    known = [info for info in encoder.feature_info if info["module"] not in encoder.trunk.fully_connected]
    deepest = known[-1]
    if pyramid is False or (pyramid is None and deepest["reduction"] <= _COARSEST):
        return (deepest["module"],)
    finest = _FINEST if pyramid is None else _FINEST // 2
    by_stride = {info["reduction"]: info["module"] for info in known if info["reduction"] >= finest}
    return tuple(by_stride[stride] for stride in sorted(by_stride))
