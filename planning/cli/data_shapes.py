"""`worldmodel data shapes`: write labelled videos of moving shapes."""

from __future__ import annotations

from worldmodel.data.shape_options import ShapeVideoOptions as Options

__all__ = ["Options", "run"]


def run(options: Options) -> int:
    """Write the set, then print the folders and commands that use them."""
    from worldmodel.data.shape_videos import write_shape_videos

    for part, count in write_shape_videos(options).items():
        print(f"{options.out}/{part}: {count} {'images' if part == 'images' else 'videos'}")
    print("next: worldmodel pretrain recipe=shapes out=runs/shapes")
    print(
        "      worldmodel probe train encoder=runs/shapes "
        f"train={options.out}/train val={options.out}/val"
    )
    print(f"      worldmodel surprise benchmark=grasp data={options.out}/pairs model=runs/shapes")
    return 0
