"""MVPBench and CausalVQA: annotations in their published layout, prompts, and scores."""

import csv
import json

import pytest

from planning.cli.app import main
from worldmodel.errors import DataError
from worldmodel.perception.video_answers import letter_of, read_answers, score_answers
from worldmodel.perception.video_questions import read_causalvqa, read_mvp


def mvp_row(name, answer, candidates=("left", "right"), **changes):
    row = {
        "video_id": name,
        "video_path": f"clevrer/{name}.mp4",
        "question": "Which way does it move?",
        "candidates": list(candidates),
        "answer": answer,
    }
    return row | changes


@pytest.fixture
def mvp(tmp_path):
    folder = tmp_path / "mvp"
    folder.mkdir()
    rows = [mvp_row("a_7_1", "left"), mvp_row("a_7_2", "right", "['left', 'right']")]
    rows[1]["candidates"] = "['left', 'right']"
    rows += [mvp_row("b_1", "up"), mvp_row("c_1", "left"), mvp_row("c_2", "right")]
    lines = [json.dumps(row) for row in rows] + ["{torn", json.dumps(mvp_row("d", "left"))]
    (folder / "intuitive_physics.jsonl").write_text("\n".join(lines))
    more = [json.dumps(mvp_row(f"e_{i}", a)) for i, a in ((1, "left"), (2, "right"))]
    (folder / "temporal_reasoning.jsonl").write_text("\n".join(more))
    return folder


@pytest.fixture
def causal(tmp_path):
    path = tmp_path / "debug.csv"
    columns = ["qid", "type", "question", "choices1", "correct1", "choices2", "correct2"]
    rows = [
        ["q1", "planning", "Why?", "1. a|2. b c|3. d", "2", "1. d|2. a|3. b c", "3"],
        ["q2", "descriptive", "What?", "1. x|2. y", "1", "1. y|2. x", "2"],
        ["q3", "planning", "How?", "x", "1", "1. y|2. x", "2"],
        ["q4", "planning", "", "1. x|2. y", "1", "1. y|2. x", "2"],
        ["q5", "planning", "How?", "1. x|2. y", "1", "1. y|2. x", "1"],
    ]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, "difficulty", "renamed_video"])
        writer.writerows([[*row, "easy", f"{row[0]}.mp4"] for row in rows])
    return path


def test_pairs_of_videos_are_read_and_what_cannot_be_used_is_named(mvp):
    found = read_mvp(mvp)
    assert [q.name for q in found.questions] == ["a_7_1", "a_7_2", "c_1", "c_2", "e_1", "e_2"]
    assert [q.answer for q in found.questions] == ["A", "B"] * 3
    assert found.questions[1].choices == ("left", "right")
    assert len(found.rejected) == 3
    assert "none of the candidates" in found.rejected["intuitive_physics.jsonl:3"]
    assert "not JSON" in found.rejected["intuitive_physics.jsonl:6"]
    assert found.questions[0].prompt.startswith(
        "Question: Which way does it move?\nOption:\n(A) left\n(B) right\n"
    )


def test_two_orders_of_the_choices_make_a_pair(causal):
    found = read_causalvqa(causal)
    assert [(q.name, q.answer) for q in found.questions] == [
        ("q1/1", "B"),
        ("q1/2", "C"),
        ("q2/1", "A"),
        ("q2/2", "B"),
    ]
    assert found.questions[0].choices == ("a", "b c", "d")
    assert found.questions[0].groups == ("planning", "easy")
    assert "choices1" in found.rejected["debug.csv:4"]
    assert "question is ''" in found.rejected["debug.csv:5"]
    assert found.rejected["q5"] == "its two orders have different answers: ['x', 'y']"


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Answer: A", "A"),
        ("answer: (b)", "B"),
        ("The answer is C.", "C"),
        ("First I thought Answer: A, but Answer: B", "B"),
        ("B.", "B"),
        (" (a) ", "A"),
        ("right", "B"),
        ("A or B", ""),
        ("", ""),
        ("Answer: E", ""),
        ("a dog", ""),
        ("The answer is a red ball.", ""),
        ("The answer is a.", "A"),
        ("The answer is A because it falls", "A"),
        ("**Answer:** B", "B"),
        ("Answer: **(C)**", "C"),
        ("Answer: Both", ""),
    ],
)
def test_a_letter_is_read_only_where_the_answer_is_clear(text, letter):
    assert letter_of(text, ("left", "right", "up")) == letter


