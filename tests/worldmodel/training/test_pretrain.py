import json
from pathlib import Path

import numpy as np
import pytest
import torch

from planning.cli.app import compose_options
from worldmodel.checkpoint import load, load_any
from worldmodel.checkpoints.io import save
from worldmodel.checkpoints.loading import load_encoder
from worldmodel.errors import ConfigError
from worldmodel.evaluation.feature_health import effective_rank, feature_std, linear_probe
from worldmodel.models.config import EncoderConfig
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.frame_encoder import VideoEncoder
from worldmodel.training.config import PretrainOptions
from worldmodel.training.masked_objective import MaskedObjective, build_encoder, clip_grid
from worldmodel.training.masking import TokenIds, hide_pixels
from worldmodel.training.network_options import EncoderStart
from worldmodel.training.pretrain_options import PretrainEncoderConfig
from worldmodel.training.run import run_task
from worldmodel.training.schedules import rate_at
from worldmodel.training.small_models import Start
from worldmodel.training.sources import Sources
from worldmodel.training.start_models import open_encoder
from worldmodel.training.step_masks import draw_masks
from worldmodel.training.tasks.joint import JointTask
from worldmodel.training.tasks.pretrain import PretrainTask, momentum_at


class Squares:
    """Clips of a bright square that the action moves; its place is the state and the object."""

    def __init__(self, num_clips=48, num_frames=2, side=32, seed=0):
        self.rng = np.random.default_rng(seed)
        self.frames = np.full((num_clips, num_frames, side, side, 3), 40, np.uint8)
        self.states = np.zeros((num_clips, num_frames, 7), np.float32)
        self.actions = np.zeros((num_clips, num_frames - 1, 7), np.float32)
        self.states[..., 2] = self.rng.random((num_clips, 1))
        self.actions[..., 2] = 0.1 * self.rng.random((num_clips, num_frames - 1))
        place = self.rng.integers(6, side - 12, (num_clips, 2))
        for t in range(num_frames):
            for i, (row, column) in enumerate(place):
                self.frames[i, t, row : row + 6, column : column + 6] = (220, 60, 60)
                self.states[i, t, :2] = row / side, column / side
            if t + 1 < num_frames:
                step = self.rng.integers(-3, 4, (num_clips, 2))
                moved = np.clip(place + step, 0, side - 6)
                self.actions[:, t, :2] = (moved - place) / side
                place = moved
        self.objects = self.states[..., :3].copy()

    def __len__(self):
        return len(self.frames)

    def content_hash(self):
        return "random"

    def batch(self, indices):
        return {
            "frames": self.frames[indices],
            "states": self.states[indices],
            "actions": self.actions[indices],
            "objects": self.objects[indices],
        }


TINY = [
    *("image_size=32", "patch_size=8", "stem_channels=[8,8]", "num_frames=2", "encoder_dim=24"),
    *("encoder_depth=1", "encoder_heads=2", "predictor_dim=24", "predictor_depth=1"),
    *("predictor_heads=2", "steps=8", "batch_size=8", "warmup=2", "decay=2", "lr=1e-3"),
    *("momentum=0.9", "momentum_end=0.99", "bf16=false", "probe_frames=32", "val_clips=12"),
    *("save_every=4", "log_every=1", "eval_every=100", "device=cpu"),
]


def changed(changes: dict) -> list[str]:
    shown = {k: v if isinstance(v, str) else str(v).lower() for k, v in changes.items()}
    return [f"{name}={value}" for name, value in shown.items()]


def tiny(out, **changes) -> PretrainOptions:
    return compose_options("pretrain", [*TINY, f"out={out}", *changed(changes)])


def pretrain(options: PretrainOptions, clips, unseen) -> dict:
    return run_task(PretrainTask(options, Sources(clips, unseen)))


def rows(out) -> list[dict]:
    text = (Path(out) / "metrics.jsonl").read_text()
    timed = {"samples_per_s", "data_wait"}
    return [{k: v for k, v in json.loads(x).items() if k not in timed} for x in text.splitlines()]


