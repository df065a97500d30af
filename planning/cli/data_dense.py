"""`worldmodel data dense`: write rendered images with depth and segmentation."""

from __future__ import annotations

from envs.dense_options import DenseSetOptions as Options

__all__ = ["Options", "run"]


def run(options: Options) -> int:
    """Write the set, then print the folders and commands that use them."""
    from envs.dense_set import write_dense_set

    for part, count in write_dense_set(options).items():
        print(f"{options.out}/{part}: {count} images")
    for task in ("depth", "segmentation"):
        print(
            f"next: worldmodel probe dense task={task} train={options.out}/train "
            f"val={options.out}/val encoder=NAME out=runs/dense_{task}"
        )
    return 0
