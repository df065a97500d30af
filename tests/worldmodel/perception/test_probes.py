"""Frozen probes: published numbers, lists of items, and heads that are trained together."""

import copy
import dataclasses
import importlib
import os
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.random import RandomState
from PIL import Image

import worldmodel
from worldmodel.checkpoints import registry
from worldmodel.checkpoints.published import sizes
from worldmodel.checkpoints.published.probes import load_probes
from worldmodel.errors import CheckpointError, ConfigError, DataError, ShapeError
from worldmodel.models.config import EncoderConfig, ProbeConfig
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.frame_encoder import VideoEncoder
from worldmodel.perception.clip_sampling import ClipSampling, frame_numbers
from worldmodel.perception.heads.grid import HeadSettings
from worldmodel.perception.probes.classifiers import ProbeGrid, probabilities
from worldmodel.perception.probes.frozen_tokens import four_levels, view_tokens
from worldmodel.perception.probes.labelled_videos import (
    LabelledItem,
    LabelledItems,
    read_class_folders,
    read_clips,
    read_list,
    remarks,
)
from worldmodel.perception.probes.token_file import count_hits
from worldmodel.perception.views import evaluation_views, resize_as_opencv

ROOT = Path(__file__).parents[3]
PERCEPTION = ROOT / "tests" / "golden" / "perception"
SMALL = EncoderConfig(image_size=(32, 32), embed_dim=24, depth=2, num_heads=2)
HEAD = ProbeConfig(embed_dim=24, num_heads=2, depth=2, num_classes=3)