def objective_of(config: PretrainOptions) -> MaskedObjective:
    torch.manual_seed(0)
    encoder = build_encoder(config)
    return MaskedObjective(encoder, clip_grid(config, encoder.config), config).eval()


@pytest.mark.parametrize("stem", ["conv", "patch"])
def test_run_learns_and_a_stopped_run_goes_on_bit_for_bit(tmp_path, stem):
    clips, unseen = Squares(), Squares(16, seed=1)
    tubelet = 1 if stem == "conv" else 2
    shape = {"stem": stem, "tubelet_size": tubelet}
    whole = pretrain(tiny(tmp_path / "whole", **shape), clips, unseen)
    pretrain(tiny(tmp_path / "two", stop_after=4, **shape), clips, unseen)
    pretrain(tiny(tmp_path / "two", **shape), clips, unseen)
    # the stopped run also validated at its last step
    losses = [
        [(r["step"], r["loss"], r["grad_norm"]) for r in rows(tmp_path / n)]
        for n in ("whole", "two")
    ]
    assert losses[0] == losses[1]
    assert losses[0][-1][1] < losses[0][0][1]
    ranks = ("effective_rank", "effective_rank_student")
    for name in ("val_masked_short", "val_masked_long", "val_mean", *ranks):
        assert whole["last"][name] > 0
    assert whole["last"]["probe_tcp_m"] > 0
    a, b = (load_any(tmp_path / n / "encoder.safetensors", "cpu") for n in ("whole", "two"))
    for x, y in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("stem", ["conv", "patch"])
def test_pixels_of_recorded_clips_can_be_predicted_instead(tmp_path, stem):
    clips, tubelet = Squares(), 1 if stem == "conv" else 2
    options = tiny(tmp_path, stem=stem, tubelet_size=tubelet, objective="pixels", steps=40)
    last = pretrain(options, clips, Squares(16, seed=1))["last"]
    first = rows(tmp_path)[0]
    assert last["val_loss"] < first["val_loss"]
    assert last["effective_rank"] == last["effective_rank_student"] > 1
    assert (tmp_path / "encoder.safetensors").is_file()
    assert not (tmp_path / "pretrained.safetensors").exists()
    with pytest.raises(ConfigError, match="predicts no latents"):
        tiny(tmp_path, objective="pixels", target_blocks=2)


@pytest.mark.parametrize("stem", ["conv", "patch"])
def test_prediction_knows_nothing_of_hidden_pixels(tmp_path, stem):
    config = tiny(tmp_path, stem=stem, tubelet_size=1 if stem == "conv" else 2)
    objective = objective_of(config)
    ids = draw_masks(config, objective.grid, 3, 0)
    clip = torch.randn(3, 3, 2, 32, 32)
    for kind, name in enumerate(("short", "long")):
        one = TokenIds(context=ids[f"context_{name}"], target=ids[f"target_{name}"])
        shown = hide_pixels(torch.ones_like(clip), one.context, 8, config.encoder.tubelet_size)
        other = torch.where(shown == 0, torch.randn_like(clip), clip)
        seen = [objective.encode_visible(x, one) for x in (clip, other)]
        a, b = (objective.predict(encoded, one, kind)[0] for encoded in seen)
        torch.testing.assert_close(a, b)
        assert (objective.targets(clip) - objective.targets(other)).abs().max() > 1e-2


def test_only_encoder_and_predictor_get_gradients_and_the_target_follows(tmp_path):
    config = tiny(tmp_path)
    objective = objective_of(config)
    batch = {"frames": torch.from_numpy(Squares().frames[:4])}
    batch |= draw_masks(config, objective.grid, 4, 0)
    objective(batch)["loss"].backward()
    assert all(p.grad is None for p in objective.target.parameters())
    assert all(p.grad is not None for p in objective.student.backbone.parameters())
    assert all(p.grad is not None for p in objective.predictor.parameters())
    slow = next(objective.target.parameters())
    fast = next(objective.student.backbone.parameters())
    with torch.no_grad():
        fast.add_(1.0)
    before = slow.clone()
    objective.update_target(0.75)
    torch.testing.assert_close(slow, before + 0.25)


