"""Load published attentive probes: a single head, a list of heads, or a bare pooler."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from worldmodel.checkpoints.container import fill
from worldmodel.checkpoints.published.loading import KEYS, clean_keys, load_published
from worldmodel.checkpoints.published.part_reader import LoadOverrides, PartReader
from worldmodel.checkpoints.published.sizes import pooler_config, probe
from worldmodel.checkpoints.tensor_file import is_safetensors, read_torch
from worldmodel.errors import CheckpointError
from worldmodel.models.probe import AttentiveClassifier, AttentivePooler


def _reader(tensors: dict[str, Tensor], num_heads: int | None, where: str) -> PartReader:
    asked = LoadOverrides(
        num_heads=num_heads,
        image_size=(256, 256),
        num_frames=64,
        rope=None,
        norm_eps=None,
        full_ac=False,
    )
    return PartReader(tensors, asked, where)


def load_pooler(
    state: Mapping[str, Tensor], *, num_heads: int | None = None, where: str = "pooler"
) -> AttentivePooler:
    """Build an attentive pooler from its tensors.

    Args:
        state: Tensors under the published names, with or without `module.` and `pooler.`; those of
            classifiers beside the pooler are left out.
        num_heads: Number of attention heads; None uses that of the published probes.
        where: Name of the tensors' source, for error messages.

    Raises:
        CheckpointError: Keys or shapes do not match; the message names them.
        ConfigError: The number of heads is unknown or not a divisor of the width.
    """
    bare = clean_keys(state, where)
    if "query_tokens" in bare:
        bare = {f"pooler.{key}": value for key, value in bare.items()}
    tensors = {key: value for key, value in bare.items() if key.startswith("pooler.")}
    with torch.device("meta"):
        pooler = AttentivePooler(pooler_config(_reader(tensors, num_heads, where)))
    fill({"pooler.": pooler}, tensors, where)
    return pooler.eval()


def load_probes(path: str | Path, *, num_heads: int | None = None) -> list[AttentiveClassifier]:
    """Load all heads of a probe file; a trained grid has one head per setting.

    Args:
        path: V-JEPA 1's file (one head), V-JEPA 2's (a list of heads), or a Hugging Face folder.
        num_heads: Number of attention heads; None uses that of the published probes.

    Raises:
        CheckpointError: The file is damaged or holds no probe.
        ConfigError: The number of heads is unknown or not a divisor of the width.
    """
    path = Path(path)
    if path.is_dir() or is_safetensors(path):
        model = load_published(path, "probe", num_heads=num_heads)
        assert isinstance(model, AttentiveClassifier)
        return [model]
    file = read_torch(path)
    states = next((file[key] for key in KEYS["probe"] if file.get(key)), None)
    if states is None:
        raise CheckpointError(
            f"{path} holds no probe: its top-level keys are {sorted(map(str, file))[:12]}; a "
            "probe's file has 'classifiers' or 'classifier'"
        )
    heads = states if isinstance(states, list) else [states]
    return [_head(state, num_heads, f"{path} [head {i}]") for i, state in enumerate(heads)]


def _head(state: Mapping[str, Tensor], num_heads: int | None, where: str) -> AttentiveClassifier:
    tensors = clean_keys(state, where)
    with torch.device("meta"):
        model = probe(_reader(tensors, num_heads, where))
    fill({"": model}, tensors, where)
    return model.eval()
