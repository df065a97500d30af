"""Texts are taken as they are written, on the command line and in a recipe, quoted or not."""

from pathlib import Path

import pytest

from planning.cli.app import compose_options, main
from planning.cli.fields import UsageError

WORDS = (
    "2024_11_25",
    "2024-11-25",
    "1e3",
    "0x10",
    "007",
    "1_000",
    "12:30:45",
    "true",
    "no",
    "a,b",
    "käse",
    "~/droid",
    "runs/a(1)",
    "3.10",
    "+1",
)


@pytest.mark.parametrize("word", WORDS)
def test_on_the_command_line(word):
    assert compose_options("data index", [f"out={word}"]).out == word
    goals = compose_options("drive", [f"goals=['{word}',x]"]).goals
    assert goals == [word, "x"]


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_in_a_recipe(word, quote, tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text(f"run:\n  out: {quote}{word}{quote}\nclips: {{camera: {quote}007{quote}}}\n")
    options = compose_options("train", [f"recipe={file}"])
    assert options.run.out == word
    assert options.clips.camera == "007"


def test_lists_of_texts_in_a_file(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("goals: [2024_11_25, 1e3, true, 'a,b']\nworkcell:\n  robot: fake\n")
    assert compose_options("drive", [f"recipe={file}"]).goals == [
        "2024_11_25",
        "1e3",
        "true",
        "a,b",
    ]


def test_numbers_and_switches_of_a_recipe_stay_numbers_and_switches(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("optimizer: {lr: 1e-3}\nloop: {steps: 1000, bf16: no}\nclips: {fps: 4}\n")
    options = compose_options("train", [f"recipe={file}"])
    assert (options.optimizer.lr, options.loop.steps, options.clips.fps) == (1e-3, 1000, 4.0)
    assert options.loop.bf16 is False


@pytest.mark.parametrize("text", ["run:\n  out:\n", "run: {out: null}\n", "run: {out: [a]}\n"])
def test_what_is_no_text_is_refused(text, tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"run\.out.*text"):
        compose_options("train", [f"recipe={file}"])


@pytest.mark.parametrize("mode", ["joint", "post", "frozen"])
def test_a_missing_data_folder_is_named_with_its_option(mode, tmp_path, capfd):
    words = ["train", f"mode={mode}", f"data={tmp_path}/none", f"out={tmp_path}/o"]
    words += [] if mode == "joint" else ["encoder=random:tiny", "image_size=32"]
    assert main(words) == 2
    (line,) = [row for row in capfd.readouterr().err.splitlines() if row.startswith("error: ")]
    assert str(tmp_path / "none") in line
    assert "data=" in line
    assert not (Path(tmp_path) / "o" / "model.safetensors").exists()


def test_an_image_size_of_the_recipe_that_the_encoder_does_not_take(tmp_path, capfd):
    words = ["train", "mode=post", "recipe=smoke", "encoder=default", f"out={tmp_path}/o"]
    assert main(words) == 2
    said = capfd.readouterr().err
    assert "image_size=32 (given, or the recipe's) does not fit encoder=default" in said
    assert "image_size=0" in said
