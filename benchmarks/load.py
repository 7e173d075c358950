"""Many people at once: start the page, send it requests for a while, and write down how it fared.

    PIX2PIX_MODEL=runs/mine python benchmarks/load.py --users 50 --seconds 120 --output load.json

Each user sends one request after the other, with no pause: in turn a photo to sketch, a sketch to photo and a frame of
the pad. Whoever is told that the page is busy waits a second and goes on. The exit status is 1 if any request failed
otherwise. The users run on the same machine as the page, so the times are an upper bound.
"""

import argparse
import asyncio
import base64
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "space" / "examples"
PAUSE_WHEN_BUSY = 1.0  # seconds
READINGS = 12  # of the server's memory
KINDS = ("photo_to_sketch", "sketch_to_photo", "pad")


class Record:
    """What happened: the seconds that each answered request took, who was told to wait, and what went wrong."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.busy: dict[str, int] = defaultdict(int)
        self.errors: dict[str, list[str]] = defaultdict(list)
        self.memory: list[int] = []  # MB, at equal intervals


class Visitor:
    """One user with a connection of their own."""

    def __init__(self, address: str, number: int, pad: int, record: Record) -> None:
        self.client = httpx.AsyncClient(base_url=f"{address}/gradio_api", timeout=120, trust_env=False)
        self.number, self.pad, self.record = number, pad, record
        self.files: dict[str, str] = {}

    async def send(self, kind: str) -> bool:
        """Send one request; returns whether it was answered, rather than put off."""
        return await (self.paint() if kind == "pad" else self.translate(kind))

    async def translate(self, endpoint: str) -> bool:
        name = "astronaut.jpg" if endpoint == "photo_to_sketch" else "drawn-8-sketch.png"
        if name not in self.files:
            sent = await self.client.post("/upload", files={"files": (name, (EXAMPLES / name).read_bytes())})
            sent.raise_for_status()
            self.files[name] = sent.json()[0]
        picture = {"path": self.files[name], "meta": {"_type": "gradio.FileData"}}
        arguments = [picture, endpoint == "photo_to_sketch", 1, False, None, 1.0, ""]
        asked = await self.client.post(f"/call/{endpoint}", json={"data": arguments})
        if asked.status_code == 503:
            return False
        asked.raise_for_status()
        answer = await self.client.get(f"/call/{endpoint}/{asked.json()['event_id']}")
        if "event: complete" not in answer.text:
            raise RuntimeError(answer.text.strip()[-200:])
        return True

    async def paint(self) -> bool:
        drawing = base64.b64encode((EXAMPLES / "drawn-8-sketch.png").read_bytes()).decode()
        frame = {"drawing": f"data:image/png;base64,{drawing}", "model": "", "exact": False}
        body = {"data": frame, "fn_name": "paint", "component_id": self.pad, "session_hash": f"visitor{self.number}"}
        answer = await self.client.post("/component_server", json=body)
        answer.raise_for_status()
        painted = answer.json()
        if not painted.get("photo") and not painted.get("busy"):
            raise RuntimeError(painted.get("note"))
        return bool(painted.get("photo"))

    async def visit(self, until: float) -> None:
        turn = self.number
        while time.perf_counter() < until:
            kind = KINDS[turn % len(KINDS)]
            turn += 1
            begin = time.perf_counter()
            try:
                if await self.send(kind):
                    self.record.seconds[kind].append(time.perf_counter() - begin)
                else:
                    self.record.busy[kind] += 1
                    await asyncio.sleep(PAUSE_WHEN_BUSY)
            except (httpx.HTTPError, RuntimeError, ValueError) as error:
                self.record.errors[kind].append(f"{type(error).__name__}: {error}")
                await asyncio.sleep(PAUSE_WHEN_BUSY)
        await self.client.aclose()


def pad_of(address: str) -> int:
    """The number that the page gives its pencil pad."""
    config = httpx.get(f"{address}/config", timeout=60, trust_env=False).json()
    return next(part["id"] for part in config["components"] if part["props"].get("elem_id") == "pad")


async def load(address: str, users: int, seconds: float, server: psutil.Process | None = None) -> Record:
    """Let that many users visit the page for that many seconds; read the memory of the server, if it is given, twelve times."""
    pad = pad_of(address)
    record = Record()
    begin = time.perf_counter()

    async def watch() -> None:
        for part in range(1, READINGS + 1):
            await asyncio.sleep(max(0, begin + part * seconds / READINGS - time.perf_counter()))
            record.memory.append(round(megabytes(server)))

    visits = [Visitor(address, number, pad, record).visit(begin + seconds) for number in range(users)]
    await asyncio.gather(*visits, *([watch()] if server else []))
    return record


def serve(folder: Path, **more: str) -> tuple[subprocess.Popen, str]:
    """Start the page on a free port and wait until it answers.

    Args:
        folder: For its uploads and results.
        more: Environment variables for it.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    port = held.getsockname()[1]
    if sys.platform != "linux":  # where a server may listen on a port that is held, and nobody else gets it meanwhile
        held.close()
    environment = os.environ | {"GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(folder)} | more
    server = subprocess.Popen([sys.executable, ROOT / "space" / "app.py"], env=environment, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    for _ in range(2400):
        if server.poll() is not None:
            raise RuntimeError("the page did not start; run `python space/app.py` to see why")
        try:
            httpx.get(address, timeout=5, trust_env=False).raise_for_status()
            held.close()
            return server, address
        except httpx.HTTPError:
            time.sleep(0.05)
    server.terminate()
    raise RuntimeError("the page did not answer within two minutes")


def megabytes(process: psutil.Process) -> float:
    """Resident memory of a process, in MB."""
    return process.memory_info().rss / 1e6


def summary(record: Record, users: int, seconds: float, memory: dict) -> dict:
    """The numbers, ready for JSON; times in milliseconds, memory in MB."""
    kinds = {}
    for kind in KINDS:
        times = sorted(1000 * value for value in record.seconds[kind])
        kinds[kind] = {
            "answered": len(times),
            "busy": record.busy[kind],
            "errors": len(record.errors[kind]),
            "first_error": next(iter(record.errors[kind]), None),
            "mean_ms": round(statistics.fmean(times), 1) if times else None,
            **{f"p{p}_ms": round(times[len(times) * p // 100], 1) if times else None for p in (50, 90, 99)},
            "max_ms": round(times[-1], 1) if times else None,
        }
    return {"users": users, "seconds": seconds, "kinds": kinds, "memory_mb": memory}


def table(result: dict) -> str:
    """The summary as lines to read."""
    columns = ("answered", "busy", "errors", "mean_ms", "p50_ms", "p90_ms", "p99_ms", "max_ms")
    lines = [f"{'request':<16}" + "".join(f"{column:>10}" for column in columns)]
    for kind, row in result["kinds"].items():
        lines.append(f"{kind:<16}" + "".join(f"{'-' if row[column] is None else row[column]:>10}" for column in columns))
    memory = result["memory_mb"]
    meanwhile = ", ".join(map(str, memory["meanwhile"]))
    lines.append(
        f"memory of the server: {memory['before']:.0f} MB before, {memory['after']:.0f} MB after; meanwhile {meanwhile}"
    )
    lines += [f"first error of {kind}: {row['first_error']}" for kind, row in result["kinds"].items() if row["errors"]]
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """The command line of this program."""
    parser = argparse.ArgumentParser(description="Measure the page under many users at once.")
    parser.add_argument("--users", type=int, default=50, help="how many at the same time, from 1 (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=120, help="for how long, in seconds (default: %(default)s)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the numbers there, as JSON")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    command = parser()
    args = command.parse_args(argv)
    if args.users < 1 or args.seconds <= 0:
        command.error("--users must be at least 1 and --seconds above 0")
    with tempfile.TemporaryDirectory() as folder:
        server, address = serve(Path(folder))
        try:
            asyncio.run(load(address, 1, 3))  # the model is loaded and every road has been gone once
            process = psutil.Process(server.pid)
            memory = {"before": megabytes(process)}
            record = asyncio.run(load(address, args.users, args.seconds, process))
            memory |= {"meanwhile": record.memory, "after": megabytes(process)}
        finally:
            server.terminate()
            server.wait()
    result = summary(record, args.users, args.seconds, memory)
    print(table(result))
    if args.output:
        args.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 1 if any(row["errors"] for row in result["kinds"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
