"""Processors of the policy: lerobot's own, without normalisation."""

from __future__ import annotations

from lerobot.processor import make_default_pre_post_processors

from lerobot_policy_worldmodel.configuration_worldmodel import WorldmodelConfig


def make_worldmodel_pre_post_processors(config: WorldmodelConfig, dataset_stats=None):
    """Return what renames and moves observations, and what moves actions back."""
    return make_default_pre_post_processors(config, dataset_stats)
