import dataclasses

import pytest

from worldmodel.errors import ConfigError
from worldmodel.models import config
from worldmodel.models.config_dict import from_dict, to_dict
from worldmodel.models.model_config import ModelConfig
from worldmodel.specs import ObservationSpec


def small_model() -> ModelConfig:
    return ModelConfig(
        encoder=config.EncoderConfig(embed_dim=192, num_heads=3, depth=2, tubelet_size=1),
        predictor=config.PredictorConfig(embed_dim=96, num_heads=2, depth=2, encoder_dim=192),
        observation=ObservationSpec(frames_per_token=1),
    )


def test_round_trip_through_plain_dictionary():
    model = small_model()
    assert from_dict(ModelConfig, to_dict(model)) == model


def test_unknown_option_names_itself():
    values = to_dict(small_model())
    values["encoder"]["widht"] = 3
    with pytest.raises(ConfigError, match="widht"):
        from_dict(ModelConfig, values)


def test_heads_must_divide_width():
    with pytest.raises(ConfigError, match="not divisible"):
        dataclasses.replace(small_model().encoder, num_heads=5)


@pytest.mark.parametrize("heads", [32, 96])
def test_rotary_heads_have_an_even_number_of_channels(heads):
    for kind in (config.EncoderConfig, config.PredictorConfig, config.MaskedPredictorConfig):
        with pytest.raises(ConfigError, match="rotary positions need an even number"):
            kind(embed_dim=96, num_heads=heads)
        assert kind(embed_dim=96, num_heads=16).num_heads == 16
    config.EncoderConfig(embed_dim=96, num_heads=heads, position="sincos")
