"""General-purpose formats hold the same images: JPEG XL gives them back, and costs what its file has."""

import io

import numpy as np
import pytest
from PIL import Image

from gdm.dataspec import DataSpec
from gdm.evaluation.coding.files import Examples
from gdm.studies import codecs


@pytest.mark.skipif(not codecs.has_jpeg_xl(), reason="needs the extra jpegxl")
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_xl_is_lossless_and_counted(channels):
  x = np.random.default_rng(0).integers(0, 256, (4, 8, 8, channels), np.uint8)
  sizes = codecs.coded_sizes(Examples(x), DataSpec((8, 8, channels), 256))
  file = io.BytesIO()
  sheet = x.reshape(2, 2, 8, 8, channels).transpose(0, 2, 1, 3, 4).reshape(16, 16, channels)
  Image.fromarray(sheet if channels == 3 else sheet[..., 0]).save(file, format="JXL", lossless=True, effort=9)
  assert sizes["JPEG XL lossless"] == len(file.getvalue())
  np.testing.assert_array_equal(np.asarray(Image.open(file)).reshape(sheet.shape), sheet)


def test_a_sheet_that_is_too_large_for_a_format_leaves_it_out():
  x = np.zeros((2, 1, 8200, 1), np.uint8)  # side by side they are wider than WebP can be
  sizes = codecs.coded_sizes(Examples(x), DataSpec((1, 8200, 1), 2))
  assert "WebP lossless" not in sizes and sizes["PNG"] > 0
  assert "WebP lossless" in codecs.coded_sizes(Examples(x[:1]), DataSpec((1, 8200, 1), 2))
