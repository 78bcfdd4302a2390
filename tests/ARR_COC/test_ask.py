"""python -m ARR_COC: an answer, what was kept for it, and mistakes told in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_arr
import torch
from PIL import Image
from small_arr import learnt

from ARR_COC import asking
from ARR_COC.__main__ import main
from ARR_COC.asking import Reply, ask
from ARR_COC.attending import Budget
from ARR_COC.images import BadInput


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    arr, processor, _ = learnt()
    return small_arr.save(arr, processor, tmp_path_factory.mktemp("saved"))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Picture 1: 3 x 3 blocks, the lower right one red."""
    file = tmp_path_factory.mktemp("images") / "one.png"
    Image.fromarray(small_arr.picture(1).image).save(file)
    return file


def test_the_answer_comes_first_then_what_was_kept_and_why(
    saved: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["which colour", str(image), "--checkpoint", str(saved), "--all"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [small_arr.picture(1).questions[0].answer, "all 9 tokens kept"]
    asked = ["which colour", str(image), "--checkpoint", str(saved), "--budget", "0.2"]
    assert main([*asked, "--where", "after"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "2 of 9 tokens kept (22.2 %), chosen after the vision tower"
    assert lines[2] == "particularise 0.88: single blocks more than whole regions"
    assert lines[3].startswith("explore 0.12: what the question asks for more than")
    assert lines[4].startswith("diversify 0.12: the best place more than")
    assert main(asked) == 0
    assert "chosen before the vision tower" in capsys.readouterr().out


def test_the_other_blocks_are_dropped_where_it_was_asked_for(
    saved: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def spy(*arguments: Any) -> Reply:
        seen.append(arguments[-1])
        return ask(*arguments)

    monkeypatch.setattr(asking, "ask", spy)
    for where in ("after", "before"):
        assert main(["x", str(image), "--checkpoint", str(saved), "--where", where]) == 0
    assert seen == ["after", "before"]


def test_json_tells_the_same_and_gestalt_changes_what_is_kept(
    saved: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["what number", str(image), "--checkpoint", str(saved), "--budget", "0.2", "--json"]
    assert main(asked) == 0
    told = json.loads(capsys.readouterr().out)
    arr, processor, _ = learnt()
    reply = ask(arr, processor, "what number", image, Budget(0.2))
    assert told["answer"] == reply.answer
    assert told["kept"] == list(reply.kept)
    assert (told["tokens"], told["grid"], told["kept_share"]) == (9, [3, 3], 2 / 9)
    assert set(told["tensions"]) == {"particularise", "explore", "diversify"}
    assert told["heat"] is None
    assert main([*asked, "--gestalt", "0.6"]) == 0
    spread = json.loads(capsys.readouterr().out)["kept"]
    assert 4 in spread  # one of two is the middle of the image, whatever the scores are
    assert spread == list(ask(arr, processor, "what number", image, Budget(0.2, gestalt=0.6)).kept)


def test_the_heat_map_is_drawn_only_when_asked_for(
    saved: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(image.parent.iterdir())
    asked = ["which colour", str(image), "--checkpoint", str(saved)]
    heat = tmp_path / "heat.png"
    assert main([*asked, "--heat", str(heat)]) == 0
    assert f"wrote {heat}" in capsys.readouterr().out
    assert np.asarray(Image.open(heat)).shape[1] == 2 * 480 + 3 * 12
    assert sorted(image.parent.iterdir()) == before


def code_of(image: Path, question: str, saved: Path, *more: str) -> int:
    """Return the exit code, whether the parser or the command ended it."""
    try:
        return main([question, str(image), "--checkpoint", str(saved), *more])
    except SystemExit as ended:
        return int(ended.code or 0)


@pytest.mark.parametrize(
    ("question", "more", "words"),
    [
        (" ", [], "question is empty"),
        ("which colour " * 60, [], "the model takes 96: shorten"),
        ("a <image> b", [], "steers the model"),
        ("x", ["--budget", "0"], "0 is not in (0, 1]"),
        ("x", ["--budget", "1.01"], "1.01 is not in (0, 1]"),
        ("x", ["--budget", "nan"], "not in (0, 1]"),
        ("x", ["--budget", "half"], "'half' is not a number"),
        ("x", ["--budget", "0.5", "--all"], "not allowed with"),
        ("x", ["--gestalt", "1"], "not in [0, 1)"),
        ("x", ["--device", "abacus"], "no such device"),
        ("x", ["--device", "cuda:99"], "CUDA devices; use cpu"),
        ("x", ["--heat", "no/such/folder/heat.png"], "make it first"),
        ("x", ["--heat", "{folder}"], "--heat {folder}: cannot be written"),
        ("x", ["--heet"], "unrecognized arguments: --heet"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    saved: Path,
    image: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    question: str,
    more: list[str],
    words: str,
) -> None:
    code = code_of(image, question, saved, *(part.format(folder=tmp_path) for part in more))
    told = capsys.readouterr()
    assert (code, told.out) == (2, "")
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1
    assert words.format(folder=tmp_path) in told.err


def test_an_image_that_cannot_be_read_is_told(
    saved: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut, text = tmp_path / "cut.png", tmp_path / "text.png"
    cut.write_bytes(image.read_bytes()[:2000])
    text.write_text("no image")
    for file, words in (
        (tmp_path / "none.png", "there is no such image"),
        (tmp_path, "there is no such image"),
        (cut, "damaged or cut off"),
        (text, "not an image that can be read; use one of PNG"),
    ):
        assert code_of(file, "which colour", saved) == 2
        told = capsys.readouterr().err
        assert told.startswith(f"error: {file}: ")
        assert told.count("\n") == 1
        assert words in told


def test_a_checkpoint_that_cannot_be_used_is_told(
    saved: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arr, processor, _ = learnt()
    half = small_arr.save(arr, processor, tmp_path / "half")
    weights = half / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    other, empty = tmp_path / "other", tmp_path / "empty"
    for folder in (other, empty):
        folder.mkdir()
    (other / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    for folder, words in (
        (tmp_path / "none", "no such folder"),
        (half, "half written"),
        (empty, "no checkpoint"),
        (other, "Qwen3-VL"),
    ):
        assert code_of(image, "which colour", folder) == 2
        told = capsys.readouterr().err
        assert told.startswith("error: ")
        assert told.count("\n") == 1
        assert str(folder) in told
        assert words in told


def test_help_and_mistakes_do_not_wait_for_torch(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from ARR_COC.__main__ import main\n"
        "try:\n"
        "    code = main(sys.argv[1:])\n"
        "except SystemExit as ended:\n"
        "    code = ended.code\n"
        "print(code, sorted({'torch', 'transformers', 'numpy', 'PIL'} & set(sys.modules)))\n"
    )
    for arguments, code in (
        (["--help"], 0),
        (["x", "none.png", "--checkpoint", str(tmp_path)], 2),
        (["x", "none.png", "--checkpoint", str(tmp_path), "--budget", "0"], 2),
    ):
        ended = subprocess.run(
            [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
        )
        assert ended.stdout.splitlines()[-1] == f"{code} []"


def test_without_a_selector_only_all_tokens_can_be_asked_for(image: Path) -> None:
    arr, processor = small_arr.build(selector=False)
    with pytest.raises(BadInput, match="no selector"):
        ask(arr, processor, "which colour", image, Budget(0.5))
    reply = ask(arr, processor, "which colour", image, Budget(1.0))
    assert reply.relevance is None
    assert reply.kept == tuple(range(9))


def test_an_answer_stays_within_the_context(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arr, processor, _ = learnt()
    fixed = len(processor.prompt("x", 9)) - 1
    generate, most = arr.generate, []

    def spy(**arguments: Any) -> torch.Tensor:
        most.append(arguments["max_new_tokens"])
        return generate(**arguments)

    monkeypatch.setattr(arr, "generate", spy)
    ask(arr, processor, "x " * (small_arr.CONTEXT - fixed - 1), image, Budget(1.0))
    assert most == [1]
    with pytest.raises(BadInput, match="no room for an answer"):
        ask(arr, processor, "x " * (small_arr.CONTEXT - fixed), image, Budget(1.0))


def test_a_device_is_the_best_there_is_unless_it_is_named() -> None:
    best = "cuda" if torch.cuda.is_available() else "cpu"
    assert asking.chosen_device(None).type == best
    assert asking.chosen_device("cpu").type == "cpu"
