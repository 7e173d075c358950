import json

from PIL import Image

from pix2pix.curves import draw_curves


def test_curves_are_drawn_for_what_was_measured(tmp_path):
    lines = [
        {"kind": "floors", "direction": "photo2sketch", "mean_picture": {"fsim": 0.6}, "input": {"fsim": 0.7}},
        {"kind": "train", "epoch": 1, "step": 10, "direction": "photo2sketch", "loss_d": 0.7, "reconstruction": 0.3},
        {"kind": "train", "epoch": 2, "step": 20, "direction": "photo2sketch", "loss_d": 0.6, "reconstruction": 0.2},
        {"kind": "validation", "epoch": 2, "step": 20, "direction": "photo2sketch", "fsim": 0.7},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    draw_curves(tmp_path / "metrics.jsonl", tmp_path / "few.png")
    lines.append({**lines[3], "mae": 20.0, "psnr": 15.0, "step": 30})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    draw_curves(tmp_path / "metrics.jsonl", tmp_path / "more.png")
    few, more = Image.open(tmp_path / "few.png"), Image.open(tmp_path / "more.png")
    assert more.width > few.width  # a panel a measure
    assert len(set(few.convert("L").getdata())) > 10
