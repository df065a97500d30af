"""Assemble a model from a published file; the parts present determine its kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from worldmodel.checked import Checked, between
from worldmodel.checkpoints import registry
from worldmodel.checkpoints.backbones import pixel_statistics, read_processor
from worldmodel.checkpoints.published.huggingface import open_files, read_config
from worldmodel.checkpoints.published.loading import KEYS, Part, load_published
from worldmodel.checkpoints.tensor_file import is_safetensors, read_torch
from worldmodel.errors import CheckpointError
from worldmodel.models.ac_predictor import ActionConditionedPredictor
from worldmodel.models.dynamics import LatentDynamics
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.frame_encoder import VideoEncoder
from worldmodel.models.model_config import DynamicsConfig
from worldmodel.models.probe import AttentiveClassifier
from worldmodel.models.world_model import WorldModel
from worldmodel.specs import ActionSpec

Assembled = WorldModel | VideoEncoder | AttentiveClassifier
Want = Literal["any", "encoder", "probe"]
COUNT = between(0, 2**16)


@dataclass(frozen=True, kw_only=True)
class ConvertConfig(Checked):
    """How to read a published file; 0 and empty strings mean "as published"."""

    part: Literal["", "encoder", "target_encoder", "predictor", "probe"] = ""
    """Part to keep: `encoder`, `target_encoder` or `probe`."""
    num_heads: int = field(default=0, metadata=COUNT)
    """Number of attention heads of the encoder or of the probe."""
    predictor_heads: int = field(default=0, metadata=COUNT)
    """Number of attention heads of the predictor."""
    image_size: int = field(default=0, metadata=COUNT)
    """Side of the input image [px]."""
    num_frames: int = field(default=0, metadata=COUNT)
    """Number of frames of a clip."""
    step_seconds: float = field(default=0.25, metadata=between(1e-3, 60))
    """Duration of an action [s]."""
    encoder: str = ""
    """File or published name of the encoder, for files that hold only a predictor."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Data type of the written file: float32 or bfloat16."""


AS_PUBLISHED = ConvertConfig()


def _bytes(value: Any) -> int:
    """Return the bytes of all tensors in nested containers, which may contain themselves."""
    total, seen, waiting = 0, set[int](), [value]
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Tensor):
            total += item.numel() * item.element_size()
        elif isinstance(item, Mapping):
            waiting += item.values()
        elif isinstance(item, list | tuple):
            waiting += item
    return total


def inventory(path: Path) -> dict[str, int]:
    """Return the top-level entries of a published file and the bytes of their tensors.

    It reads no tensor into memory.
    """
    if not path.is_dir() and not is_safetensors(path):
        return {str(key): _bytes(value) for key, value in read_torch(path).items()}
    found: dict[str, int] = {}
    file = open_files(path)
    for name in file.names:
        top = name.removeprefix("vjepa2.").split(".")[0]
        found[top] = found.get(top, 0) + file.num_bytes(name)
    return found


def find_source(name_or_path: str | Path) -> tuple[Path, registry.Published | None]:
    """Return a file and, for a published name, its registry entry."""
    if registry.is_known(str(name_or_path)) and not Path(name_or_path).exists():
        return registry.resolve(str(name_or_path)), registry.get(str(name_or_path))
    return Path(name_or_path), None


def _has_action_encoder(path: Path, entries: dict[str, int]) -> bool:
    """Return whether a torch file's predictor takes actions."""
    if "predictor" not in entries or path.is_dir() or is_safetensors(path):
        return False
    return any("action_encoder" in str(key) for key in read_torch(path)["predictor"])


