"""Folders behind symbolic links are read like others."""

from worldmodel.data.index import build_index
from worldmodel.data.writers.synthetic import draw_episode, draw_frames, random_states
from worldmodel.data.writers.video import write_video
from worldmodel.perception.features.extract import find_videos
from worldmodel.perception.probes.labelled_videos import read_class_folders


def test_episodes_behind_links_are_indexed(tmp_path):
    for seed, place in enumerate(("data", "data", "disk2")):
        states = random_states(8, seed)
        draw_episode(tmp_path / place, f"e{seed}", states, size=(16, 32), cameras=("left",))
    (tmp_path / "data" / "LAB2").symlink_to(tmp_path / "disk2" / "LAB")
    assert build_index(tmp_path / "data", tmp_path / "out", workers=1)["accepted"] == 3


def test_videos_behind_links_are_found(tmp_path):
    frames = draw_frames(random_states(4, 0), (16, 32))
    write_video(tmp_path / "videos" / "jump" / "a.mp4", frames)
    write_video(tmp_path / "more" / "b.mp4", frames)
    (tmp_path / "videos" / "jump" / "more").symlink_to(tmp_path / "more")
    (tmp_path / "videos" / "jump" / "loop").symlink_to(tmp_path / "videos")
    assert [p.name for p in find_videos(tmp_path / "videos")] == ["a.mp4", "b.mp4"]
    assert len(read_class_folders(tmp_path / "videos").items) == 2
