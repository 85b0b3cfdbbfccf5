"""What seeing no color costs: that the colors are counted where they are, and that gray photos are gray."""

import gray
import numpy as np
import torch
from PIL import Image

from ssl_colorize.color import ab_bins, lab_to_rgb
from ssl_colorize.data import open_photos


def test_histograms_count_each_quarter_by_itself(tmp_path):
    red, green = (int(((ab_bins() - torch.tensor(ab)) ** 2).sum(1).argmin()) for ab in ((60.0, 40.0), (-40.0, 40.0)))
    lab = torch.zeros(3, 32, 32)
    lab[0] = 55
    lab[1:, :16, :16] = ab_bins()[red].view(2, 1, 1)
    lab[1:, 16:, 24:] = ab_bins()[green].view(2, 1, 1)
    pixels = (lab_to_rgb(lab) * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = gray.histograms(open_photos([str(tmp_path)]), side=32).reshape(313, 2, 2)
    np.testing.assert_allclose(found.sum(0), 1, rtol=1e-5)
    np.testing.assert_allclose(found[red], [[1, 0], [0, 0]])
    # Half of the last quarter.
    np.testing.assert_allclose(found[green], [[0, 0], [0, 0.5]])


def test_gray_photos_have_no_color_and_keep_their_names():
    photos = open_photos(["samples"], split="all")
    gray_ones = gray.GrayPhotos(photos).take([1, 0])
    assert [gray_ones.name(0), gray_ones.name(1)] == [photos.name(1), photos.name(0)]
    pixels = np.asarray(gray_ones[0])
    assert pixels.shape[2] == 3 and (pixels == pixels[..., :1]).all() and pixels.std() > 10
