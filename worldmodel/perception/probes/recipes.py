"""Published recipes of frozen probes; this module imports no torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from worldmodel.checked import Checked, between

Preset = Literal[
    "k400",
    "ssv2",
    "ssv2_64",
    "coin",
    "jester",
    "diving48",
    "in1k",
    "places205",
    "inat21",
    "vjepa1_k400",
    "vjepa1_ssv2",
    "vjepa1_in1k",
    "vjepa1_places205",
    "vjepa1_inat21",
]
Levels = Literal["last", "four"]
Rates = tuple[float, ...]
ALL_DECAYS = (0.8, 0.4, 0.1, 0.01)
IMAGE_RATES, IMAGE_DECAYS = (5e-4, 1e-3, 1.5e-3, 2e-3), (5e-4, 1e-3, 2e-3, 4e-3, 8e-3)
COUNT = between(1, 2**16)


@dataclass(frozen=True, kw_only=True)
class Recipe(Checked):
    """A published recipe: clips, levels, schedule and the grid of heads.

    The probe has `depth` blocks; weight decay ends at `final_decay`, spares biases and norms unless
    `decay_all`, and gradients are clipped to `clip_norm`. `flip` mirrors half of the random views.
    `plain` is the learning rate and weight decay of one more head, without warm-up.
    """

    num_frames: int = field(default=16, metadata=COUNT)
    frame_step: int = field(default=4, metadata=COUNT)
    num_segments: int = field(default=1, metadata=COUNT)
    num_views: int = field(default=1, metadata=COUNT)
    levels: Levels = "last"
    epochs: int = field(default=20, metadata=COUNT)
    batch_size: int = field(default=256, metadata=between(1, 1_000_000))
    rates: Rates = field(default=(5e-3, 3e-3, 1e-3, 3e-4, 1e-4), metadata=between(1e-12, 10))
    decays: Rates = field(default=ALL_DECAYS, metadata=between(0, 10))
    warmup_epochs: int = field(default=0, metadata=between(0, 4096))
    depth: int = field(default=4, metadata=between(1, 64))
    final_decay: float | None = field(default=None, metadata=between(0, 10))
    decay_all: bool = True
    clip_norm: float | None = field(default=None, metadata=between(1e-12, 1e12))
    flip: bool = False
    plain: Rates = field(default=(), metadata=between(0, 10))


_FOUR_LEVELS = Recipe(
    num_frames=32,
    frame_step=2,
    num_segments=4,
    num_views=3,
    levels="four",
    epochs=100,
    batch_size=128,
    rates=(1e-3, 3e-4, 1e-4),
    decays=(0.8,),
)
_IMAGES = Recipe(
    batch_size=1024, rates=IMAGE_RATES, decays=IMAGE_DECAYS, warmup_epochs=5, flip=True
)
_K400 = Recipe(num_segments=8, num_views=3)
SSV2 = Recipe(num_segments=2, num_views=3)
_VJEPA1 = Recipe(
    rates=(1e-3,), decays=(0.01,), depth=1, final_decay=1e-6, decay_all=False, clip_norm=1.0
)
_VJEPA1_IMAGES = dataclasses.replace(_VJEPA1, batch_size=1024, decays=(0.001,), flip=True)
RECIPES: dict[str, Recipe] = {
    "k400": _K400,
    "ssv2": SSV2,
    "ssv2_64": dataclasses.replace(SSV2, num_frames=64, frame_step=2),
    "coin": dataclasses.replace(_K400, batch_size=128),
    "jester": _FOUR_LEVELS,
    "diving48": _FOUR_LEVELS,
    "in1k": dataclasses.replace(_IMAGES, plain=(1e-3, 1e-3)),
    "places205": _IMAGES,
    "inat21": _IMAGES,
    "vjepa1_k400": dataclasses.replace(_VJEPA1, num_segments=8, num_views=3),
    "vjepa1_ssv2": dataclasses.replace(_VJEPA1, num_segments=2, num_views=3),
    "vjepa1_in1k": _VJEPA1_IMAGES,
    "vjepa1_places205": _VJEPA1_IMAGES,
    "vjepa1_inat21": _VJEPA1_IMAGES,
}
"""Sources: V-JEPA 2 (arXiv 2506.09985) and V-JEPA (arXiv 2404.08471), configurations of the frozen
evaluations."""