def test_targets_are_layer_normalised(tmp_path):
    objective = objective_of(tiny(tmp_path))
    target = objective.targets(torch.randn(2, 3, 2, 32, 32))
    assert target.mean(-1).abs().max() < 1e-4
    torch.testing.assert_close(
        target.var(-1, unbiased=False), torch.ones(target.shape[:2]), atol=1e-2, rtol=0
    )


def test_schedules_are_the_published_shapes():
    words = ["steps=100", "warmup=10", "decay=20", "lr_start=0", "lr=1", "lr_end=0"]
    config = compose_options("pretrain", words)
    assert [rate_at(s, config) for s in (0, 5, 10, 79, 90)] == [0.0, 0.5, 1.0, 1.0, 0.5]
    assert {momentum_at(s, config) for s in (0, 50, 99)} == {0.99925}
    rising = compose_options("pretrain", ["steps=11", "momentum=0.998", "momentum_end=1"])
    assert momentum_at(0, rising) == 0.998
    assert momentum_at(5, rising) == pytest.approx(0.999)
    assert momentum_at(10, rising) == 1.0


def test_collapse_shows_in_spread_and_rank():
    alive = torch.randn(64, 9, 16)
    assert feature_std(alive) == pytest.approx(1.0, abs=0.1)
    assert effective_rank(alive) > 14
    assert feature_std(torch.ones(8, 9, 16)) == 0.0
    by_position = torch.randn(1, 9, 16).expand(32, -1, -1)  # says where it is, not what it sees
    assert feature_std(by_position) < 1e-6
    assert effective_rank(torch.ones(8, 9, 16)) == 1.0
    line = torch.randn(64, 9, 1) * torch.randn(16)
    assert effective_rank(line) == pytest.approx(1.0, abs=0.01)


def test_a_collapsed_run_is_said_so(tmp_path, caplog):
    config = tiny(tmp_path, steps=1)
    clips = Squares()
    clips.frames[:] = 100
    pretrain(config, clips, clips)
    assert "collapsed" in caplog.text


def test_linear_probe_finds_a_linear_map_from_wide_features():
    torch.manual_seed(0)
    x = torch.randn(200, 12)
    wide = x @ torch.randn(12, 500)
    y = x[:, :3] * 2 + 1
    found = linear_probe(wide[:150], y[:150], wide[150:])
    assert (found - y[150:]).abs().max() < 0.1


SMALL = [
    *("num_frames=2", "batch_size=8", "steps=4", "predictor_dim=24", "predictor_depth=1"),
    *("predictor_heads=2", "bf16=false", "device=cpu", "log_every=1", "save_every=2"),
]


def small(out, mode, **changes):
    words = [*SMALL, f"mode={mode}", f"out={out}", *changed(changes)]
    return compose_options("train", words + (["object=1"] if mode == "finetune" else []))


def train_on(options, clips, file) -> dict:
    encoder = load_encoder(str(file), "cpu")
    return run_task(JointTask(options, Sources(clips, clips), Start(encoder=encoder)))


def test_training_starts_from_the_encoder_frozen_or_not(tmp_path):
    clips = Squares()
    pretrain(tiny(tmp_path / "pre", steps=2), clips, clips)
    file = tmp_path / "pre" / "encoder.safetensors"
    for frozen in (True, False):
        out = tmp_path / str(frozen)
        mode = "frozen" if frozen else "finetune"
        train_on(small(out, mode, stop_after=2), clips, file)
        summary = train_on(small(out, mode), clips, file)
        world = load(out / "model.safetensors", "cpu")
        same = [
            torch.allclose(p, q.half().float())
            for p, q in zip(
                world.encoder.parameters(), load_encoder(file, "cpu").parameters(), strict=True
            )
        ]
        assert all(same) == frozen
        assert summary["simulator_label"] == ("no" if frozen else "yes")
        assert ("variance" in rows(out)[0]) != frozen
        z = world.encode(torch.from_numpy(clips.frames[:3, 0]))
        assert z.shape == (3, 16, 24)