class PublishedFile:
    """A published file or folder, with sizes from the caller's options, its name or config.json."""

    def __init__(
        self,
        path: Path,
        config: ConvertConfig = AS_PUBLISHED,
        known: registry.Published | None = None,
    ) -> None:
        self.path, self.config, self.known = path, config, known
        self.entries = inventory(path)
        is_folder_or_safetensors = path.is_dir() or is_safetensors(path)
        self.settings = read_config(path) if is_folder_or_safetensors else {}
        """The config.json of a Hugging Face folder; empty for other files."""
        folder = path if path.is_dir() else path.parent
        self.processor = read_processor(folder) if self.settings else {}
        self.is_action_conditioned = (
            known.is_action_conditioned if known else _has_action_encoder(path, self.entries)
        )

    def load(self, part: str) -> nn.Module:
        """Load one part, with sizes from the options, the name or config.json."""
        c, known = self.config, self.known
        chosen: Any = part
        heads = c.predictor_heads if part == "predictor" else c.num_heads
        size = self.settings.get("crop_size", self.settings.get("image_size", 256))
        frames = self.settings.get("frames_per_clip", 64)
        return load_published(
            self.path,
            chosen,
            num_heads=heads or None,
            image_size=c.image_size or (known.image_size if known else int(size)),
            num_frames=c.num_frames or (known.num_frames if known else int(frames)),
        )

    def main_part(self, want: Want) -> str:
        """Choose the part to keep: as requested, as published, or the moving average."""
        have = self.entries
        if self.config.part:
            return self.config.part
        has_probe = "classifiers" in have or "classifier" in have
        if want == "probe" or (has_probe and want == "any" and "encoder" not in have):
            return "probe"
        if self.known is not None:
            return self.known.part
        if self.is_action_conditioned and "encoder" in have:
            return "encoder"  # the frozen encoder that the predictor was trained on
        has_average = any(key in have for key in KEYS["target_encoder"])
        return "target_encoder" if has_average else "encoder"


def _encoder(file: PublishedFile, want: Want) -> tuple[VisionTransformer, list[str]]:
    """Load a file's own or associated encoder; return it and the entries used."""
    known, part = file.known, file.main_part(want)
    other = file.config.encoder
    if not other and known and known.encoder_from and "encoder" not in file.entries:
        other = known.encoder_from
    if other:
        path, other_known = find_source(other)
        named: Part = other_known.part if other_known else "target_encoder"
        config = dataclasses.replace(file.config, part=named, encoder="")
        encoder, kept = PublishedFile(path, config, other_known).load(named), []
    else:
        encoder = file.load(part)
        kept = [next((k for k in KEYS[part] if k in file.entries), part)]
    assert isinstance(encoder, VisionTransformer)
    _check_settings(encoder, file)
    return encoder, kept


def _check_settings(encoder: VisionTransformer, file: PublishedFile) -> None:
    """Check config.json against the weights.

    Raises:
        CheckpointError: A size differs, because shards are missing or the files do not belong
            together.
    """
    sizes = {
        "num_hidden_layers": encoder.config.depth,
        "hidden_size": encoder.config.embed_dim,
        "tubelet_size": encoder.config.tubelet_size,
        "patch_size": encoder.config.patch_size,
    }
    for name, size in sizes.items():
        expected = file.settings.get(name, size)
        if expected != size:
            raise CheckpointError(
                f"{file.path}: config.json has {name}={expected}, the weights have {size}: files "
                "are missing or inconsistent; download all of them again"
            )


def assemble(file: PublishedFile, want: Want = "any") -> tuple[Assembled, list[str]]:
    """Assemble the model of a published file.

    Args:
        file: The published file.
        want: `encoder` ignores a predictor, `probe` takes only the classifier of a file that also
            holds an encoder, and `any` takes everything.

    Returns:
        The model, and the top-level entries of the file that it was built from.

    Raises:
        CheckpointError: The file is damaged, or has no part that makes a model.
        ConfigError: An option contradicts the file.
    """
    if file.main_part(want) == "probe":
        probe = file.load("probe")
        assert isinstance(probe, AttentiveClassifier)
        return probe, ["classifiers", "classifier", "pooler"]
    backbone, kept = _encoder(file, want)
    if file.config.image_size and backbone.config.position == "rope":
        side = (file.config.image_size, file.config.image_size)
        backbone.config = dataclasses.replace(backbone.config, image_size=side)
    is_world = file.is_action_conditioned and want == "any"
    image_path = backbone.config.modality_embedding and not file.is_action_conditioned
    mean, std = pixel_statistics(file.processor)
    encoder = VideoEncoder.of(
        backbone,
        transform="droid" if is_world else "published",
        frames_per_token=1 if image_path else None,
        pixel_mean=mean,
        pixel_std=std,
    )
    if not is_world:
        return encoder, kept
    predictor = file.load("predictor")
    assert isinstance(predictor, ActionConditionedPredictor)
    action = ActionSpec(action_dim=predictor.config.action_dim, period_s=file.config.step_seconds)
    dynamics = LatentDynamics(DynamicsConfig(predictor=predictor.config, action=action), predictor)
    spec = dataclasses.replace(encoder.observation_spec, state_dim=predictor.config.state_dim)
    model = WorldModel(encoder.set_observation(spec), dynamics)
    return model.eval(), [*kept, "predictor"]
