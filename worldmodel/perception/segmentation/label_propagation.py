"""Follow objects through a video by a frozen encoder's tokens, without training.

The mask of the first frame is known. The tokens of each later frame look for the most similar
tokens of the first frame and of the frames before, in a neighbourhood, and take over their labels.

Sources: V-JEPA 2.1 (arXiv 2603.14482), sec. 3, after DINO (arXiv 2104.14294), sec. 4.2.

Shapes: T frames, H W pixels, R C token rows and columns, N = R * C tokens, D width, O objects and
the background.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from worldmodel.errors import ShapeError
from worldmodel.models.frame_encoder import FrameEncoder
from worldmodel.perception.segmentation.options import PropagationOptions


def resized(frame_HWC: Tensor, short_side: int, patch: int) -> Tensor:
    """Resize a uint8 frame so that both sides are whole patches: uint8 [H', W', 3]."""
    height, width = frame_HWC.shape[:2]
    scale = short_side / min(height, width)
    size = [max(1, round(scale * side / patch)) * patch for side in (height, width)]
    pixels = frame_HWC.permute(2, 0, 1)[None].float()
    out = F.interpolate(pixels, size, mode="bilinear", antialias=True)
    return out[0].round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)


@torch.no_grad()
def frame_tokens(encoder: FrameEncoder, frame_HWC: Tensor, short_side: int) -> Tensor:
    """Encode one frame to tokens of unit length: [R, C, D].

    Raises:
        ShapeError: The encoder does not give one token a patch.
    """
    patch = encoder.config.encoder.patch_size
    frame = resized(frame_HWC, short_side, patch)
    pixels = encoder.pixels(frame[None]).to(encoder.dtype)
    tokens_ND = F.normalize(encoder.frames_of(pixels).float()[0], dim=-1)
    rows, columns = (side // patch for side in frame.shape[:2])
    if len(tokens_ND) != rows * columns:
        raise ShapeError(
            f"the encoder gives {len(tokens_ND)} tokens for a frame of {rows} x {columns} patches; "
            "needed: one a patch (I-JEPA, V-JEPA, DINOv2)"
        )
    return tokens_ND.view(rows, columns, -1)


def near(rows: int, columns: int, options: PropagationOptions) -> Tensor:
    """Return which tokens are neighbours of each other: bool [N, N]."""
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).double()
    norm = 2.0 if options.neighbourhood == "circle" else float("inf")
    return torch.cdist(places, places, p=norm) <= options.radius + 1e-9


class Propagation:
    """Labels of a video's frames, one after the other."""

    def __init__(self, first_RCD: Tensor, mask_HW: np.ndarray, options: PropagationOptions) -> None:
        """Start from the tokens and the mask of the first frame.

        Args:
            first_RCD: Tokens of unit length.
            mask_HW: Object numbers, 0 for the background.
            options: Neighbours of a token.
        """
        self.options = options
        self.objects = [0, *(int(i) for i in np.unique(mask_HW) if i)]
        self.size = (mask_HW.shape[0], mask_HW.shape[1])
        rows, columns = first_RCD.shape[:2]
        mask = torch.from_numpy(mask_HW.astype(np.int64))
        layers_OHW = torch.stack([(mask == number).float() for number in self.objects])
        labels = F.adaptive_avg_pool2d(layers_OHW, (rows, columns)).flatten(1).T
        self.near_NN = near(rows, columns, options).to(first_RCD.device)
        self.first = (first_RCD.flatten(0, 1), labels.to(first_RCD.device))
        self.past: list[tuple[Tensor, Tensor]] = []

    def step(self, tokens_RCD: Tensor) -> np.ndarray:
        """Return the mask [H, W] of the next frame."""
        grid, tokens_ND = tokens_RCD.shape[:2], tokens_RCD.flatten(0, 1)
        likes, labels = [], []
        for source_ND, source_NO in (self.first, *self.past):
            like_NN = (tokens_ND @ source_ND.T).masked_fill(~self.near_NN, -torch.inf)
            found = like_NN.topk(min(self.options.top_k, like_NN.shape[1]))
            likes.append(found.values)
            labels.append(source_NO[found.indices])
        like_NK, label_NKO = torch.cat(likes, 1), torch.cat(labels, 1)
        best = like_NK.topk(min(self.options.top_k, like_NK.shape[1]))
        weight_NK = (best.values / self.options.temperature).softmax(1)
        index = best.indices[..., None].expand(-1, -1, label_NKO.shape[2])
        label_NO = (weight_NK[..., None] * label_NKO.gather(1, index)).sum(1)
        self.past = [*self.past, (tokens_ND, label_NO)][-self.options.context :]
        maps_OHW = F.interpolate(
            label_NO.T.unflatten(1, tuple(grid))[None], self.size, mode="bilinear"
        )[0]
        chosen = maps_OHW.argmax(0).cpu().numpy()
        return np.array(self.objects, np.uint8)[chosen]
