import torch

from worldmodel.models.config import PredictorConfig
from worldmodel.models.config_dict import to_dict
from worldmodel.models.dynamics import LatentDynamics
from worldmodel.models.model_config import DynamicsConfig
from worldmodel.training.augmentation import random_colours, random_patterns
from worldmodel.training.config import JointOptions
from worldmodel.training.loss_options import AugmentationConfig
from worldmodel.training.network_options import SmallEncoderConfig
from worldmodel.training.objective import Objective, ObjectiveConfig
from worldmodel.training.small_models import small_encoder


def test_patterns_stay_within_their_spread_and_differ_between_clips():
    torch.manual_seed(0)
    gain = random_patterns(64, 0.3, 32, 48)
    assert gain.shape == (64, 32, 48)
    assert gain.min() >= 0.7
    assert gain.max() <= 1.3
    assert gain.flatten(1).std(0).min() > 0.01
    assert (gain.flatten(1).std(1) > 0.01).float().mean() > 0.5
    assert torch.equal(random_patterns(2, 0.0, 8, 8), torch.ones(2, 8, 8))


def test_patterns_and_colours_follow_the_seed():
    torch.manual_seed(3)
    first = random_patterns(4, 0.3, 16, 16), random_colours(4, 0.1, 30.0)
    torch.manual_seed(3)
    second = random_patterns(4, 0.3, 16, 16), random_colours(4, 0.1, 30.0)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_a_pattern_stands_still_in_a_clip_and_is_gone_outside_training():
    torch.manual_seed(0)
    options = JointOptions(
        encoder=SmallEncoderConfig(
            image_size=32, patch_size=32, stem_channels=(4, 8), encoder_dim=16, encoder_heads=2
        )
    )
    encoder = small_encoder(options)
    predictor = PredictorConfig(grid=(1, 1), encoder_dim=16, embed_dim=16, depth=1, num_heads=2)
    config = ObjectiveConfig(augmentation=AugmentationConfig(augment=0.0, pattern=0.5))
    objective = Objective(LatentDynamics(DynamicsConfig(predictor=predictor)), config, encoder)
    frame = torch.randint(0, 256, (6, 1, 32, 32, 3), dtype=torch.uint8)
    clips = frame.expand(-1, 3, -1, -1, -1)
    varied = objective.encode(clips)
    assert torch.equal(varied[:, :1].expand_as(varied), varied)
    objective.eval()
    plain = objective.encode(clips)
    assert not torch.allclose(plain, varied)
    assert torch.equal(plain, objective.encode(clips))
    assert "pattern" not in to_dict(encoder.config)
