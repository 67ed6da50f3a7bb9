"""Cost of logging a large ONNX folder (time, memory, disk), compared with `cp -r` and MLflow's default."""

import argparse
import json
import multiprocessing
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GIGABYTE = 10**9
_CHUNK = 1 << 24
_OTHER_DISK = Path("/dev/shm")


@dataclass(frozen=True)
class Cost:
    """Seconds; peak bytes of memory in addition to the imports (None: unknown); peak and final bytes on disk."""

    seconds: float
    memory: int | None
    peak: int
    left: int


def print_tables(gigabytes: float, beside: Path) -> None:
    """Create a folder of this size in `beside`, and print the cost of logging it to the same disk and to another."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=beside) as folder:
        home = Path(folder)
        source = make_onnx_folder(home / "weights-onnx", int(gigabytes * GIGABYTE))
        print_table(f"Logging {gigabytes:g} GB into a store on the same disk", source, home / "store", home)
        if _OTHER_DISK.is_dir() and _OTHER_DISK.stat().st_dev != home.stat().st_dev:
            # MLflow's default needs twice the size at its peak, plus the source.
            room = read_free_space(_OTHER_DISK) / 3 / GIGABYTE
            if room < gigabytes:
                gigabytes = int(10 * room) / 10
                source = make_onnx_folder(home / "fewer-weights-onnx", int(gigabytes * GIGABYTE))
            with tempfile.TemporaryDirectory(dir=_OTHER_DISK) as other:
                print_table(
                    f"Logging {gigabytes:g} GB into a store on another disk", source, Path(other) / "store", home
                )


def print_table(title: str, source: Path, store: Path, home: Path) -> None:
    store.mkdir()
    print(f"| {title} | seconds | memory, MB | peak disk usage, GB | final disk usage, GB |")
    print("|---|---|---|---|---|")
    ways: dict[str, Callable[[], tuple[float, int | None]]] = {
        "cp -r": lambda: copy_folder(source, store / "copy"),
        "ours": lambda: log_paced_model(source, store / "linked", home, linking=True),
        "MLflow without linking": lambda: log_paced_model(source, store / "plain", home, linking=False),
    }
    for name, way in ways.items():
        cost = measure_cost(way, [store, home])
        memory = "" if cost.memory is None else f"{cost.memory / 1e6:.0f}"
        print(f"| {name} | {cost.seconds:.2f} | {memory} | {cost.peak / 1e9:.2f} | {cost.left / 1e9:.2f} |", flush=True)
        subprocess.run(["rm", "-rf", *map(str, store.iterdir())], check=True)
    print(flush=True)


def make_onnx_folder(folder: Path, size: int) -> Path:
    """Create a folder that is accepted as an ONNX Runtime GenAI model, with `size` random bytes as weights."""
    folder.mkdir()
    texts: dict[str, dict[str, Any]] = {
        "genai_config.json": {"model": {"context_length": 4096, "decoder": {"filename": "model.onnx"}}},
        "tokenizer_config.json": {"chat_template": "{{ messages[0].content }}", "eos_token": "<|end|>"},
        "tokenizer.json": {"added_tokens": [{"id": 0, "content": "<|end|>", "special": True}], "model": {"vocab": {}}},
    }
    for name, content in texts.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    (folder / "model.onnx").touch()
    with (folder / "model.onnx.data").open("wb") as weights:
        for start in range(0, size, _CHUNK):
            weights.write(os.urandom(min(_CHUNK, size - start)))
        weights.flush()
        os.fsync(weights.fileno())
    return folder


def measure_cost(way: Callable[[], tuple[float, int | None]], folders: list[Path]) -> Cost:
    before = measure_disk_usage(folders)
    with track_peak(folders) as peak:
        seconds, memory = way()
    after = measure_disk_usage(folders)
    return Cost(seconds, memory, max(peak[0], after) - before, after - before)


def copy_folder(source: Path, target: Path) -> tuple[float, None]:
    started = time.perf_counter()
    subprocess.run(["cp", "-r", str(source), str(target)], check=True)
    return time.perf_counter() - started, None


def log_paced_model(source: Path, store: Path, temporary: Path, linking: bool) -> tuple[float, int]:
    """Log in a separate process. Return the seconds and the bytes of memory."""
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_log, args=(source, store, temporary, linking, sending))
    process.start()
    sending.close()
    try:
        result: tuple[float, int] = receiving.recv()
    finally:
        process.join()
    return result


def _log(source: Path, store: Path, temporary: Path, linking: bool, sending: Any) -> None:
    import resource

    from models import log_onnx
    from models.presets import Origin
    from models.tracking import Store

    def used() -> int:
        """Return the peak resident memory of this process so far, in bytes."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    tempfile.tempdir = str(temporary)
    if not linking:
        setattr(log_onnx, "linked_logging", nullcontext)  # noqa: B010 (the function is not part of its interface)
    store.mkdir()
    destination = Store(f"sqlite:///{store / 'mlflow.db'}", (store / "artifacts").as_uri())
    destination.experiment_id()  # creates the tables, which is a cost per store, not per model
    origin = Origin(preset="", name="bench", title="bench", source="bench", license="")
    before, started = used(), time.perf_counter()
    log_onnx.log(source, origin, "int4", destination, lambda *_: None, measured=False, registering=False)
    sending.send((time.perf_counter() - started, used() - before))


@contextmanager
def track_peak(folders: list[Path]) -> Iterator[list[int]]:
    """Track the peak bytes on disk of these folders during the block, sampled a hundred times per second."""
    peak, ended = [measure_disk_usage(folders)], threading.Event()

    def watch() -> None:
        while not ended.wait(0.01):
            peak[0] = max(peak[0], measure_disk_usage(folders))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


def measure_disk_usage(folders: list[Path]) -> int:
    """Return the bytes on disk of the files in these folders; hard links count once."""
    sizes: dict[tuple[int, int], int] = {}
    for folder in folders:
        for place, _, files in os.walk(folder):
            for file in files:
                with suppress(FileNotFoundError):  # deleted in the meantime
                    found = os.lstat(os.path.join(place, file))
                    sizes[found.st_dev, found.st_ino] = found.st_blocks * 512
    return sum(sizes.values())


def read_free_space(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure the cost of logging a large folder.")
    parser.add_argument("--gigabytes", type=float, default=3)
    parser.add_argument(
        "--beside", type=Path, default=Path.cwd(), help="a folder on a disk with more than twice that much free"
    )
    arguments = parser.parse_args()
    print_tables(arguments.gigabytes, arguments.beside)
