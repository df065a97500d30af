"""Levels that probes read, and images as single frames, by family of encoder."""

import dataclasses
from pathlib import Path

import torch

from worldmodel.models.config import EncoderConfig
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.frame_encoder import VideoEncoder
from worldmodel.perception.probes.config import ClipOptions
from worldmodel.perception.probes.frozen_tokens import four_levels, recipe_for, view_tokens

SMALL = EncoderConfig(image_size=(32, 32), embed_dim=24, depth=2, num_heads=2)


def test_levels_of_an_image_model_hold_all_frames():
    torch.manual_seed(0)
    sizes_of_image = {"tubelet_size": 1, "num_frames": 1, "position": "sincos_2d"}
    encoder = VideoEncoder.of(VisionTransformer(dataclasses.replace(SMALL, **sizes_of_image)))
    clips = torch.randint(256, (1, 1, 2, 3, 32, 32, 3), dtype=torch.uint8)
    both = view_tokens(encoder, clips, (0, 1))
    assert both.shape == (1, 2, 2 * 3 * 4, 24)
    torch.testing.assert_close(both[:, :, 12:], view_tokens(encoder, clips))
    for frame in range(3):
        alone = view_tokens(encoder, clips[:, :, :, frame : frame + 1], (0,))
        torch.testing.assert_close(both[:, :, 4 * frame : 4 * frame + 4], alone)


def test_levels_of_the_third_generation_are_those_with_a_norm():
    own = dataclasses.replace(SMALL, depth=24, norm_blocks=(5, 11, 17, 23))
    encoder = VideoEncoder.of(VisionTransformer(own))
    assert four_levels(encoder) == (5, 11, 17, 23)
    clips = torch.zeros(1, 1, 1, 2, 32, 32, 3, dtype=torch.uint8)
    assert view_tokens(encoder, clips, four_levels(encoder)).shape == (1, 1, 16, 24)
    plain = VideoEncoder.of(VisionTransformer(dataclasses.replace(own, norm_blocks=())))
    assert four_levels(plain) == (17, 19, 21, 23)


def test_images_are_one_frame_for_encoders_that_take_those():
    video = VideoEncoder.of(VisionTransformer(SMALL))
    assert not video.takes_single_frames
    changes = {"modality_embedding": True}, {"position": "sincos_2d", "tubelet_size": 1}
    for change in changes:
        encoder = VideoEncoder.of(VisionTransformer(dataclasses.replace(SMALL, **change)))
        images = [Path("a.png"), Path("b.JPG")]
        assert recipe_for(ClipOptions(preset="in1k"), encoder, images).num_frames == 1
        assert recipe_for(ClipOptions(num_frames=8), encoder, images).num_frames == 8
        assert recipe_for(ClipOptions(), encoder, [*images, Path("c.mp4")]).num_frames == 16
        assert recipe_for(ClipOptions(), video, images).num_frames == 16
