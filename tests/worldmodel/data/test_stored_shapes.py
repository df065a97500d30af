import numpy as np
import pytest

from worldmodel.data.moving_shapes import ShapeClips
from worldmodel.data.shape_options import ShapeClipOptions
from worldmodel.data.stored_shapes import StoredShapes
from worldmodel.errors import DataError

OPTIONS = ShapeClipOptions(num_clips=70, num_frames=2, side=24)


def test_kept_clips_are_those_that_are_made_and_are_made_once(tmp_path):
    stored = StoredShapes(OPTIONS, tmp_path, workers=1)
    made, chosen = ShapeClips(OPTIONS), np.array([3, 69, 3, 0])
    for source in (stored, StoredShapes(OPTIONS, tmp_path)):
        found = source.batch(chosen)
        for name, values in made.batch(chosen).items():
            assert type(found[name]) is np.ndarray
            np.testing.assert_array_equal(found[name], values)
        assert (len(source), source.content_hash()) == (len(made), made.content_hash())
    (folder,) = tmp_path.iterdir()  # and nothing temporary is left
    np.save(folder / "frames.npy", np.zeros((4, 2, 24, 24, 3), np.uint8))
    with pytest.raises(DataError, match="delete the folder"):
        StoredShapes(OPTIONS, tmp_path)
