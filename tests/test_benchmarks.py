"""The benchmarks run: each with tiny settings, none judged by the clock."""

import json
import logging
import math
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import (
    ablation,
    freehand,
    inference_speed,
    load,
    measures,
    recipe,
    robustness,
    scaling,
    start,
    time_to_quality,
    timing,
    train_speed,
)
from benchmarks.plain_loop import PlainLoop, PlainProcess
from benchmarks.runs import progress_of, train
from benchmarks.trainer import Trainer
from pix2pix import arguments
from pix2pix.discriminator import PatchDiscriminator
from pix2pix.drawn_faces import draw_pair
from pix2pix.generator import UNetGenerator
from pix2pix.images import grid
from pix2pix.inference import Translator
from train import TIMED_STEPS

ROOT = Path(__file__).parent.parent
TINY = [
    "--image-size", "32", "--base-channels", "4", "--max-channels", "8", "--num-downsamples", "3",
    "--discriminator-channels", "4", "--batch-size", "2", "--num-threads", "1",
]  # fmt: skip


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Six drawn people to train on and four to test on, shrunk so that reading them takes no time."""
    root = tmp_path_factory.mktemp("data") / "people"
    for index in range(10):
        for column, picture in zip(("photos", "sketches"), draw_pair(index), strict=False):
            folder = root / ("train" if index < 6 else "test") / column
            folder.mkdir(parents=True, exist_ok=True)
            picture.resize((32, 40)).save(folder / f"person{index}.png")
    return root


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


# -- what they share ---------------------------------------------------------------------------------------------------


def test_cases_take_turns():
    order = []
    seconds = timing.interleave({name: lambda name=name: order.append(name) for name in "ab"}, rounds=3)
    assert order == ["a", "b"] * 3
    assert [len(times) for times in seconds.values()] == [3, 3]


def test_a_case_may_say_what_it_took_and_a_deadline_ends_the_rounds():
    seconds = timing.interleave({"a": lambda: 2.0, "b": lambda: 0.5}, rounds=1000, deadline=time.monotonic() - 1)
    assert seconds == {"a": [2.0], "b": [0.5]}


def test_the_ratio_is_the_median_of_the_rounds_and_not_of_the_sums():
    assert timing.median_ratio([3.0, 100.0, 8.0], [1.0, 100.0, 2.0]) == 3.0


def test_peak_memory_is_this_processs_own():
    code = "from benchmarks.timing import peak_memory; print(peak_memory()); x = bytearray(200_000_000); print(peak_memory())"
    ballast = bytearray(b"1" * 300_000_000)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    before, after = map(int, done.stdout.split())
    assert len(ballast) == 300_000_000
    assert before < 200_000_000 < 200_000_000 + before * 0.5 < after < 400_000_000


def test_a_table_is_markdown():
    text = timing.table(["name", "value"], [["a", 1.23456], ["b", None], ["long name", 12345.6]])
    assert text.splitlines() == [
        "| name      | value |",
        "| --------- | ----: |",
        "| a         |  1.23 |",
        "| b         |     - |",
        "| long name | 12346 |",
    ]


# -- ablation ----------------------------------------------------------------------------------------------------------


def test_every_row_is_a_run_that_train_py_accepts_and_every_table_row_exists():
    args = ablation.parser().parse_args(["--output", "out"])
    for flags in ablation.ROWS.values():
        given = arguments.complete(arguments.explicit([*ablation.base_flags(args, []), *flags]))
        assert given["perceptual_weight"] == given["feature_weight"] == 0
    assert {row for rows in ablation.TABLES.values() for row in rows.values()} == ablation.ROWS.keys()


def test_two_rows_are_trained_scored_and_never_repeated(pairs, tmp_path, capsys):
    words = ["--dataset", str(pairs), "--output", str(tmp_path / "out"), "--rows", "l1", "l1+gan", "--max-steps", "2"]
    assert ablation.main([*words, "--", *TINY]) == 0
    results = read(tmp_path / "out" / "results.json")
    assert results["rows"].keys() == {"l1", "l1+gan"}
    for row in results["rows"].values():
        assert row["steps"] == 2
        assert row["epochs"] == pytest.approx(2 / 3)
        for direction in ("photo2sketch", "sketch2photo"):
            assert row["scores"][direction]["n"] == 4
            assert row["scores"][direction]["mean"].keys() >= {"fsim", "perceptual", "kid1000"}
    assert (tmp_path / "out" / "ablation.png").stat().st_size > 10_000
    table = (tmp_path / "out" / "table.md").read_text()
    assert table in capsys.readouterr().out
    assert table.count("| L1+GAN ") == 2
    assert table.count("| U-Net, L1 ") == 2
    assert not list((tmp_path / "out").glob("rows/*/run/state"))

    assert ablation.main([*words, "--", *TINY]) == 0
    assert capsys.readouterr().out.count("done before") == 2
    with pytest.raises(SystemExit):
        ablation.main([*words, "--minutes", "3", "--", *TINY])
    assert "--output holds results with minutes 5.0, got 3.0" in capsys.readouterr().err


def test_an_interrupted_row_goes_on_with_what_is_left_of_its_budget(pairs, tmp_path):
    words = ["--dataset", str(pairs), "--output", str(tmp_path / "out"), "--rows", "l2", "--direction", "photo2sketch"]
    command = [sys.executable, str(ROOT / "benchmarks" / "ablation.py"), *words]
    run, log = (tmp_path / "out" / "rows" / "l2" / name for name in ("run", "log.txt"))
    log.parent.mkdir(parents=True)
    log.symlink_to("/dev/stdout")  # what train.py says is read here while it says it
    flags = ["--", *TINY, "--log-every", "1", "--max-minutes", "60"]  # the plan is said when the first steps have been timed
    child = subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = ""
    for line in child.stdout:
        said += line
        if "epochs fit 60 minutes" in line or "error" in line.lower():
            child.send_signal(signal.SIGTERM)
    child.wait()
    log.unlink()
    assert child.returncode == 128 + signal.SIGTERM, said
    before = progress_of(run)
    assert before["step"] >= 2 * TIMED_STEPS
    assert read(tmp_path / "out" / "results.json")["rows"] == {}

    steps = before["step"] + 2
    assert ablation.main([*words, "--max-steps", str(steps), *flags]) == 0
    row = read(tmp_path / "out" / "results.json")["rows"]["l2"]
    assert row["steps"] == steps
    assert row["minutes"] * 60 > before["seconds"]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "train"] == list(range(1, steps + 1))


def test_a_budget_that_is_used_up_leaves_weights_all_the_same(pairs, tmp_path):
    """After its signal train.py has written a state; what remains is one step and the export."""
    words = ["--dataset", str(pairs), "--output", str(tmp_path / "out"), "--direction", "sketch2photo"]
    flags = [*ablation.base_flags(ablation.parser().parse_args(words), TINY), *ablation.ROWS["l1"]]
    run, log = tmp_path / "run", tmp_path / "log.txt"
    assert train(run, [*flags, "--max-steps", "4"], log=log)
    made = ablation.train_row(run, flags, seconds=0.001, max_steps=None, log=log)
    assert made["steps"] == 5
    assert made["epochs"] == pytest.approx(5 / 3)
    assert (run / "last" / "sketch2photo" / "model.safetensors").exists()


def test_a_row_that_fails_is_named_and_the_others_go_on(pairs, tmp_path, capsys):
    words = ["--dataset", str(pairs / "nowhere"), "--output", str(tmp_path / "out"), "--rows", "l1", "cgan"]
    assert ablation.main([*words, "--", *TINY]) == 1
    assert capsys.readouterr().err.count("failed: train.py ended with status 2") == 2


# -- the plain loop and train.py's step --------------------------------------------------------------------------------


TINY_PAPER = ["--preset", "paper", *TINY, "--receptive-field", "16"]


def test_the_plain_loop_computes_what_train_py_computes(tmp_path):
    """From equal weights, three steps in float32 and without dropout leave equal weights."""
    flags = [*TINY_PAPER, "--mixed-precision", "no", "--dropout", "0", "--receptive-field", "70", "--image-size", "64"]
    trainer = Trainer(flags, tmp_path)
    run, direction = trainer.run, "photo2sketch"
    generator, discriminator = trainer.plain_networks()
    loop = PlainLoop(UNetGenerator(**generator), PatchDiscriminator(**discriminator))
    loop.generator.load_state_dict(run.generators[direction].state_dict())
    loop.discriminator.load_state_dict(run.discriminators[direction].state_dict())
    batches = trainer.batches()
    pairs = [next(batches) for _ in range(3)]
    for pair in pairs:
        loop.step(pair["photo"], pair["sketch"])
    before = run.generators[direction].encoder[0][0].weight.detach().clone()
    trainer.pace(iter(pairs), steps=3)
    for own, plain in (
        (run.generators[direction], loop.generator),
        (run.discriminators[direction], loop.discriminator),
    ):
        for (name, weight), (_, reference) in zip(own.named_parameters(), plain.named_parameters(), strict=True):
            # Biases before a norm have no gradient but rounding, which Adam blows up to whole steps of any sign.
            if not (name.endswith("bias") and weight.ndim == 1):
                torch.testing.assert_close(weight, reference, atol=2e-4, rtol=0, msg=name)
    assert (before - run.generators[direction].encoder[0][0].weight).abs().max() > 1e-4


def test_the_plain_loop_is_the_papers_by_default():
    with torch.device("meta"):
        loop = PlainLoop()
    assert sum(p.numel() for p in loop.generator.parameters()) == 54_409_603
    assert sum(p.numel() for p in loop.discriminator.parameters()) == 2_767_809
    assert loop.discriminator.receptive_field == 70


def test_train_speed_reports_the_ratio_of_its_best_batch_size(tmp_path, capsys):
    words = ["--batch-sizes", "2", "1", "--rounds", "2", "--images", "2", "--no-memory", "--json", str(tmp_path / "speed.json")]
    assert train_speed.main([*words, "--", *TINY_PAPER[2:]]) == 0
    report = read(tmp_path / "speed.json")
    assert [row["name"] for row in report["rows"]] == ["plain", "train.py, batch 1", "train.py, batch 2"]
    assert report["rows"][0]["ratio"] == 1
    assert report["ratio"] == max(row["ratio"] for row in report["rows"][1:]) > 0
    assert report["best_batch_size"] in (1, 2)
    assert report["ratio_batch_1"] == report["rows"][1]["ratio"]
    assert all(0 <= row["waited"] < 1 for row in report["rows"])
    assert report["preset"] == "paper"
    assert report["rows"][0]["peak_bytes"] > 1e8
    assert report["rounds"] <= 2
    assert "| train.py, batch 2 |" in capsys.readouterr().out


def test_the_plain_loop_runs_in_a_process_of_its_own():
    networks = {"base_channels": 4, "num_downsamples": 3}, {"base_channels": 4, "receptive_field": 16}
    with PlainProcess(*networks, size=(32, 40), device="cpu", threads=1) as plain:
        assert plain.steps(2) > 0
        assert 1e8 < plain.peak_memory() < 1e10
        assert plain.child.poll() is None
    assert plain.child.returncode == 0
    broken = PlainProcess({"base_channels": 0}, {}, size=(32, 40), device="cpu", threads=1)
    with broken, pytest.raises(RuntimeError, match="ended with status 1"):
        broken.steps(1)


def test_peak_memory_of_a_step_is_measured_in_its_own_process():
    small, large = (train_speed.peak_bytes([*TINY_PAPER, "--image-size", side], 8) for side in ("32", "512"))
    assert 1e8 < small < large < 1e10


# -- inference ---------------------------------------------------------------------------------------------------------


def test_inference_speed_compares_runtimes_with_float32(tmp_path, capsys):
    torch.manual_seed(0)
    UNetGenerator(3, 1, base_channels=4, num_downsamples=3, image_size=32).save_pretrained(tmp_path / "model" / "photo2sketch")
    words = ["--model", str(tmp_path / "model"), "--runtimes", "eager-f32", "eager-bf16-channels-last", "--rounds", "2"]
    words += ["--starts", "1", "--pictures", "9", "--json", str(tmp_path / "speed.json")]
    before = logging.getLogger().level, torch.get_num_threads()
    assert inference_speed.main([*words, "--threads", "3"]) == 0
    assert (logging.getLogger().level, torch.get_num_threads()) == before
    report = read(tmp_path / "speed.json")
    exact, rough = report["runtimes"]
    assert exact["max_difference"] < 1e-3  # the reference lies in another memory layout
    assert exact["fsim"] == pytest.approx(1, abs=1e-4)
    assert 0 < rough["mean_difference"] < rough["max_difference"] < 255
    assert all(row["milliseconds"] > 0 for row in report["runtimes"])
    assert report["starts"].keys() == {"import pix2pix.inference, first translation", "train.py --help"}
    assert report["folder"]["pictures"] == 9
    assert report["machine"]["threads"] == 3
    assert report["folder"]["ratio"] > 0
    assert "| eager-bf16-channels-last |" in capsys.readouterr().out


def test_every_runtime_that_the_requirements_bring_runs(tmp_path):
    torch.manual_seed(0)
    generator = UNetGenerator(3, 1, base_channels=4, num_downsamples=3, image_size=32).eval().requires_grad_(False)
    names = [name for name in inference_speed.RUNTIMES if not name.startswith("openvino")]
    rows = {row["runtime"]: row for row in inference_speed.measure_runtimes(generator, names, rounds=1, folder=tmp_path)}
    assert [row for row in rows.values() if "left_out" in row] == []
    for name, row in rows.items():
        exact = name.endswith("f32") or name == "eager-f32-channels-last"
        assert (row["max_difference"] < 1) >= exact, name
        assert ("int8" in name) <= (row["mean_difference"] > 0), name
        assert row["fsim"] > 0.5


def test_a_runtime_that_is_not_there_is_left_out_and_says_why(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)  # what Python itself does for a package that must not be found
    generator = UNetGenerator(3, 1, base_channels=4, num_downsamples=3, image_size=32).eval().requires_grad_(False)
    rows = inference_speed.measure_runtimes(generator, ["eager-f32", "openvino"], rounds=1, folder=tmp_path)
    assert "milliseconds" in rows[0]
    assert rows[1].keys() == {"runtime", "left_out"}
    assert "openvino" in rows[1]["left_out"]


def test_without_weights_the_preset_is_timed_untrained(tmp_path):
    model = inference_speed.new_model(tmp_path, "sketch2photo")
    generator = UNetGenerator.from_pretrained(model, subfolder="sketch2photo")
    assert generator.image_size == (250, 200)
    assert (generator.in_channels, generator.out_channels) == (1, 3)


# -- time to quality ---------------------------------------------------------------------------------------------------


def test_time_to_quality_compares_a_preset_with_the_plain_loop_once(pairs, tmp_path, capsys):
    words = ["--dataset", str(pairs), "--output", str(tmp_path / "out"), "--direction", "sketch2photo", "--minutes", "0.05"]
    words += ["--plain-minutes", "0.0001", "--plain-channels", "4", "--looks", "2", "--validation-fraction", "0.3"]
    flags = [*TINY, "--receptive-field", "16", "--perceptual-weight", "0", "--num-epochs", "1"]
    assert time_to_quality.main([*words, "--", *flags]) == 0
    results = read(tmp_path / "out" / "results.json")
    looks = results["plain"]["sketch2photo"]
    assert 1 <= looks[0]["steps"] <= looks[1]["steps"]
    assert len(looks) == 2
    assert results["held_out"] == 2
    assert results["reached"]["sketch2photo"].keys() == {"fsim", "perceptual"}
    assert (tmp_path / "out" / "time_to_quality.png").stat().st_size > 10_000
    assert "sketch2photo, plain loop, best look" in capsys.readouterr().out

    assert not (tmp_path / "out" / "plain" / "sketch2photo" / "state").exists()

    assert time_to_quality.main([*words, "--", *flags]) == 0
    assert read(tmp_path / "out" / "results.json") == results
    with pytest.raises(SystemExit):
        time_to_quality.main([*words, "--looks", "3", "--", *flags])
    assert "--output holds results with looks 2, got 3" in capsys.readouterr().err


def test_the_plain_loop_goes_on_from_its_last_look(pairs, tmp_path):
    words = ["--output", str(tmp_path), "--plain-minutes", "0.0001", "--plain-channels", "4", "--looks", "1"]
    people = time_to_quality.People(str(pairs), validation_fraction=0.3)

    def looks(*more):
        args = time_to_quality.parser().parse_args([*words, *more])
        return time_to_quality.train_plain(args, "photo2sketch", people, None)

    first = looks()
    assert len(first) == 1
    assert looks() == first
    longer = looks("--looks", "2", "--plain-minutes", str(2 * first[0]["minutes"]))
    assert longer[0] == first[0]
    assert longer[1]["steps"] > first[0]["steps"]


def test_a_resumed_plain_loop_sees_the_batches_that_it_would_have_seen(pairs):
    people = time_to_quality.People(str(pairs), validation_fraction=0.3)
    batches = time_to_quality.plain_batches(people.train, "photo2sketch", seed=3, first_step=0)
    first = [next(batches) for _ in range(7)]  # four pairs an epoch
    resumed = time_to_quality.plain_batches(people.train, "photo2sketch", seed=3, first_step=5)
    for (source, target), (source_again, target_again) in zip(first[5:], resumed, strict=False):
        assert torch.equal(source, source_again)
        assert torch.equal(target, target_again)
    assert first[0][0].shape == (1, 3, 256, 256)
    assert not torch.equal(first[5][0], first[6][0])


def test_the_verdict_knows_which_way_each_score_points():
    looks = [{"fsim": 0.7, "perceptual": 0.5}, {"fsim": 0.6, "perceptual": 0.4}]
    results = {"preset": {"photo2sketch": {"fsim": 0.65, "perceptual": 0.45}}, "plain": {"photo2sketch": looks}}
    assert time_to_quality.verdicts(results) == {"photo2sketch": {"fsim": False, "perceptual": False}}
    results["preset"]["photo2sketch"] = {"fsim": 0.7, "perceptual": 0.39}
    assert time_to_quality.verdicts(results) == {"photo2sketch": {"fsim": True, "perceptual": True}}


# -- measures ----------------------------------------------------------------------------------------------------------


def test_measures_time_the_step_with_and_without(tmp_path, capsys):
    words = ["--measures", "as it is", "float32", "--batch-sizes", "2", "--rounds", "1", "--steps", "1"]
    assert measures.main([*words, "--json", str(tmp_path / "measures.json"), "--", *TINY]) == 0
    rows = read(tmp_path / "measures.json")["rows"]
    assert [(row["measure"], row["batch_size"], len(row["rounds"])) for row in rows] == [("as it is", 2, 1), ("float32", 2, 1)]
    assert all(row["images_per_second"] == row["rounds"][0] > 0 for row in rows)
    assert "| float32 in place of bfloat16 |" in capsys.readouterr().out


def test_a_measure_that_cannot_be_timed_is_named(capsys):
    words = ["--measures", "as it is", "--batch-sizes", "2", "--rounds", "1", "--", "--dataset", "nowhere", *TINY]
    assert measures.main(words) == 1
    assert "failed: as it is: " in capsys.readouterr().err


def test_each_measure_is_undone(monkeypatch):
    import train
    from pix2pix import devices
    from pix2pix.layers import InstanceNorm

    changed = [(devices, "training_layout"), (devices, "keep_memory"), (torch.optim, "Adam"), (train.Run, "batches")]
    before = {(owner, name): getattr(owner, name) for owner, name in [*changed, (InstanceNorm, "forward")]}
    for (owner, name), value in before.items():
        monkeypatch.setattr(owner, name, value)  # given back after the test
    flags = {name: measures.undo(name) for name in measures.MEASURES}
    assert {name: given for name, given in flags.items() if given} == {
        "float32": ["--mixed-precision", "no"],
        "compile": ["--compile"],
    }
    assert devices.training_layout(torch.device("cpu")) == torch.channels_last
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], fused=True)
    assert (optimizer.defaults["fused"], optimizer.defaults["foreach"]) == (False, True)
    assert all(getattr(owner, name) is not value for (owner, name), value in before.items())
    loader = [1, 2]
    assert train.Run.batches(None, loader) is loader


# -- scaling -----------------------------------------------------------------------------------------------------------


def test_scaling_measures_each_axis_and_draws_it(tmp_path, capsys):
    words = [
        "--output",
        str(tmp_path / "out"),
        "--preset",
        "paper",
        "--steps",
        "1",
        "--axes",
        "batch size",
        "pairs",
        "processes",
    ]
    words += ["--batch-sizes", "2", "--pairs", "40", "--processes", "2"]
    assert scaling.main([*words, "--", *TINY, "--receptive-field", "16"]) == 0
    rows = read(tmp_path / "out" / "results.json")["rows"]
    assert [(row["axis"], row["value"], row["processes"]) for row in rows] == [
        ("batch size", 2, 1),
        ("pairs", 40, 1),
        ("processes", 2, 2),
    ]
    assert all(row["images_per_second"] > 0 and 0 <= row["waited"] < 1 for row in rows)
    # Two processes hold the libraries twice.
    assert rows[2]["peak_bytes"] > 1.5 * rows[0]["peak_bytes"] > 1e8
    assert (tmp_path / "out" / "scaling.png").stat().st_size > 10_000
    assert "| processes " in capsys.readouterr().out


def test_memory_does_not_grow_with_a_stream(tmp_path):
    """Fifty times the pairs take no more than a fraction of what their pictures do."""
    code = (
        "import sys; from benchmarks.timing import peak_memory; from pix2pix.streams import PairStream\n"
        "stream = PairStream(sys.argv[1], fraction=0.1)\n"
        "count = sum(1 for _ in stream.rows(seed=0, epoch=0, buffer_size=100))\n"
        "print(count + stream.held_count, peak_memory())"
    )
    found = []
    for pairs in (600, 30_000):
        scaling.write_streamed(tmp_path / str(pairs), pairs)
        command = [sys.executable, "-c", code, str(tmp_path / str(pairs))]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        count, peak = map(int, done.stdout.split())
        assert count == pairs
        found.append(peak)
    size = sum(file.stat().st_size for file in (tmp_path / "30000").iterdir())
    assert size > 50e6
    assert found[1] - found[0] < size / 4


def test_a_point_that_fails_is_told_and_the_others_are_measured(tmp_path):
    point = scaling.Point("pairs", 3, ["--dataset", str(tmp_path / "nowhere"), *TINY_PAPER])
    row = scaling.measure(point, steps=1, folder=tmp_path)
    assert "nowhere" in row["failed"]


# -- the documents -----------------------------------------------------------------------------------------------------


# -- the recipe --------------------------------------------------------------------------------------------------------


def test_every_change_of_the_recipe_is_one_that_train_py_accepts():
    for name, flags in recipe.ROWS.items():
        complete = arguments.complete(arguments.explicit(flags))
        plain = arguments.complete({})
        assert (complete == plain) is (name == "as it is"), name


def test_changes_of_the_recipe_are_scored_on_people_held_out_and_never_repeated(pairs, tmp_path, capsys):
    cheap = ["--projected-weight", "0", "--perceptual-weight", "0", "--receptive-field", "16"]
    words = ["--dataset", str(pairs), "--output", str(tmp_path / "r"), "--identity", "--epochs", "1", "--fraction", "0.4"]
    tiny = ["--", *TINY, *cheap, "--direction", "sketch2photo"]
    assert recipe.main([*words, "--rows", "as it is", *tiny]) == 0
    assert recipe.main([*words, "--rows", "as it is", "no dropout", *tiny]) == 0
    assert "as it is: done before" in capsys.readouterr().out
    results = read(tmp_path / "r" / "results.json")
    assert results["held_out"] == 2
    assert list(results["rows"]) == ["as it is", "no dropout"]
    for row in results["rows"].values():
        assert list(row["scores"]) == ["sketch2photo"]
        judged = {"mae", "psnr", "ssim", "fsim", "perceptual", "kid1000", "rank1", "own_distance", "spread"}
        judged |= {"bordered_fsim", "outlined_fsim", "outlined_mae"}
        assert set(row["scores"]["sketch2photo"]) == judged
        assert row["scores"]["sketch2photo"]["spread"] > 0
    assert "| no dropout |" in (tmp_path / "r" / "table.md").read_text()
    with pytest.raises(SystemExit):
        recipe.main([*words[:-1], "0.2", "--rows", "as it is", *tiny])
    assert "holds results with fraction 0.4, got 0.2" in capsys.readouterr().err


# -- robustness --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", robustness.CHANGES)
def test_every_change_changes_the_source_and_keeps_its_shape(direction):
    source = draw_pair(3)[0 if direction == "photo2sketch" else 1].convert("RGB")
    for name, change in robustness.CHANGES[direction].items():
        changed = change(source, np.random.default_rng(0))
        assert (changed.size, changed.mode) == (source.size, source.mode), name
        assert np.abs(np.asarray(changed, dtype=int) - np.asarray(source, dtype=int)).mean() > 0.3, name
        assert np.array_equal(changed, change(source, np.random.default_rng(0))), name


def test_robustness_scores_every_change_beside_the_unchanged_source(pairs, tmp_path, capsys):
    for direction in robustness.DIRECTIONS:
        network = UNetGenerator(base_channels=4, max_channels=8, num_downsamples=3, image_size=(40, 32))
        network.save_pretrained(tmp_path / "model" / direction)
    files = ["--json", str(tmp_path / "r.json"), "--grid", str(tmp_path / "r.png")]
    words = ["--model", str(tmp_path / "model"), "--dataset", str(pairs), "--max-pictures", "2", *files]
    assert robustness.main(words) == 0
    report = read(tmp_path / "r.json")
    for direction, changes in robustness.CHANGES.items():
        assert list(report[direction]) == ["unchanged", *changes]
        assert all(0 < scores["fsim"] < 1 for scores in report[direction].values())
    assert "| glasses " in capsys.readouterr().out
    rows = math.ceil(sum(1 + len(changes) for changes in robustness.CHANGES.values()) / 5)
    assert Image.open(tmp_path / "r.png").size == grid([[Image.new("RGB", (32, 40))] * 10] * rows).size


# -- freehand ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", freehand.HAIR)
def test_a_drawing_is_lines_on_white_the_same_for_its_seed_with_places_that_do_not_meet(name):
    drawing = freehand.draw(name, seed=1)
    assert drawing.picture.size == freehand.SIZE
    assert drawing.picture.tobytes() == freehand.draw(name, seed=1).picture.tobytes()
    assert drawing.picture.tobytes() != freehand.draw(name, seed=2).picture.tobytes()
    assert 0.02 < (np.asarray(drawing.picture) < 128).mean() < 0.15
    assert np.asarray(drawing.picture)[np.asarray(drawing.places["wall"]) > 0].min() == 255
    covered = sum((np.asarray(mask) > 0).astype(int) for mask in drawing.places.values())
    assert covered.max() == 1
    assert all(np.asarray(mask).any() for mask in drawing.places.values())


def test_freehand_reads_hair_skin_and_wall_and_shows_a_row_a_model(tmp_path, capsys):
    UNetGenerator(1, 3, base_channels=4, max_channels=8, num_downsamples=3).save_pretrained(tmp_path / "model/sketch2photo")
    model, report, picture = str(tmp_path / "model"), tmp_path / "f.json", tmp_path / "f.png"
    assert freehand.main(["--model", model, "--json", str(report), "--grid", str(picture)]) == 0
    rows, drawing = read(report)[model], freehand.draw("short", seed=0)
    assert list(rows) == [*freehand.HAIR, "mean"]
    photo = Translator.from_pretrained(model, "sketch2photo", "cpu", dtype=torch.float32)(drawing.picture)
    assert rows["short"] == pytest.approx(freehand.levels(photo, drawing), abs=0.5)
    assert rows["mean"]["hair"] == pytest.approx(np.mean([rows[name]["hair"] for name in freehand.HAIR]))
    painted = Image.new("RGB", freehand.SIZE, (200, 200, 200))
    painted.paste((10, 10, 10), mask=drawing.places["hair"])
    assert freehand.levels(painted, drawing) == {"hair": 10, "skin": 200, "wall": 200}
    assert "| level of hair |" in capsys.readouterr().out
    assert Image.open(picture).size == grid([[drawing.picture] * 5] * 2).size
    for flag, value in (("--model", tmp_path / "nothing"), ("--grid", tmp_path / "f.bmp"), ("--grid", report / "f.png")):
        with pytest.raises(SystemExit):
            freehand.main([flag, str(value)])
        assert str(tmp_path) in capsys.readouterr().err


def test_a_smooth_curve_goes_through_its_points():
    points = np.array([(0.0, 0.0), (4.0, 8.0), (12.0, 8.0), (14.0, 2.0)])
    curve = freehand.smooth(points)
    assert curve.shape == (36, 2)
    assert np.array_equal(curve[::12], points[:-1])
    assert np.allclose(curve[11::12], points[1:])
    assert np.linalg.norm(np.diff(curve, axis=0), axis=1).max() < 2


# -- the page ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def served_model(tmp_path, monkeypatch):
    for direction in robustness.DIRECTIONS:
        network = UNetGenerator(base_channels=4, max_channels=8, num_downsamples=3, image_size=(40, 32))
        network.save_pretrained(tmp_path / "model" / direction)
    monkeypatch.setenv("PIX2PIX_MODEL", str(tmp_path / "model"))
    monkeypatch.delenv("PYTHONPATH")


def test_a_few_users_are_served_without_an_error_and_the_report_says_how_long_each_waited(served_model, tmp_path, capsys):
    assert load.main(["--users", "3", "--seconds", "2", "--output", str(tmp_path / "load.json")]) == 0
    report = read(tmp_path / "load.json")
    assert (report["users"], set(report["kinds"])) == (3, set(load.KINDS))
    for row in report["kinds"].values():
        assert row["errors"] == 0
        assert row["answered"] >= 1  # each user's first request is answered, however long that takes
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["max_ms"]
    memory = report["memory_mb"]
    assert len(memory["meanwhile"]) == load.READINGS
    assert min(memory["before"], *memory["meanwhile"], memory["after"]) > 100
    assert "memory of the server: " in capsys.readouterr().out


def test_what_goes_wrong_under_load_is_in_the_report_and_in_the_exit_status():
    record = load.Record()
    record.errors["pad"].append("ReadTimeout: ")
    record.busy["pad"] += 2
    report = load.summary(record, 1, 1.0, {"before": 1.0, "meanwhile": [1, 1], "after": 1.0})
    assert (report["kinds"]["pad"]["errors"], report["kinds"]["pad"]["busy"]) == (1, 2)
    assert load.table(report).splitlines()[-1] == "first error of pad: ReadTimeout: "


def test_a_start_is_timed_to_its_answer_its_paint_and_its_sketch(served_model, tmp_path, capsys):
    assert start.main(["--starts", "1", "--json", str(tmp_path / "start.json")]) == 0
    seconds = read(tmp_path / "start.json")["seconds"]
    assert {name: len(times) for name, times in seconds.items()} == {
        start.ANSWER: 2,
        start.PAINT: 1,
        start.SKETCH: 1,
        "import gradio": 1,
        "import torch": 1,
    }
    assert seconds[start.ANSWER][0] < seconds[start.SKETCH][0]
    assert seconds[start.ANSWER][1] < seconds[start.PAINT][0]
    assert f"| {start.SKETCH} " in capsys.readouterr().out


def test_the_documented_commands_are_accepted():
    programs = {"ablation": ablation, "train_speed": train_speed, "inference_speed": inference_speed}
    programs |= {"time_to_quality": time_to_quality, "scaling": scaling, "recipe": recipe, "robustness": robustness}
    programs |= {"load": load, "start": start, "measures": measures, "freehand": freehand}
    found = set()
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        text = document.read_text(encoding="utf-8")
        commands = re.findall(r"^python benchmarks/(\w+)\.py(.*)$", text, re.MULTILINE)
        commands += re.findall(r"`python benchmarks/(\w+)\.py ([^`]*)`", text)  # within a sentence, over several lines
        for name, line in commands:
            own, extra = timing.split_flags(shlex.split(line, comments=True))
            programs[name].parser().parse_args(own)
            arguments.complete(arguments.explicit(extra))
            found.add(name)
    assert found == programs.keys()
