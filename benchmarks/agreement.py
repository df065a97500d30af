"""Largest differences from the published modules and from transformers' VJEPA2Model.

Golden arrays (tests/golden) were computed by the published modules on random weights; here each is
computed by a model that `load_published` read from the published layout. Transformers' model is
built at several sizes with random weights and read from the file it writes.

    python benchmarks/agreement.py
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import transformers
from torch import Tensor

from worldmodel.actions import apply_action, pose_diff
from worldmodel.checkpoint import load_published

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
OUT = Path(__file__).parent / "results" / "agreement.json"
ALLOWED = 2e-5
WIDTHS = ((96, 2, 3, 64), (192, 3, 4, 96), (384, 6, 4, 112), (768, 12, 3, 128), (1408, 22, 2, 64))
"""Width, heads, depth and pixels of transformers' models."""
Pairs = Iterator[tuple[str, Tensor, Tensor]]


def arrays_of(name: str) -> dict[str, Tensor]:
    """Arrays of a golden file."""
    return {k: torch.from_numpy(v) for k, v in np.load(GOLDEN / name).items()}


def vjepa2() -> Pairs:
    """Encoder, target encoder, masked predictor, probe, poses."""
    a, file = arrays_of("golden.npz"), GOLDEN / "vjepa2_pretrain_layout.pt"
    sizes = {"num_heads": 2, "image_size": 64, "num_frames": 8}
    encoder = load_published(file, "encoder", **sizes)
    seen = encoder(a["clip"], a["mask_context"])
    yield "V-JEPA 2 encoder", encoder(a["clip"]), a["encoder_tokens"]
    other = encoder(a["clip_nonsquare"])
    yield "V-JEPA 2 encoder, not square", other, a["encoder_tokens_nonsquare"]
    yield "V-JEPA 2 encoder, masked", seen, a["encoder_tokens_masked"]
    target = load_published(file, "target_encoder", **sizes)
    yield "V-JEPA 2 target encoder", target(a["clip"]), a["target_encoder_tokens"]
    predictor = load_published(file, "predictor", **sizes)
    for token in (0, 1):
        out = predictor(seen, a["mask_context"], a["mask_target"], token)
        yield f"V-JEPA 2 predictor, mask {token}", out, a[f"predictor_out_mask_token_{token}"]
    probe = load_published(GOLDEN / "probe_layout.pt", "probe", num_heads=2)
    yield "probe", probe(a["encoder_tokens"]), a["probe_logits"]
    poses = a["poses"]
    yield "pose differences", pose_diff(poses, poses.roll(-1, 0)), a["pose_diffs"]
    yield "new poses", apply_action(poses, a["pose_diffs"])[:, :3], a["new_pose"][:, :3]


def vjepa2_ac() -> Pairs:
    """The action-conditioned predictor, with and without extrinsics."""
    a, sizes = arrays_of("golden.npz"), {"num_heads": 2, "image_size": 64, "num_frames": 8}
    for name in ("ac", "ac_extrinsics"):
        model = load_published(GOLDEN / f"vjepa2_{name}_layout.pt", "predictor", **sizes)
        keys = ["frames", "actions", "states", *(["extrinsics"] if "ex" in name else [])]
        given = [a[f"{name}_{key}"] for key in keys]
        yield f"V-JEPA 2-AC ({name})", model(*given), a[f"{name}_out"]
        first = [given[0][:, :32], *(x[:, :2] for x in given[1:])]
        yield f"V-JEPA 2-AC ({name}), two frames", model(*first), a[f"{name}_out_T2"]


def vjepa1() -> Pairs:
    """The first model's encoder."""
    a = arrays_of("golden.npz")
    model = load_published(GOLDEN / "vjepa1_layout.pth.tar", "encoder", num_heads=2)
    yield "V-JEPA 1 encoder", model(a["clip"]), a["vjepa1_encoder_tokens"]
    masked = model(a["clip"], a["mask_context"])
    yield "V-JEPA 1 encoder, masked", masked, a["vjepa1_encoder_tokens_masked"]


def vjepa21() -> Pairs:
    """V-JEPA 2.1's encoder and predictor."""
    a, file = arrays_of("golden21.npz"), GOLDEN / "vjepa21_layout.pt"
    sizes = {"num_heads": 2, "image_size": 64, "num_frames": 4}
    encoder = load_published(file, "encoder", **sizes)
    seen = encoder(a["clip"], a["mask_context"])
    yield "V-JEPA 2.1 encoder", encoder(a["clip"]), a["encoder_tokens"]
    yield "V-JEPA 2.1 encoder, one image", encoder(a["image"]), a["image_tokens"]
    other = encoder(a["clip_nonsquare"])
    yield "V-JEPA 2.1 encoder, not square", other, a["encoder_tokens_nonsquare"]
    yield "V-JEPA 2.1 encoder, masked", seen, a["encoder_tokens_masked"]
    predictor = load_published(file, "predictor", **sizes)
    targets, context = predictor(seen, a["mask_context"], a["mask_target"], 1)
    yield "V-JEPA 2.1 predictor, targets", targets, a["predictor_targets"]
    yield "V-JEPA 2.1 predictor, context", context, a["predictor_context"]


def against_transformers() -> Pairs:
    """Encoder and masked predictor at several sizes."""
    for width, heads, depth, side in WIDTHS:
        torch.manual_seed(width)
        config = transformers.VJEPA2Config(
            hidden_size=width,
            num_attention_heads=heads,
            num_hidden_layers=depth,
            crop_size=side,
            frames_per_clip=8,
            attn_implementation="sdpa",
            pred_num_hidden_layers=2,
        )
        theirs = transformers.VJEPA2Model(config).eval()
        clip, count = torch.randn(2, 3, 8, side, side), 4 * (side // 16) ** 2
        order = torch.stack([torch.randperm(count) for _ in range(2)])
        seen, hidden = order[:, : count // 2].sort().values, order[:, count // 2 :].sort().values
        want = theirs(clip.transpose(1, 2), context_mask=[seen], target_mask=[hidden])
        with tempfile.TemporaryDirectory() as folder:
            theirs.save_pretrained(folder)
            encoder = load_published(folder, "encoder", image_size=side, num_frames=8)
            predictor = load_published(folder, "predictor", image_size=side, num_frames=8)
        tokens = encoder(clip)
        yield f"transformers, width {width}, encoder", tokens, want.last_hidden_state
        context = tokens.gather(1, seen[..., None].expand(-1, -1, width))
        out = predictor(context, seen, hidden, 1)
        wanted = want.predictor_output.last_hidden_state
        yield f"transformers, width {width}, predictor", out, wanted


@torch.no_grad()
def main() -> None:
    """Compare, print and write; exit 1 where a difference is too large."""
    torch.manual_seed(0)
    rows: dict[str, float] = {}
    for pairs in (vjepa1(), vjepa2(), vjepa2_ac(), vjepa21(), against_transformers()):
        for name, found, wanted in pairs:
            if found.shape != wanted.shape:
                raise SystemExit(f"{name}: {tuple(found.shape)} is not {tuple(wanted.shape)}")
            rows[name] = float((found - wanted).abs().max())
            print(f"{name:44s} {rows[name]:.2e}")
    worst = max(rows.values())
    print(f"largest {worst:.2e}, allowed {ALLOWED:.0e}")
    OUT.write_text(json.dumps({"largest": worst, **rows}, indent=1) + "\n", encoding="utf-8")
    if worst > ALLOWED:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