def test_a_pair_counts_if_both_of_its_questions_are_right(mvp):
    questions = read_mvp(mvp).questions
    answers = {"a_7_1": "Answer: A", "a_7_2": "Answer: B", "c_1": "A", "c_2": "A", "x_1": "A"}
    found = score_answers(questions, answers)
    everything = found.groups["all"]
    assert (everything.pairs, everything.pairs_right, everything.questions_right) == (3, 1, 3)
    assert everything.paired == pytest.approx(100 / 3)
    assert everything.single == pytest.approx(50)
    assert found.groups["temporal_reasoning"].paired == 0
    assert found.unanswered == ["e_1", "e_2"]
    assert found.unknown == ["x_1"]


def test_answers_that_are_withheld_cannot_be_scored(causal, tmp_path):
    rows = list(csv.reader(causal.open()))
    kept = [i for i, name in enumerate(rows[0]) if not name.startswith("correct")]
    path = tmp_path / "test.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([[row[i] for i in kept] for row in rows])
    questions = read_causalvqa(path).questions
    assert {q.answer for q in questions} == {""}
    with pytest.raises(DataError, match="withhold"):
        score_answers(questions, {})


def test_the_command_writes_prompts_and_scores_answers(mvp, tmp_path, capsys):
    words = ["questions", "benchmark=mvp", f"data={mvp}", f"out={tmp_path}/out"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "a language model that sees the videos must" in text
    assert "rejected intuitive_physics.jsonl:6" in text
    lines = (tmp_path / "out" / "prompts.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 6
    assert rows[0].keys() == {"id", "video", "prompt", "choices"}
    answers = tmp_path / "answers.jsonl"
    answers.write_text("\n".join(json.dumps({"id": r["id"], "answer": "A"}) for r in rows))
    assert main([*words, f"answers={answers}"]) == 0
    assert "questions right 50.0 %" in capsys.readouterr().out
    scores = json.loads((tmp_path / "out" / "summary.json").read_text())["scores"]
    assert scores["all"]["paired"] == 0
    assert scores["all"]["paired_ci95"][1] > 30
    videos = tmp_path / "videos" / "clevrer"
    videos.mkdir(parents=True)
    for name in ("a_7_1", "a_7_2", "c_1"):
        (videos / f"{name}.mp4").touch()
    assert main([*words, f"videos={videos.parent}"]) == 0
    assert "rejected c: there is no" in capsys.readouterr().out
    assert len((tmp_path / "out" / "prompts.jsonl").read_text().splitlines()) == 2
    with pytest.raises(DataError):
        read_answers(mvp / "intuitive_physics.jsonl")
    assert main(["questions", "benchmark=mvp", "data=nowhere"]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_damaged_lines_of_answers_are_named_and_count_as_unanswered(mvp, tmp_path, capsys):
    lines = [
        *('{"id": "a_7_1", "answer": "A"}', '{"id": "a_7_2", "answer": NaN}', "{torn"),
        *('{"id": "c_1", "answer": "A"}', '{"id": "c_1", "answer": "B"}', '{"id": "c_2"}'),
        *('{"id": "e_1", "answer": "A"}', '{"id": "e_1", "answer": "A"}', '["e_2", "B"]'),
    ]
    answers = tmp_path / "answers.jsonl"
    answers.write_text("\n".join(lines))
    words = ["questions", "benchmark=mvp", f"data={mvp}", f"out={tmp_path}/out"]
    assert main([*words, f"answers={answers}"]) == 0
    found = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert found["unanswered"] == ["a_7_2", "c_1", "c_2", "e_2"]
    named = {name for name in found["rejected"] if name.startswith("answers.jsonl:")}
    assert named == {f"answers.jsonl:{i}" for i in (2, 3, 5, 6, 8, 9)}
    assert "has nan as `answer`" in capsys.readouterr().out
    assert found["scores"]["all"]["questions_right"] == 2
    answers.write_text("{torn\n")
    assert main([*words, f"answers={answers}"]) == 2
    assert "no line of" in capsys.readouterr().err


def test_a_pair_of_videos_with_one_answer_is_mislabelled(tmp_path):
    rows = [mvp_row(f"{pair}_{i}", a) for pair, i, a in (("a", 1, "left"), ("a", 2, "left"))]
    rows += [mvp_row("b_1", "left"), mvp_row("b_2", "right")]
    path = tmp_path / "mvp.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    found = read_mvp(path)
    assert {q.pair for q in found.questions} == {"b"}
    assert found.rejected == {"a": "both of its videos have the answer 'left'"}
