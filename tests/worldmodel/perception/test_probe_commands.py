"""`worldmodel probe train`, `eval` and `predict` on small videos with a small random encoder."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file

from planning.cli.app import main
from tests.worldmodel.perception.labelled_set import write_set
from worldmodel.checkpoints.container import load_tensors, read_description, save_safetensors
from worldmodel.errors import ConfigError, DataError
from worldmodel.perception.clip_sampling import ClipSampling
from worldmodel.perception.probes import known_probe
from worldmodel.perception.probes import run as probe_run
from worldmodel.perception.probes import use as probe_use
from worldmodel.perception.probes.classifiers import ProbeGrid
from worldmodel.perception.probes.config import ClipOptions
from worldmodel.perception.probes.labelled_videos import read_clips
from worldmodel.perception.probes.recipes import RECIPES
from worldmodel.specs import IMAGENET_MEAN, IMAGENET_STD

CLIPS = ["clips.num_frames=4", "frame_step=2", "num_segments=1", "num_views=2"]
TRAIN = ["num_heads=2", "depth=2", "epochs=6", "batch_size=8", "device=cpu", "dtype=float32"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("probe"))


def train_words(folder, out):
    lists = [f"{split}={folder}/{split}.txt" for split in ("train", "val")]
    encoder = f"encoder={folder}/encoder.safetensors"
    return ["probe", "train", *lists, encoder, f"out={out}", *CLIPS, *TRAIN]


@pytest.fixture(scope="module")
def run(folder):
    assert main(train_words(folder, folder / "run")) == 0
    return folder / "run"


def test_training_learns_and_names_what_it_cannot_read(run):
    found = json.loads((run / "summary.json").read_text())
    assert found["val_top1"] == 1.0
    assert (found["heads"], found["val_items"], found["trained_on"]) == (20, 8, 18)
    assert len(found["rejected"]["train"]) == len(found["rejected"]["val"]) == 2
    assert any("broken.mp4" in name for name in found["rejected"]["val"])
    curves = json.loads((run / "curves.json").read_text())
    assert len(curves) == 6
    assert min(curves[-1]["loss"]) < min(curves[0]["loss"])


def test_a_killed_run_resumes_bit_for_bit(run, folder, monkeypatch):
    update, calls = ProbeGrid.update, []

    def killed(self, *arguments):
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return update(self, *arguments)

    words = train_words(folder, folder / "killed")
    monkeypatch.setattr(ProbeGrid, "update", killed)
    with pytest.raises(KeyboardInterrupt):
        probe_run.train_probe(probe_options(words))
    monkeypatch.setattr(ProbeGrid, "update", update)
    assert main(words) == 0
    whole, resumed = (load_file(out / "probe.safetensors") for out in (run, folder / "killed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    with pytest.raises(ConfigError, match="other options"):
        probe_run.train_probe(probe_options([*words, "lr=0.5"]))


@pytest.mark.parametrize("change", ["video", "label", "encoder"])
def test_a_run_on_other_items_or_with_other_weights_is_not_resumed(folder, tmp_path, change):
    """Also where the stored tokens, which are compared as well, are gone."""
    outputs = shutil.ignore_patterns("run", "killed", "eval")
    copied = shutil.copytree(folder, tmp_path / "set", ignore=outputs)
    words = train_words(copied, copied / "run")
    assert main([*words, "epochs=1", "lr=0.001", "weight_decay=0.1"]) == 0
    for tokens in (copied / "run").glob("tokens-*"):
        tokens.unlink()
    lists = copied / "train.txt"
    if change == "video":
        os.utime(next(copied.rglob("*.mp4")), (1, 1))
    elif change == "label":
        lines = lists.read_text().splitlines()
        lists.write_text("\n".join([lines[0][:-1] + str(1 - int(lines[0][-1])), *lines[1:]]))
    else:
        weights = copied / "encoder.safetensors"
        description, tensors = read_description(weights), load_tensors(weights)
        changed = {name: value + 1e-3 for name, value in tensors.items()}
        save_safetensors(weights, changed, description)
    with pytest.raises(ConfigError, match="items or encoder weights"):
        probe_run.train_probe(probe_options([*words, "epochs=1", "lr=0.001", "weight_decay=0.1"]))


def probe_options(words):
    from planning.cli.app import parse_options

    return parse_options("probe train", probe_run.TrainOptions, words[2:])


def test_evaluation_and_prediction_know_the_probe(run, folder, capsys):
    out = folder / "eval"
    words = [f"probe={run}", f"val={folder}/val.txt", "device=cpu", f"out={out}"]
    assert main(["probe", "eval", *words]) == 0
    assert "top-1 1.000, top-5 1.000 of 8 items\nrejected 2 of val:" in capsys.readouterr().out
    released = ["as_released=true", "precision=bfloat16", f"out={out}2"]
    assert main(["probe", "eval", *words, *released]) == 0
    labels = folder / "names.json"
    labels.write_text('{"1": "bright", "0": "dark"}')
    words = [f"probe={run}", f"videos={folder}/val", f"labels={labels}", "top=1", "device=cpu"]
    capsys.readouterr()
    assert main(["probe", "predict", *words, f"out={out}"]) == 0
    text = capsys.readouterr().out
    assert text.count("dark") == text.count("bright") == 4
    assert "broken.mp4" in text
    assert len(json.loads((out / "predictions.json").read_text())["predictions"]) == 8


def test_a_probe_of_weights_that_are_not_finite_is_named(run, folder, tmp_path, capsys, caplog):
    file = tmp_path / "probe.safetensors"
    tensors = load_tensors(run / "probe.safetensors")
    damaged = {name: torch.full_like(value, torch.nan) for name, value in tensors.items()}
    save_safetensors(file, damaged, read_description(run / "probe.safetensors"))
    words = [f"probe={file}", "device=cpu", f"out={tmp_path}/out"]
    assert main(["probe", "eval", f"val={folder}/val.txt", *words]) == 0
    found = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (found["not_finite"], found["top5"]) == (8, 0.0)
    assert "8 items count as wrong" in caplog.text
    main(["probe", "predict", f"videos={folder}/val/clip 0.mp4", *words])
    assert "probabilities are not finite" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"dark"', "neither a list nor an object"),
        ('["dark"]', "lists 1 names; the probe has 2 classes"),
        ('{"2": "dark"}', "names class 2; allowed: 0 to 1"),
        ('{"a": "dark"}', "cannot be read as JSON"),
    ],
)
def test_names_of_other_classes_are_refused(tmp_path, text, message):
    (tmp_path / "names.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        probe_use._names(str(tmp_path / "names.json"), 2)


def test_a_name_is_that_of_its_number(tmp_path):
    (tmp_path / "names.json").write_text('{"1": "bright"}')
    assert probe_use._names(str(tmp_path / "names.json"), 3) == {1: "bright"}


def test_class_folders_are_judged_by_their_names(folder, tmp_path):
    """A folder with fewer classes, or with others, numbers its classes differently."""
    for name, number in (("bright", 1), ("dark", 0), ("odd", 0)):
        for item in range(number, 8, 2):
            (tmp_path / "all" / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / "train" / f"clip {item}.mp4", tmp_path / "all" / name)
    shutil.move(tmp_path / "all" / "odd", tmp_path / "odd")
    words = [
        "probe",
        "train",
        f"train={tmp_path}/all",
        f"val={tmp_path}/all",
        f"out={tmp_path}/run",
    ]
    one_head = ["lr=0.01", "weight_decay=0.01"]
    encoder = f"encoder={folder}/encoder.safetensors"
    assert main([*words, encoder, *CLIPS, *TRAIN, *one_head]) == 0
    shutil.rmtree(tmp_path / "all" / "bright")
    shutil.move(tmp_path / "odd", tmp_path / "all" / "a cat")
    options = [f"probe={tmp_path}/run", f"val={tmp_path}/all", "device=cpu", f"out={tmp_path}/eval"]
    assert main(["probe", "eval", *options]) == 0
    found = json.loads((tmp_path / "eval" / "summary.json").read_text())
    assert (found["top1"], found["items"]) == (1.0, 4)
    assert set(found["rejected"].values()) == {"the probe has no class 'a cat'"}
    shutil.rmtree(tmp_path / "all" / "dark")
    options[3] = f"out={tmp_path}/none"
    assert main(["probe", "eval", *options]) == 2


def test_as_released_chooses_on_the_validation_items(folder):
    out = folder / "released"
    assert main([*train_words(folder, out), "as_released=true", "lr=1e-3", "epochs=1"]) == 0
    found = json.loads((out / "summary.json").read_text())
    assert (found["chosen_on"], found["heads"], found["trained_on"]) == ("val", 4, 20)


def test_published_probes_have_their_recipe_and_encoder():
    assert known_probe.published_recipe("vjepa-vith16-384-inat") == (
        "vjepa-vith16-384",
        RECIPES["vjepa1_inat21"],
    )
    assert known_probe.published_recipe("vjepa2-vitg-384-ssv2") == (
        "vjepa2-vitg-384",
        RECIPES["ssv2_64"],
    )
    name = "vjepa2-vitl-fpc32-256-diving48"
    assert known_probe.published_recipe(name) == (name, RECIPES["diving48"])
    for name in known_probe.registry.PROBES:
        encoder, _ = known_probe.published_recipe(name)
        assert known_probe.registry.is_known(encoder)
    assert ClipOptions(preset="coin", num_views=1).recipe().num_segments == 8


def test_wrong_inputs_are_named(run, folder, tmp_path):
    with pytest.raises(ConfigError, match="train= or val="):
        probe_run.TrainOptions()
    with pytest.raises(ConfigError, match="cannot be read as JSON"):
        probe_use._names(str(folder / "train.txt"), 2)
    torch.manual_seed(0)
    words = train_words(folder, run)
    (tmp_path / "few.txt").write_text((folder / "train.txt").read_text().split("\n")[0])
    words[2] = f"train={tmp_path}/few.txt"
    few = [*words, f"root={folder}", f"out={tmp_path}/few"]
    with pytest.raises(DataError, match="leave none"):
        probe_run.train_probe(probe_options(few))
    with pytest.raises(ConfigError, match="items="):
        probe_run.train_probe(probe_options([*words, f"root={folder}"]))


@torch.no_grad()
def test_prediction_agrees_with_transformers(folder, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.VJEPA2Config(
        hidden_size=32,
        num_attention_heads=2,
        num_hidden_layers=2,
        pred_hidden_size=24,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=1,
        crop_size=32,
        frames_per_clip=4,
        num_pooler_layers=1,
        num_labels=3,
        initializer_range=0.2,
        id2label={0: "run", 1: "sit", 2: "walk"},
    )
    theirs = transformers.VJEPA2ForVideoClassification(config).eval()
    theirs.save_pretrained(tmp_path)
    video = folder / "val" / "clip 1.mp4"
    options = probe_use.PredictOptions(
        probe=str(tmp_path),
        videos=str(video),
        device="cpu",
        clips=ClipOptions(num_segments=1, num_views=1, frame_step=2),
    )
    (found,) = probe_use.predict(options)[0].values()
    sampling = ClipSampling(num_frames=4, frame_step=2)
    pixels = read_clips(video, sampling, crop=32)[0].float() / 255
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    clip = ((pixels - mean) / std).permute(0, 1, 4, 2, 3)
    wanted = theirs(clip).logits.softmax(-1)[0]
    assert found[0][0] == ["run", "sit", "walk"][int(wanted.argmax())]
    for name, probability in found:
        assert probability == pytest.approx(
            float(wanted[["run", "sit", "walk"].index(name)]), abs=2e-5
        )
