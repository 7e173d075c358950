"""The notebook runs from top to bottom, in a kernel of its own."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

WALKTHROUGH = Path(__file__).parent.parent / "docs" / "walkthrough.ipynb"


@pytest.fixture
def notebook():
    return nbformat.read(WALKTHROUGH, as_version=4)


def test_it_is_committed_without_outputs(notebook):
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def test_it_runs_from_top_to_bottom(notebook, tmp_path, monkeypatch):
    flags = "--max-steps 2 --num-threads 1 --batch-size 2 --base-channels 4 --discriminator-channels 4 --log-every 1"
    monkeypatch.setenv("WALKTHROUGH_FLAGS", flags)
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    client = NotebookClient(
        notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(WALKTHROUGH.parent)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    said = "".join(output.get("text", "") for output in outputs)
    assert "preset lite: generator of" in said
    assert said.count("perceptual distance (lower is better)") == 2
    (folder,) = tmp_path.glob("walkthrough-*")
    assert {"photo2sketch", "sketch2photo", "metrics.jsonl"} <= {path.name for path in (folder / "run").iterdir()}
