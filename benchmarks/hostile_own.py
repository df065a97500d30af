"""Good files that this package writes itself, and weights of every family, with their readers."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from hostile_formats import Format, require_finite
from hostile_mutations import SEED, attributes, entries, headers, lines, members, none

sys.path.insert(0, str(Path(__file__).parents[1]))
from envs.goals import SubGoal
from planning.apps.episode_files import load_episode, save_episode
from planning.apps.inspect_energy import read_trajectory
from planning.apps.replay import as_episode
from planning.apps.safety_replay import replay_safety_log
from planning.cli.app import main
from planning.drive_log import read_log
from planning.goals import GoalPicture, read_goals, write_goal
from planning.rollout import Episode
from robot.calibrate import Axes
from tests.worldmodel.checkpoints.test_pretrained import small_world
from tests.worldmodel.checkpoints.test_published import GOLDEN
from worldmodel.checkpoints.io import save
from worldmodel.checkpoints.loading import load_any, load_encoder
from worldmodel.checkpoints.picture_decoder import load_decoder, save_decoder
from worldmodel.checkpoints.pretrained import save_pretrained
from worldmodel.checkpoints.published.loading import load_published
from worldmodel.data.index import build_index, open_manifest
from worldmodel.data.prepare import PrepareOptions, prepare
from worldmodel.data.prepared import PreparedClips
from worldmodel.data.transforms import Preprocess
from worldmodel.data.writers.synthetic import write_dataset
from worldmodel.data.writers.video import write_video
from worldmodel.kept_results import KeptResults
from worldmodel.models.config import EncoderConfig, ProbeConfig
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.frame_encoder import VideoEncoder
from worldmodel.models.picture_decoder import PictureDecoder, PictureDecoderConfig
from worldmodel.models.probe import AttentiveClassifier
from worldmodel.perception.features.extract import FeatureConfig, write_features
from worldmodel.perception.probes.known_probe import open_probe
from worldmodel.perception.probes.labelled_videos import LabelledItem, LabelledItems
from worldmodel.perception.probes.recipes import Recipe
from worldmodel.perception.probes.token_file import encode_items
from worldmodel.shards import Shard, begin_shard, finish_shard, read_shards
from worldmodel.training.checkpointing import CheckpointStore
from worldmodel.training.metrics import read_rows

SMALL = EncoderConfig(image_size=(32, 32), embed_dim=24, depth=1, num_heads=2)


def small_encoder() -> VideoEncoder:
    """Return a small encoder, with the same weights each time."""
    torch.manual_seed(SEED)
    return VideoEncoder.of(VisionTransformer(SMALL))


def size_of(model: torch.nn.Module) -> int:
    """Return the number of weights; one of NaN is a matter of the run that wrote it."""
    return sum(value.numel() for value in model.state_dict().values())


def weights(root: Path) -> list[Format]:
    """Write good weights of every family."""
    for name in ("weights", "published"):
        (root / name).mkdir()
    folder = root / "weights"
    save(folder / "model.safetensors", small_encoder())
    probe = ProbeConfig(embed_dim=24, num_heads=2, num_classes=3, depth=1)
    notes = {"encoder": "x", "classes": '["a", "b", "c"]'}
    save(folder / "probe.safetensors", AttentiveClassifier(probe), notes=notes)
    decoder = PictureDecoderConfig(token_dim=24, image_size=16, channels=8)
    save_decoder(folder / "decoder.safetensors", PictureDecoder(decoder))
    save_pretrained(small_world(), root / "hub")
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    dinov2 = transformers.Dinov2Config(**sizes, image_size=28, patch_size=14)
    transformers.Dinov2Model(dinov2).save_pretrained(root / "dinov2")
    ijepa = transformers.IJepaConfig(**sizes, intermediate_size=50, image_size=32, patch_size=16)
    transformers.IJepaModel(ijepa).save_pretrained(root / "ijepa")
    for name in ("vjepa2_pretrain_layout.pt", "probe_layout.pt"):
        shutil.copy(GOLDEN / name, root / "published" / name)

    def any_of(name: str) -> Callable[[Path], object]:
        return lambda f: size_of(load_any(str(f / name), "cpu"))

    def encoder_of(prefix: str) -> Callable[[Path], object]:
        return lambda f: size_of(load_encoder(f"{prefix}{f}", "cpu"))

    def published(name: str, part: Any) -> Callable[[Path], object]:
        return lambda f: size_of(load_published(f / name, part, num_heads=2))

    def probe_of(folder: Path) -> object:
        return len(open_probe(str(folder / "probe.safetensors"), "", "cpu", "float32").classes)

    def decoder_of(folder: Path) -> object:
        return size_of(load_decoder(folder / "decoder.safetensors"))

    return [
        Format("safetensors", folder, "model.safetensors", any_of("model.safetensors"), headers),
        Format("safetensors (probe)", folder, "probe.safetensors", probe_of, headers),
        Format("safetensors (decoder)", folder, "decoder.safetensors", decoder_of, headers),
        Format("JSON (published folder)", root / "hub", "config.json", any_of("."), entries),
        Format(
            "safetensors (published folder)",
            root / "hub",
            "model.safetensors",
            any_of("."),
            headers,
        ),
        Format("JSON (DINOv2)", root / "dinov2", "config.json", encoder_of("hf:"), entries),
        Format(
            "safetensors (DINOv2)", root / "dinov2", "model.safetensors", encoder_of("hf:"), headers
        ),
        Format("JSON (I-JEPA)", root / "ijepa", "config.json", encoder_of(""), entries),
        Format(
            "safetensors (I-JEPA)", root / "ijepa", "model.safetensors", encoder_of(""), headers
        ),
        Format(
            "torch (V-JEPA 2)",
            root / "published",
            "vjepa2_pretrain_layout.pt",
            published("vjepa2_pretrain_layout.pt", "encoder"),
            none,
        ),
        Format(
            "torch (probe)",
            root / "published",
            "probe_layout.pt",
            published("probe_layout.pt", "probe"),
            none,
        ),
    ]


def prepared(root: Path) -> list[Format]:
    """Write a good index, prepared frames, features and tokens."""
    folder = root / "store"
    write_dataset(folder / "data", episodes=3, steps=40, size=(36, 48))
    build_index(folder / "data", folder / "index", workers=1)
    shrink = Preprocess("droid", (32, 32))
    manifest = open_manifest(folder / "index")
    for codec in ("raw", "jpeg"):
        options = PrepareOptions(image_size=32, episodes_per_shard=2, codec=codec)
        prepare(manifest, folder / codec, options, shrink)
    frames = np.random.default_rng(SEED).integers(0, 256, (12, 48, 64, 3), dtype=np.uint8)
    for name in ("a", "b"):
        (folder / "in").mkdir(exist_ok=True)
        write_video(folder / "in" / f"{name}.mp4", frames)
    videos = [folder / "in" / f"{name}.mp4" for name in ("a", "b", "gone")]
    items = LabelledItems(tuple(LabelledItem(path, 0) for path in videos), {}, ("one",))
    recipe = Recipe(num_frames=4, frame_step=1, num_segments=1)

    def features(f: Path) -> object:
        config = FeatureConfig(num_frames=4)
        return write_features(folder / "in", f / "f.h5", small_encoder(), "x", config).videos

    def tokens(f: Path) -> object:
        found = encode_items(f / "t.h5", small_encoder(), items, recipe, name="x", num_views=1)
        found.read(torch.tensor([0]))
        return len(found.labels)

    def clips(codec: str) -> Callable[[Path], object]:
        def read(f: Path) -> object:
            source = PreparedClips(f / codec, 4, verify=False)
            batch = source.batch(np.array([0, len(source) - 1]))
            require_finite(batch["states"], batch["actions"])
            return len(source)

        return read

    for read in (features, tokens):
        read(folder)
    listed: list[tuple[str, str, Callable[[Path], object], Any]] = [
        (
            "JSONL (index)",
            "index/manifest.jsonl",
            lambda f: len(open_manifest(f / "index").rows),
            lines,
        ),
        (
            "JSON (index)",
            "index/summary.json",
            lambda f: len(open_manifest(f / "index").rows),
            entries,
        ),
        ("JSON (prepared plan)", "raw/plan.json", clips("raw"), entries),
        ("JSON (prepared summary)", "raw/summary.json", clips("raw"), entries),
        ("safetensors (prepared frames)", "raw/shard-000000.safetensors", clips("raw"), headers),
        ("safetensors (prepared JPEG)", "jpeg/shard-000000.safetensors", clips("jpeg"), headers),
        ("HDF5 (features)", "f.h5", features, attributes),
        ("HDF5 (tokens)", "t.h5", tokens, attributes),
    ]
    return [Format(name, folder, file, read, own) for name, file, read, own in listed]


def results(root: Path) -> list[Format]:
    """Write good results of evaluations, drives and runs of training."""
    folder = root / "runs"
    (folder / "goals").mkdir(parents=True)
    frame = np.random.default_rng(SEED).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    state = np.array([0.4, 0.0, 0.3, 3.1, 0.0, -0.8, 0.0], np.float32)
    episode = Episode(
        task="push",
        seed=1,
        success=True,
        error_m=0.1,
        frames=[frame, frame],
        goals=[SubGoal("end", frame, state, 12)],
        actions=[[0.1] * 7],
        energies=[0.3],
        sub_goals=[0],
    )
    save_episode(folder / "e.npz", episode)
    np.savez(
        folder / "t.npz", observations=frame[None].repeat(3, 0), states=state[None].repeat(3, 0)
    )
    write_goal(folder / "goals", 0, GoalPicture("a", frame, state, 8))
    axes = Axes(
        angle_deg=0.0,
        rotation=((1.0, 0.0), (0.0, 1.0)),
        scale=1.0,
        condition=1.0,
        residual=0.1,
        moves=9,
    )
    axes.write(folder / "axes.json")
    shard = Shard(number=0, count=1)
    finish_shard(
        shard.folder(folder / "e"), begin_shard(shard.folder(folder / "e"), "eval", shard, {}), {}
    )
    with KeptResults(folder / "kept.jsonl", {"model": "x"}) as kept:
        for key in "abc":
            kept.add(key, 1.0)
    (folder / "metrics.jsonl").write_text(
        "".join(f'{{"step": {i}, "loss": 0.5}}\n' for i in range(4)), encoding="utf-8"
    )
    network = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(2)).sum().backward()
    optimizer.step()
    store = CheckpointStore(folder / "checkpoints", facts={"run.seed": 0})
    store.save(3, network, optimizer)
    words = ["drive", "robot=fake", "task=reach", "execute=true", "confirm=false", "sub_goals=one"]
    small = ["samples=8", "iterations=1", "elites=2", "device=cpu", f"out={folder}/drive"]
    with contextlib.redirect_stdout(None):
        assert main([*words, *small]) == 0
    (log,) = (path.parent.relative_to(folder) for path in folder.glob("drive/logs/*/log.jsonl"))

    def logged(f: Path) -> object:
        found = read_log(f / log)
        replay_safety_log(found)
        return len(as_episode(found).frames)

    def kept_results(f: Path) -> object:
        with KeptResults(f / "kept.jsonl", {"model": "x"}, lambda v: isinstance(v, float)) as kept:
            return sum(kept.get(key) is not None for key in "abc")

    def checkpoint(f: Path) -> object:
        other = torch.nn.Linear(2, 2)
        return CheckpointStore(f / "checkpoints").load(other, torch.optim.AdamW(other.parameters()))

    def trajectory(f: Path) -> object:
        read_trajectory(str(f / "t.npz"), 0, 2)
        return 3

    step = "checkpoints/step-00000003"
    listed: list[tuple[str, str, Callable[[Path], object], Any]] = [
        ("npz (episode)", "e.npz", lambda f: load_episode(f / "e.npz").seed, members),
        ("npz (trajectory)", "t.npz", trajectory, members),
        (
            "JSON (goal)",
            "goals/00-a.json",
            lambda f: len(read_goals(str(f / "goals"), [])),
            entries,
        ),
        ("JSON (calibration)", "axes.json", lambda f: str(Axes.read(f / "axes.json")), entries),
        (
            "JSON (shard)",
            "e.shards/0-of-1/shard.json",
            lambda f: len(read_shards(f / "e")),
            entries,
        ),
        ("JSONL (kept results)", "kept.jsonl", kept_results, lines),
        ("JSONL (metrics)", "metrics.jsonl", lambda f: len(read_rows(f / "metrics.jsonl")), lines),
        ("JSON (checkpoint)", f"{step}/whole.json", checkpoint, entries),
        ("pickle (checkpoint)", f"{step}/.metadata", checkpoint, none),
        ("torch (checkpoint)", f"{step}/__0_0.distcp", checkpoint, none),
        ("JSONL (drive)", f"{log}/log.jsonl", logged, lines),
        ("JSONL (safety log)", f"{log}/safety.jsonl", logged, lines),
    ]
    return [Format(name, folder, file, read, own) for name, file, read, own in listed]