@torch.no_grad()
@pytest.mark.parametrize(
    "family",
    ["vjepa1_probes", "vjepa1_poolers", "vjepa2_probes", "clip_frames", "views", "schedule"],
)
def test_golden(family, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module = importlib.import_module("agreement_probes")
    golden = sys.modules["agreement_golden"].Golden(PERCEPTION, "golden_perception")
    pairs = list(getattr(module, family)(golden))
    assert pairs
    for name, found, wanted in pairs:
        torch.testing.assert_close(found, wanted, atol=2e-5, rtol=0, msg=lambda m, n=name: n + m)


def test_every_released_layout_loads_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLDMODEL_CACHE", str(tmp_path))
    monkeypatch.setitem(sizes.PROBE_HEADS, 24, 4)
    monkeypatch.setitem(sizes.PROBE_HEADS, 16, 4)
    for name, file in (
        ("vjepa-vitl16-k400", "vjepa1_probe_layout.pth.tar"),
        ("vjepa2-vitl-ssv2", "probe_multihead_layout.pt"),
    ):
        known = registry.get(name)
        assert known.part == "probe"
        target = tmp_path / name / known.files[0].rsplit("/", 1)[-1]
        target.parent.mkdir()
        target.write_bytes((PERCEPTION / file).read_bytes())
        probe = worldmodel.load_probe(name, "cpu")
        assert (probe.config.self_attention_on == "queries") == name.startswith("vjepa-")
        with pytest.raises(CheckpointError, match="is a probe"):
            worldmodel.load_encoder(name, "cpu")
    assert len(load_probes(PERCEPTION / "probe_multihead_layout.pt")) == 2
    with pytest.raises(CheckpointError, match="holds no probe"):
        load_probes(PERCEPTION / "vjepa2_layout.pt")
    assert sum("jepa/" in probe.url for probe in registry.PROBES.values()) == 15


def test_pixels_equal_those_of_opencv():
    cv2 = pytest.importorskip("cv2")
    generator = np.random.default_rng(0)
    for _ in range(60):
        rows, columns, height, width = map(int, generator.integers(2, 200, 4))
        image = generator.integers(256, size=(rows, columns, 3), dtype=np.uint8)
        wanted = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        found = resize_as_opencv(torch.from_numpy(image)[None], height, width)[0]
        assert np.array_equal(found.numpy(), wanted), (rows, columns, height, width)


def test_views_of_a_tall_clip_go_down_its_long_side():
    frames = torch.arange(64, dtype=torch.uint8)[None, :, None, None].expand(2, 64, 16, 3)
    views = evaluation_views(frames, 16, 3)
    assert views.shape == (3, 2, 16, 16, 3)
    assert views[:, 0, 0, 0, 0].tolist() == [0, 24, 48]
    with pytest.raises(ConfigError, match="num_views=0"):
        evaluation_views(frames, 16, 0)


def test_sampling_by_time_without_overlap_and_too_short():
    by_fps = frame_numbers(100, ClipSampling(num_frames=4, fps=5), video_fps=29.97)
    assert by_fps.tolist() == [[0, 8, 16, 23]]
    assert ClipSampling(num_frames=4, duration_s=2.0).step_at(30.0) == 15
    apart = frame_numbers(
        20, ClipSampling(num_frames=4, frame_step=4, num_segments=2, allow_overlap=False)
    )
    assert apart.tolist() == [[0, 9, 9, 9], [10, 19, 19, 19]]
    drawn = ClipSampling(num_frames=4, frame_step=2, num_segments=2, random=True)
    first, again = (frame_numbers(99, drawn, generator=RandomState(3)) for _ in range(2))
    assert (first == again).all()
    with pytest.raises(DataError, match="1 frames"):
        frame_numbers(1, drawn)
    with pytest.raises(DataError, match="lower fps"):
        frame_numbers(100, ClipSampling(fps=60), video_fps=29.97)


def test_levels_are_read_in_order_and_checked():
    torch.manual_seed(0)
    encoder = VideoEncoder.of(VisionTransformer(SMALL))
    clips = torch.randint(256, (2, 3, 1, 4, 32, 32, 3), dtype=torch.uint8)
    last, both = view_tokens(encoder, clips), view_tokens(encoder, clips, (0, 1))
    assert last.shape == (3, 1, 2 * 8, 24)
    assert both.shape == (3, 1, 2 * 2 * 8, 24)
    torch.testing.assert_close(both[:, :, 8:16], last[:, :, :8])
    with pytest.raises(ConfigError, match=r"use some of \(0, 1\)"):
        view_tokens(encoder, clips, (2,))
    with pytest.raises(ConfigError, match="2 blocks"):
        four_levels(encoder)
    with pytest.raises(ShapeError, match="segments, views"):
        view_tokens(encoder, clips[0])


def make_video(path, frames=20):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(frames):
            image = np.full((48, 64, 3), 8 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture
def folder(tmp_path):
    make_video(tmp_path / "two words.mp4")
    make_video(tmp_path / "b.mp4")
    (tmp_path / "broken.mp4").write_bytes(b"\0" * 99)
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        "two words.mp4 1\nb.mp4 0\ngone.mp4 0\nb.mp4 9\nb.mp4 2\nb.mp4 walk\n",
        "two words.mp4::1\nb.mp4::0\ngone.mp4::0\nb.mp4::9\nb.mp4::2\nb.mp4::walk\n",
        'path,label\n"two words.mp4",1\nb.mp4,0\ngone.mp4,0\nb.mp4,9\nb.mp4,2\nb.mp4,walk\n',
    ],
)
def test_lists_name_and_count_what_is_wrong(folder, text):
    path = folder / "list.csv"
    path.write_text(text)
    found = read_list(path, num_classes=3)
    assert [(i.path.name, i.label) for i in found.items] == [("two words.mp4", 1), ("b.mp4", 0)]
    reasons = " ".join(found.rejected.values())
    assert len(found.rejected) == 4
    for part in ("there is no file", "allowed: 0..2", "label 2 here and 0 above", "'walk'"):
        assert part in reasons
    named = path.with_name("named.txt")
    for odd in ("\u00b2", "--5", "9" * 5000, "1000000000000", "\u0664"):
        named.write_text(f"b.mp4 0\ntwo words.mp4 {odd}\n", encoding="utf-8")
        assert len(read_list(named).rejected) == 1
    for odd in ("a" * 5000, "b\0.mp4", '"b.mp4', "x" * 200_000):
        for head, comma in (("", " "), ("path,label\n", ",")):
            named.write_text(f"{head}b.mp4{comma}0\n{odd}{comma}1\n")
            assert len(read_list(named).rejected) == 1
    os.mkfifo(path.with_name("pipe"))
    with pytest.raises(DataError, match="is a FIFO"):
        read_list(path.with_name("pipe"))
    named.write_text("b.mp4 walk\n")
    assert read_list(named, classes=["run", "walk"]).items[0].label == 1
    named.write_text("gone.mp4 1\n")
    with pytest.raises(DataError, match="no usable line"):
        read_list(named)


@pytest.mark.parametrize(
    "text",
    [
        '\ufeff"two words.mp4" 1\r\nb.mp4 0  \r\n',
        "two words.mp4, 1\nb.mp4 , 0",
        "two words.mp4:: 1\nb.mp4 ::0\n\n",
        "two words.mp4\t1\t\nb.mp4\t 0",
        '"two words.mp4","1"\nb.mp4,0',
        "two words.mp4;1\nb.mp4;0",
        'id;Label;Path\n7;1;"two words.mp4"\n8;0;b.mp4',
        "path\tlabel\ntwo words.mp4\t1\nb.mp4\t0",
    ],
)
def test_lists_as_other_programs_write_them(folder, text):
    path = folder / "list.csv"
    path.write_text(text, encoding="utf-8", newline="")
    found = read_list(path)
    assert [(i.path.name, i.label) for i in found.items] == [("two words.mp4", 1), ("b.mp4", 0)]
    assert not found.rejected


