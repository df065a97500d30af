"""Result blocks of docs/pretraining.md; its conclusions are written by hand."""

from __future__ import annotations

from typing import Any

from page_blocks import markdown_table, wrap

PRETRAINING_RUNS = ("masked", "masked_long")


def centimetres(value: float) -> str:
    """Format metres as centimetres."""
    return f"{100 * value:.1f} cm"


def world_cells(row: dict[str, Any]) -> list[str]:
    """Format what probes and planning tell of a world model."""
    probe, reach = row["probes"], row["reach"]
    return [
        centimetres(probe["object_encoded_m"]),
        centimetres(probe["object_predicted_m"]),
        centimetres(probe["tcp_encoded_m"]),
        " / ".join(f"{probe['loss_' + n]:.3f}" for n in ("true", "copy", "shuffled")),
        f"{probe['loss_shuffled'] / probe['loss_true']:.2f}",
        f"{reach['successes']}/{reach['episodes']}",
        centimetres(reach["final_error_m"]["median"]),
        f"{reach['seconds_per_action']['median']:.2f}",
    ]


def arm_table(arms: dict[str, Any]) -> str:
    """Format one row per training method."""
    head = ["way of training", "object encoded", "moving object predicted", "finger tip encoded"]
    head += ["loss true / copied / shuffled", "shuffled over true", "reach", "median error"]
    rows = []
    for row in arms.values():
        stages = [s for s in row["stages"] if s["steps"]]
        rows.append(
            [
                row["title"],
                *world_cells(row),
                " + ".join(f"{s['processor_s'] / 60:.1f}" for s in stages),
                " + ".join(f"{s['clips']:,}" for s in stages),
            ]
        )
    return markdown_table([*head, "s/action", "processor min", "clips"], rows)


def curve_table(arms: dict[str, Any]) -> str:
    """Format the validation metrics of the pretraining runs."""
    runs = {s["stage"]: s for a in arms.values() for s in a["stages"]}
    head = ["run", "step", "masked loss, short / long", "loss of predicting the mean"]
    head += ["feature spread", "effective rank (of 128)", "finger tip, linear probe"]
    rows = [
        [
            name,
            r["step"],
            f"{r['val_masked_short']:.3f} / {r['val_masked_long']:.3f}",
            f"{r['val_mean']:.3f}",
            f"{r['feature_std']:.3f}",
            f"{r['effective_rank']:.1f}",
            centimetres(r["probe_tcp_m"]),
            centimetres(r["probe_object_m"]),
        ]
        for name in PRETRAINING_RUNS
        for r in runs.get(name, {"curve": []})["curve"]
    ]
    return markdown_table([*head, "object, linear probe"], rows)


def _order(arms: dict[str, Any], names: list[str], key: str) -> str:
    ranked = sorted(names, key=lambda n: arms[n]["probes"][key])
    return "; ".join(f"{arms[n]['title']} ({centimetres(arms[n]['probes'][key])})" for n in ranked)


def orders(arms: dict[str, Any], titles: dict[str, str]) -> str:
    """Rank the training methods by each metric, smallest error first, and list those not run."""
    groups = {
        "without the simulator's label": [n for n in arms if not arms[n]["simulator_label"]],
        "with it": [n for n in arms if arms[n]["simulator_label"]],
    }
    first = next(iter(arms.values()))["probes"]
    lines = [
        f"Object encoded, {group}: {_order(arms, names, 'object_encoded_m')}."
        for group, names in groups.items()
        if names
    ]
    lines.append(
        "For comparison, object: a decoder of raw pixels "
        f"{centimetres(first['object_raw_pixels_m'])}, a decoder of the robot's state alone "
        f"{centimetres(first['object_robot_state_m'])}."
    )
    lines += [
        f"Moving object predicted, {group}: {_order(arms, names, 'object_predicted_m')}."
        for group, names in groups.items()
        if names
    ]
    lacking = [title for name, title in titles.items() if name not in arms]
    if lacking:
        lines.append(f"Not run: {'; '.join(lacking)}.")
    return "\n".join(wrap(f"- {line}").replace("\n", "\n  ") for line in lines)


def blocks(result: dict[str, Any], titles: dict[str, str]) -> dict[str, str]:
    """Return the blocks of the page.

    Args:
        result: Results of the finished training methods.
        titles: Name and title of every training method.
    """
    arms = result["arms"]
    budget = (
        f"Each way of training has {result['budget_s'] / 60:.0f} processor minutes of an idle "
        "core, shared by pretraining and what follows it; on a busy machine the same steps take "
        "more, as the column of processor minutes shows."
    )
    return {
        "budget": wrap(budget),
        "arms": arm_table(arms),
        "orders": orders(arms, titles),
        "curves": curve_table(arms),
    }
