"""Load the networks of action anticipation and check that they belong together."""

from __future__ import annotations

from pathlib import Path

from worldmodel.checkpoints.loading import resolve_device
from worldmodel.errors import CheckpointError
from worldmodel.models.encoder import VisionTransformer
from worldmodel.perception.anticipation.epic_kitchens import ActionClasses
from worldmodel.perception.anticipation.evaluation import Networks
from worldmodel.perception.anticipation.networks import load_backbones, place_networks
from worldmodel.perception.anticipation.pipeline import (
    AnticipationProbe,
    FutureConfig,
    load_anticipation_probes,
)
from worldmodel.specs import Precision


def load_networks(
    name: str,
    probe: Path,
    *,
    heads: tuple[int | None, int | None, int],
    image_size: int | None,
    classes: ActionClasses,
    future: FutureConfig,
    device: str,
    precision: Precision,
) -> tuple[Networks, int]:
    """Load target encoder, predictor and probes; return them and the image size [px].

    Args:
        name: Published name or file of the encoder and predictor.
        probe: File of probes.
        heads: Attention heads of encoder, predictor and probes; None takes the published ones.
        image_size: Height and width of the images; None takes the published ones, or 256.
        classes: Classes that the probes must have.
        future: Which tokens the probes read.
        device: Device of the networks.
        precision: Data type of their weights.

    Raises:
        CheckpointError: The probes do not fit the classes or the encoder.
    """
    encoder, predictor, size = load_backbones(name, heads[:2], image_size)
    probes = load_anticipation_probes(probe, heads[2])
    for one in probes:
        _check(one, encoder, classes, probe)
    place_networks((encoder, predictor, *probes), precision, resolve_device(device))
    return Networks(encoder=encoder, predictor=predictor, probes=probes, future=future), size


def _check(
    probe: AnticipationProbe, encoder: VisionTransformer, classes: ActionClasses, path: Path
) -> None:
    width = probe.pooler.query_tokens.shape[2]
    if width != encoder.config.embed_dim:
        raise CheckpointError(
            f"{path} takes tokens of width {width}, the encoder has {encoder.config.embed_dim}: "
            "use the encoder that the probe was trained on"
        )
    needed = {
        "verb": len(classes.verbs),
        "noun": len(classes.nouns),
        "action": len(classes.actions),
    }
    for target in probe.targets:
        count = int(probe.get_parameter(f"{target}_classifier.bias").numel())
        if count != needed[target]:
            raise CheckpointError(
                f"{path} has {count} {target} classes, the training annotations {needed[target]}: "
                "use the annotations that the probe was trained on"
            )
