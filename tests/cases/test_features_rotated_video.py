"""A phone's upright video is read upright."""

from tests.worldmodel.data.odd_videos import turn, write
from worldmodel.perception.features.extract import sampled_frames


def test_the_picture_as_every_player_shows_it(tmp_path):
    path = turn(write(tmp_path / "phone.mp4", 20), (0, 1, -1, 0))
    assert {frame.shape for _, frame in sampled_frames(path, 4.0)} == {(64, 48, 3)}