def test_errors_say_the_fix(tmp_path):
    clips = Squares(4)
    with pytest.raises(ConfigError, match="lower batch_size"):
        pretrain(tiny(tmp_path), clips, clips)
    with pytest.raises(ConfigError, match="stem='linear'; allowed: conv, patch"):
        PretrainEncoderConfig(stem="linear")
    with pytest.raises(ConfigError, match="tubelet_size=1"):
        build_encoder(tiny(tmp_path, tubelet_size=2))
    with pytest.raises(ConfigError, match="several patches"):
        objective_of(tiny(tmp_path, patch_size=32))
    file = tmp_path / "encoder.safetensors"
    save(file, VideoEncoder.of(build_encoder(tiny(tmp_path))))
    with pytest.raises(ConfigError, match="set image_size=32"):
        open_encoder(EncoderStart(encoder=str(file), image_size=64), seed=0)


def test_a_published_size_and_an_encoder_to_go_on_from(tmp_path):
    config = tiny(tmp_path / "a", size="vit_tiny", patch_size=16, tubelet_size=2, steps=0)
    pretrain(config, Squares(), Squares())
    file = tmp_path / "a" / "encoder.safetensors"
    again = build_encoder(tiny(tmp_path, init=str(file)))
    assert (again.config.embed_dim, again.config.depth, again.config.stem) == (192, 12, "patch")
    assert all(p.requires_grad for p in again.parameters())


def test_a_vjepa2_pretraining_continues_with_its_predictor_and_mask_token_0(tmp_path, monkeypatch):
    from worldmodel.checkpoints.published import sizes

    monkeypatch.setitem(sizes.ENCODER_HEADS, (64, 3), 2)
    monkeypatch.setitem(sizes.MASKED_HEADS, (48, 2), 2)
    file = Path(__file__).parents[2] / "golden" / "vjepa2_pretrain_layout.pt"
    options = tiny(
        tmp_path, init=str(file), predictor_init=str(file), image_size=64, num_frames=4, augment=0
    )
    objective = objective_of(options).train()
    assert objective.grid == (2, 4, 4)
    before = [token.detach().clone() for token in objective.predictor.mask_tokens]
    batch = draw_masks(options, objective.grid, 2, 0)
    frames = torch.randint(256, (2, 4, 64, 64, 3), dtype=torch.uint8)
    loss = objective(batch | {"frames": frames})["loss"]
    trained = [p for p in objective.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    loss.backward()
    assert all(p.grad is not None for p in trained)
    optimizer.step()
    tokens = objective.predictor.mask_tokens
    changed_ones = [not torch.equal(a, b) for a, b in zip(tokens, before, strict=True)]
    assert changed_ones == [True, False, False]
    with pytest.raises(ConfigError, match="width 64"):
        objective_of(tiny(tmp_path, predictor_init=str(file)))


def test_an_encoder_of_images_is_refused(tmp_path):
    config = EncoderConfig(
        image_size=(32, 32),
        patch_size=8,
        tubelet_size=1,
        num_frames=1,
        embed_dim=24,
        depth=1,
        num_heads=2,
        position="sincos_2d",
    )
    file = tmp_path / "image.safetensors"
    save(file, VideoEncoder.of(VisionTransformer(config)))
    with pytest.raises(ConfigError, match="encoder of images"):
        build_encoder(tiny(tmp_path, init=str(file)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("stem", ["conv", "patch"])
def test_pretraining_and_what_follows_run_on_cuda(tmp_path, stem):
    clips = Squares()
    shape = {"stem": stem, "tubelet_size": 1 if stem == "conv" else 2, "bf16": True}
    summary = pretrain(tiny(tmp_path / "pre", device="cuda", **shape), clips, clips)
    assert summary["last"]["feature_std"] > 0
    options = small(tmp_path / "ac", "finetune", device="cuda", bf16=True)
    train_on(options, clips, tmp_path / "pre" / "encoder.safetensors")
    assert load(tmp_path / "ac" / "model.safetensors", "cpu").config.predictor.grid == (4, 4)
