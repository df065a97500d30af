"""Pretrain on recorded play for long, judge the encoders and use them under a world model.

    python benchmarks/play_pretraining.py                      # an hour of one core; resumable
    python benchmarks/play_pretraining.py arms=latent_frozen   # one world model alone
    python benchmarks/play_pretraining.py arms=                # encoders alone
    python benchmarks/play_pretraining.py only=page            # no training: the page alone

`worldmodel pretrain recipe=play` trains each encoder; attentive probes then read positions and
motion from the frozen features of clips of unseen episodes. `worldmodel train` puts a predictor on
the encoders, frozen or fine-tuned, for `after_s` processor seconds. Joint training of the same
networks from scratch gets those seconds and the share `joint` of the pretraining's (1: the same
total). Pixel prediction trains for the share `pixels` of its steps (0.5: its first half, to compare
with V-JEPA's; 0: not at all). Results go to results/play_pretraining.json as they come, and to
docs/pretraining.md.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from option_words import read_names, read_words
from page_blocks import fill_blocks
from play_page import PAGE, blocks
from play_probe import choose, judge, judge_mean
from pretraining import EVAL_SEED, ROOT, curve, read, worldmodel

from planning.cli.app import compose_options
from worldmodel.data.memory import open_clips
from worldmodel.evaluation.shape_probe import ProbeFit
from worldmodel.training.config import PretrainOptions

RESULT = Path(__file__).resolve().parent / "results" / "play_pretraining.json"
DEFAULTS = {
    "out": "runs/play_pretraining",
    "result": str(RESULT),
    "episodes": "1200",
    "held_out": "150",
    "extra": "",
    "after_s": "90",
    "pixels": "1",
    "joint": "1",
    "arms": "all",
    "clips": "3072",
    "test_clips": "1024",
    "probe_steps": "1200",
    "frames": "3000",
    "reach": "12",
    "only": "",
}
OBJECTS = "objects=cube,cube,cube,box,cup"
SEEDS = {"train": 5_600_000, "val": 5_700_000}
HALF = 0.5
"""Share of the steps at which encoders are kept, besides the end."""
TRIAL = (5, 45)
"""Steps of two trial runs whose difference gives the cost of a step."""
PLAIN = ("augment=0", "hue_deg=0", "predictor_dim=128", "predictor_depth=2")


@dataclass(frozen=True)
class Arm:
    """A world model on an encoder."""

    encoder: str
    words: tuple[str, ...]
    joint: bool = False
    """Whether it gets the pretraining's processor time too."""


FROZEN = ("recipe=sim_small_frozen", *PLAIN, "cache_latents=true")
FINETUNE = ("recipe=sim_small_finetune", *PLAIN)
ARMS = {
    "latent_frozen": Arm("latent", FROZEN),
    "latent_finetune": Arm("latent", FINETUNE),
    "joint": Arm("untrained", (*FINETUNE, "encoder_lr_scale=1"), joint=True),
    "untrained_frozen": Arm("untrained", FROZEN),
    "pixels_frozen": Arm("pixels", FROZEN),
    "pixels_finetune": Arm("pixels", FINETUNE),
}
ENCODERS = {
    "untrained": ("steps=0",),
    "latent": ("objective=latent",),
    "pixels": ("objective=pixels",),
}