def test_names_of_videos_may_have_any_character_but_a_newline(folder):
    names = ["a\u2028b.mp4", "a\x85b.mp4", "a;b,c.mp4", 'it\'s "x".mp4', "\u89c6 \u9891.mp4"]
    for name in names:
        (folder / name).write_bytes(b"")
    path = folder / "list.txt"
    path.write_text("".join(f"{name} {i}\n" for i, name in enumerate(names)), encoding="utf-8")
    found = read_list(path)
    assert [(i.path.name, i.label) for i in found.items] == [(n, i) for i, n in enumerate(names)]
    path.write_text("b.mp4 0", encoding="utf-16")
    with pytest.raises(DataError, match="save it as UTF-8"):
        read_list(path)


def test_clips_of_videos_and_images_and_of_damaged_files(folder):
    sampling = ClipSampling(num_frames=4, frame_step=2, num_segments=2)
    clips = read_clips(folder / "b.mp4", sampling, crop=32, num_views=3)
    assert clips.shape == (2, 3, 4, 32, 32, 3)
    brightness = clips[:, 0].float().mean((2, 3, 4))
    assert (brightness.diff(dim=1) > 0).all()
    assert brightness[1, 0] > brightness[0, 0]
    with pytest.raises(DataError, match=r"broken\.mp4"):
        read_clips(folder / "broken.mp4", sampling, crop=32)
    for name in ("cat", "dog"):
        (folder / "set" / name).mkdir(parents=True)
        Image.new("RGB", (40, 30), (9, 9, 9)).save(folder / "set" / name / "1.png")
    (folder / "set" / "dog" / "note.txt").write_text("?")
    (folder / "set" / ".ipynb_checkpoints").mkdir()
    found = read_class_folders(folder / "set")
    assert (found.classes, len(found.items), len(found.rejected)) == (("cat", "dog"), 2, 1)
    still = read_clips(found.items[0].path, sampling, crop=16)
    assert still.shape == (1, 1, 4, 16, 16, 3)


def batches():
    generator = torch.Generator().manual_seed(0)
    marks = torch.randn(3, 24, generator=generator)
    for _ in range(40):
        labels = torch.randint(3, (16,), generator=generator)
        tokens = 0.3 * torch.randn(1, 16, 5, 24, generator=generator) + marks[labels][:, None]
        yield tokens, labels


def test_heads_learn_together_as_alone_and_resume_exactly():
    settings = (HeadSettings(lr=3e-3), HeadSettings(lr=1e-3, weight_decay=0.8))
    together = ProbeGrid(HEAD, settings, total_steps=40)
    alone = ProbeGrid(HEAD, settings[1:], total_steps=40)
    resumed = ProbeGrid(HEAD, settings, total_steps=40, seed=5)
    losses = []
    for step, (tokens, labels) in enumerate(batches()):
        losses.append(together.update(tokens, labels))
        alone.update(tokens, labels)
        if step == 5:
            resumed.load_training_state(copy.deepcopy(together.training_state()))
        elif step > 5:
            resumed.update(tokens, labels)
    assert losses[-1][0] < 0.5 * losses[0][0]
    assert losses[-1][1] < losses[0][1]
    tokens, labels = next(batches())
    both = probabilities(together, tokens)
    assert torch.equal(both[1:], probabilities(alone, tokens))
    assert torch.equal(both, probabilities(resumed, tokens))
    torch.testing.assert_close(both.sum(-1), torch.ones(2, 16))
    with pytest.raises(ConfigError, match="0 heads"):
        ProbeGrid(HEAD, (), total_steps=1)
    assert dataclasses.replace(settings[0], warmup_steps=2).warmup_steps == 2


def test_classes_without_items_and_shared_items_are_remarked(folder):
    items = {name: LabelledItem(folder / name, label) for name, label in (("a", 0), ("b", 4))}
    train = LabelledItems((items["a"], items["b"]), {})
    other = LabelledItems((LabelledItem(folder / "c", 2), LabelledItem(folder / "d", 4)), {})
    assert remarks(train, other, 5) == [
        "3 of 5 classes have no training item; 1 items of val are of such classes"
    ]
    named = LabelledItems((items["a"],), {}, ("cat",))
    assert remarks(named, named, 1) == ["1 items of val are training items as well"]
    twice = LabelledItems((items["a"], items["b"], items["b"]), {})
    assert "1 lines of train and val repeat an item, which counts each time" in remarks(
        twice, named, 5
    )


def test_probabilities_that_are_not_finite_are_no_hit():
    found = torch.tensor([[0.1, 0.9], [torch.nan, torch.nan]])
    assert count_hits(found, torch.tensor([1, 0])) == {1: 1, 5: 1}
    assert count_hits(found, torch.tensor([0, 1])) == {1: 0, 5: 1}
