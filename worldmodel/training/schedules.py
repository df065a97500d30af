"""Learning-rate schedules as plain functions of the step."""

from __future__ import annotations

import logging
import math

from worldmodel.training.config import PostOptions, VideoPretrainOptions

log = logging.getLogger(__name__)
WARMUP, FLAT, FLOOR = 0.05, 0.6, 0.02
"""Of `warmup_flat_cosine`: shares of the steps at which the warm-up and the constant rate end, and
the last rate as a share of the peak."""


def warmup_constant_decay(
    step: int, *, start: float, peak: float, end: float, warmup: int, constant: int, decay: int
) -> float:
    """Return the learning rate of a linear warm-up, constant and linear decay (V-JEPA 2-AC)."""
    if step < warmup:
        return start + (peak - start) * step / max(1, warmup)
    if step < warmup + constant:
        return peak
    done = min(1.0, (step - warmup - constant) / max(1, decay))
    return peak + (end - peak) * done


def warn_if_shortened(options: PostOptions | VideoPretrainOptions) -> None:
    """Log that a run is too short for its warm-up and decay."""
    schedule, steps = options.schedule, options.loop.steps
    if schedule.warmup + schedule.decay > steps:
        log.warning(
            "warmup=%d and decay=%d need more than steps=%d: each is cut to the run's length, and "
            "the decay begins after the warm-up",
            schedule.warmup,
            schedule.decay,
            steps,
        )


def rate_at(step: int, options: PostOptions | VideoPretrainOptions) -> float:
    """Return the learning rate of a step; warm-up and decay are shortened for short runs."""
    schedule, steps = options.schedule, options.loop.steps
    warmup, decay = min(schedule.warmup, steps), min(schedule.decay, steps)
    return warmup_constant_decay(
        step,
        start=schedule.lr_start,
        peak=options.optimizer.lr,
        end=schedule.lr_end,
        warmup=warmup,
        constant=max(0, steps - warmup - decay),
        decay=decay,
    )


def warmup_flat_cosine(step: int, *, peak: float, total: int) -> float:
    """Return the rate of a linear warm-up (5 % of all steps), constant (to 60 %) and cosine decay.

    The cosine ends at 2 % of the peak.
    """
    fraction = step / max(1, total)
    if fraction < WARMUP:
        return peak * (fraction / WARMUP + 1.0 / max(1, total))
    if fraction < FLAT:
        return peak
    phase = min(1.0, (fraction - FLAT) / (1.0 - FLAT))
    return peak * (FLOOR + (1.0 - FLOOR) * 0.5 * (1.0 + math.cos(math.pi * phase)))


def warmup_cosine(
    step: int, *, start: float, peak: float, end: float, warmup: int, total: int
) -> float:
    """Return the rate of a linear warm-up and a cosine (I-JEPA, V-JEPA 1, probes).

    The published schedulers count from 1: the first step has `step=1`. Without a warm-up, from 0.04
    to 0.4, it is the schedule of the weight decay.
    """
    if step < warmup:
        return start + (peak - start) * step / max(1, warmup)
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    return end + (peak - end) * 0.5 * (1.0 + math.cos(math.pi * done))
