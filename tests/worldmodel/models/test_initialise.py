"""Random weights begin as published."""

import pytest
import torch

from worldmodel.models.config import EncoderConfig
from worldmodel.models.encoder import VisionTransformer


def encoder(patch, tubelet):
    sides = (2 * patch, 2 * patch)
    sizes = {"image_size": sides, "patch_size": patch, "num_frames": tubelet}
    sizes |= {"tubelet_size": tubelet, "embed_dim": 96, "depth": 2, "num_heads": 3}
    return VisionTransformer(EncoderConfig(**sizes))


@pytest.mark.parametrize(("patch", "tubelet"), [(16, 2), (16, 1), (14, 1)])
def test_published_patches(patch, tubelet):
    torch.manual_seed(0)
    part = encoder(patch, tubelet).patch_embed.proj
    assert float(part.weight.std()) == pytest.approx(0.02, rel=0.02)
    assert not part.bias.any()


@pytest.mark.parametrize(("patch", "tubelet"), [(8, 2), (8, 1)])
def test_smaller_patches_are_larger(patch, tubelet):
    torch.manual_seed(0)
    weight = encoder(patch, tubelet).patch_embed.proj.weight
    assert float(weight.std()) == pytest.approx((3 * weight[0].numel()) ** -0.5, rel=0.03)


def test_blocks():
    torch.manual_seed(0)
    first, second = encoder(8, 1).blocks
    assert float(first.mlp.fc1.weight.std()) == pytest.approx(0.02, rel=0.02)
    assert float(first.mlp.fc2.weight.std()) == pytest.approx(0.02 / 2**0.5, rel=0.03)
    assert float(second.mlp.fc2.weight.std()) == pytest.approx(0.02 / 2, rel=0.03)