class Comparison:
    """What is done so far, and the commands that do the rest."""

    def __init__(self, options: dict[str, str]) -> None:
        self.options, self.out = options, Path(options["out"])
        self.where = [f"data={self.out}/data/train", f"val={self.out}/data/val"]
        words = ["recipe=play", *options["extra"].split()]
        found = compose_options("pretrain", words)
        assert isinstance(found, PretrainOptions)
        self.recipe = found
        self.result: dict[str, Any] = {"options": self._asked(), "encoders": {}, "arms": {}}
        file = Path(options["result"])
        if file.is_file() and read(file)["options"] == self.result["options"]:
            self.result = read(file)

    def _asked(self) -> dict[str, str]:
        free = ("out", "result", "arms", "only", "pixels", "joint")
        return {k: v for k, v in self.options.items() if k not in free}

    def save(self) -> None:
        """Write the results, and the page if they are its own."""
        file = Path(self.options["result"])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(self.result, indent=1) + "\n", encoding="utf-8")
        if file == RESULT:
            write_page(self.result)

    def collect(self) -> None:
        """Record the episodes."""
        for folder, count in (("val", "held_out"), ("train", "episodes")):
            out = self.out / "data" / folder
            if not (out / "summary.json").is_file():
                words = [f"episodes={self.options[count]}", f"seed={SEEDS[folder]}", OBJECTS]
                worldmodel("collect", *words, "workers=1", f"out={out}")

    def _pretrain_words(self, name: str) -> list[str]:
        extra = self.options["extra"].split()
        return ["pretrain", "recipe=play", *extra, *ENCODERS[name], *self.where]

    def pretrain(self, name: str) -> dict[str, Any]:
        """Train an encoder once and keep it halfway; return its steps, seconds and curve."""
        folder = self.out / name
        steps = 0 if name == "untrained" else self.recipe.loop.steps
        share = float(self.options["pixels"]) if name == "pixels" else 1.0
        spent = folder / "processor_s.json"
        stops = [stop for stop in (steps // 2, steps) if stop <= share * steps]
        for stop in stops if steps else [0]:
            kept = folder / f"at-{stop}.safetensors"
            if not kept.is_file():
                words = [*self._pretrain_words(name), f"out={folder}", f"stop_after={stop}"]
                worldmodel(*words, spent=spent)
                shutil.copy(folder / "encoder.safetensors", kept)
        row = {"steps": stops[-1], "batch_size": self.recipe.loop.batch_size}
        if steps:
            row |= {"processor_s": round(float(read(spent)), 1)}
            row |= {"curve": curve(folder / "metrics.jsonl")}
        return row

    def judge(self) -> None:
        """Judge the encoders that are not judged yet by the same probes."""
        source = {
            part: open_clips(
                self.out / "data" / folder,
                self.recipe.clips.num_frames,
                self.recipe.encoder.image_size,
                workers=1,
            )
            for part, folder in (("train", "train"), ("unseen", "val"))
        }
        train = choose(source["train"], int(self.options["clips"]), "train")
        unseen = choose(source["unseen"], int(self.options["test_clips"]), "unseen")
        fit = ProbeFit(steps=int(self.options["probe_steps"]))
        steps = self.recipe.loop.steps
        todo = {"latent": ("latent", steps), "untrained": ("untrained", 0), "raw": ("untrained", 0)}
        todo |= {f"{name}_half": (name, steps // 2) for name in ("latent", "pixels")}
        todo |= {"pixels": ("pixels", steps)}
        judged = self.result.setdefault("judged", {"mean": judge_mean(train, unseen)})
        self.result["fit"] = asdict(fit)
        for name, (encoder, step) in todo.items():
            path = self.out / encoder / f"at-{step}.safetensors"
            if name not in judged and path.is_file():
                judged[name] = judge(path, train, unseen, fit, raw=name == "raw") | {"step": step}
                print(name, {k: v for k, v in judged[name].items() if k != "both_scalings"})
                self.save()

    def _train_words(self, arm: Arm) -> list[str]:
        encoder = f"encoder={self.out / arm.encoder}/encoder.safetensors"
        return ["train", *arm.words, encoder, *self.where, "threads=1"]

    def pace(self, words: list[str]) -> float:
        """Return the processor seconds per step, from a longer and a shorter trial run."""
        cost, folder = {}, self.out / "trial"
        for steps in TRIAL:
            shutil.rmtree(folder, ignore_errors=True)
            cost[steps] = worldmodel(*words, f"steps={steps}", "eval_every=1000", f"out={folder}")
        return (cost[TRIAL[1]] - cost[TRIAL[0]]) / (TRIAL[1] - TRIAL[0])

    def num_steps(self, arm: Arm) -> int:
        """Return the steps within an arm's processor time."""
        kind = "frozen" if arm.words == FROZEN else "finetune"
        paces = self.result.setdefault("seconds_per_step", {})
        if kind not in paces:
            paces[kind] = self.pace(self._train_words(arm))
            self.save()
        seconds = float(self.options["after_s"])
        if arm.joint:
            before_s = self.result["encoders"]["latent"]["processor_s"]
            seconds += float(self.options["joint"]) * before_s
        return max(TRIAL[1], round(seconds / paces[kind]))

    def train(self, name: str, arm: Arm) -> dict[str, Any]:
        """Train a world model, probe its latent and let it plan."""
        folder, where = self.out / name, self.where
        note, spent = folder / "stage.json", folder / "processor_s.json"
        if not note.is_file():
            steps = self.num_steps(arm)
            every = max(1, steps // 4)
            length = [f"steps={steps}", f"eval_every={every}", "save_every=100", f"out={folder}"]
            seconds = worldmodel(*self._train_words(arm), *length, spent=spent)
            batch = read(folder / "summary.json")["options"]["loop"]["batch_size"]
            row = {"steps": steps, "clips": steps * batch, "processor_s": round(seconds, 1)}
            note.write_text(json.dumps(row), encoding="utf-8")
        model = f"model={folder}/model.safetensors"
        probes, reach = folder / "probes", folder / "reach"
        if not (probes / "summary.json").is_file():
            how = [f"count={self.options['frames']}", "fit_steps=500", "rollout_clips=0"]
            worldmodel("inspect", "probes", model, *where, *how, f"out={probes}")
        if not (reach / "summary.json").is_file():
            words = [f"episodes={self.options['reach']}", "workers=1", f"seed={EVAL_SEED}"]
            words += ["baselines=false", "pictures=false", f"out={reach}"]
            worldmodel("eval", "task=reach", model, *words)
        keys = ("episodes", "successes", "ci95", "final_error_m", "seconds_per_action")
        found = read(reach / "summary.json")
        row = {"encoder": arm.encoder, **read(note), "probes": read(probes / "summary.json")}
        row |= {"joint": float(self.options["joint"])} if arm.joint else {}
        return row | {"reach": {k: found[k] for k in keys}}

    def run(self) -> None:
        """Do all that is missing."""
        torch.set_num_threads(1)
        self.collect()
        for name in ENCODERS:
            if name != "pixels" or float(self.options["pixels"]) >= HALF:
                self.result["encoders"][name] = self.pretrain(name)
                self.judge()
        for name in read_names(self.options, "arms", ARMS):
            if name not in self.result["arms"]:
                self.result["arms"][name] = self.train(name, ARMS[name])
                self.save()
                print(name, json.dumps(self.result["arms"][name]), flush=True)


def write_page(result: dict[str, Any]) -> None:
    """Fill the blocks of the page."""
    fill_blocks(PAGE, blocks(result))


def read_options(words: list[str]) -> dict[str, str]:
    """Return the options with the given words."""
    options = read_words(words, DEFAULTS)
    read_names(options, "arms", ARMS)  # refuses unknown ones before anything runs
    return options


def main() -> None:
    """Run what is missing, then write the results and the page."""
    options = read_options(sys.argv[1:])
    os.chdir(ROOT)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped; run the same command to resume"))
    if options["only"] == "page":
        write_page(read(RESULT))
        return
    Comparison(options).run()
    print(options["result"])


if __name__ == "__main__":
    main()
