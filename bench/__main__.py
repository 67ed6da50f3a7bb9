"""`make bench`: print the overhead of each layer from the raw engine to the browser, and the cost of logging."""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from pathlib import Path

from playwright.sync_api import sync_playwright

from bench import (
    api,
    batching,
    capacity,
    chat_list,
    concurrency,
    evaluation,
    history,
    imports,
    llama,
    logging,
    long_chats,
    page_load,
    paths,
    ray,
    startup,
    stopping,
    store,
    streaming,
    switching,
    tuning,
)
from bench.rows import Bench, print_rows, read_metadata
from phi3_ui.cli.console import SetupPrinter
from phi3_ui.host.protocol import ModelSpec
from phi3_ui.provision.first_run import FirstRun
from phi3_ui.settings import Settings
from phi3_ui.store.registry.catalogue import Catalogue, ModelEntry
from tests.support import browser as chromium
from tests.support.app_server import serve

TOKENS = {"prompt": 300, "chat": 80}
ROWS = {
    "streaming": streaming.measure_rows,
    "api": api.measure_rows,
    "ray": ray.measure_rows,
    "long-chats": long_chats.measure_onnx,
    "long-chats-pipeline": long_chats.measure_pipeline,
    "llama": llama.measure_rows,
    "concurrency": concurrency.measure_concurrency,
    "arrival": concurrency.measure_arrival,
    "batching": batching.measure_rows,
    "batching-memory": batching.measure_memory,
    "capacity": capacity.measure_rows,
    "stopping": stopping.measure_rows,
    "startup": startup.measure_rows,
    "page-load": page_load.measure_rows,
    "store": store.measure_rows,
    "switching": switching.measure_rows,
    "history": history.measure_rows,
    "imports": imports.measure_rows,
    "chat-list": chat_list.measure_rows,
    "evaluation": evaluation.measure_rows,
    "ratings": evaluation.measure_ratings,
}
TARGETS = {"pyfunc": 0.98, "process": 0.98, "api": 0.97, "gradio_client": 0.97, "browser": 0.93}


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Measure the overhead of each layer from the raw engine to the browser."
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--contract", choices=list(TOKENS), action="append", help="measure only this contract; may be repeated"
    )
    parser.add_argument("--gigabytes", type=float, default=3, help="size of the folder whose logging is measured")
    parser.add_argument(
        "--tuning", action="store_true", help="print only the tables behind the choice of precision and threads"
    )
    parser.add_argument("--only", choices=list(ROWS), action="append", help="measure only these rows; may be repeated")
    arguments = parser.parse_args()
    rounds, contracts = arguments.rounds, arguments.contract or list(TOKENS)
    warnings.simplefilter("ignore")
    settings = Settings.read()
    catalogue = Catalogue(settings.tracking_uri)
    setup = FirstRun(settings, catalogue, SetupPrinter())
    setup.start()
    if error := setup.wait().error:
        sys.exit(str(error))
    entries = {entry.contract: entry for entry in catalogue.list_models() if entry.preset == settings.preset}
    cores = len(os.sched_getaffinity(0))
    print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {cores} cores, Python {platform.python_version()}\n")
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        bench = Bench(settings, entries, rounds, Path(temporary))
        if arguments.tuning:
            tuning.print_tables(bench)
            return
        print_rows(bench, {name: rows for name, rows in ROWS.items() if name in (arguments.only or ROWS)})
    if arguments.only:
        return
    for contract, raw in (("prompt", "raw onnxruntime-genai loop"), ("chat", "raw transformers generate")):
        if contract in contracts:
            print_table(contract, raw, measure_paths(entries[contract], settings.home, rounds))
    logging.print_tables(arguments.gigabytes, settings.home)


def measure_paths(entry: ModelEntry, home: Path, rounds: int) -> dict[str, list[paths.Speed]]:
    """Measure each path `rounds` times. Paths alternate within a round, so that noise affects all of them."""
    import mlflow

    mlflow.set_tracking_uri(entry.tracking_uri)
    spec = ModelSpec(entry.model_id, entry.name, entry.uri, entry.contract, entry.tracking_uri, folder=entry.folder)
    files = Path(mlflow.artifacts.download_artifacts(entry.uri))
    speeds: dict[str, list[paths.Speed]] = {}
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        answers: dict[str, paths.AnswerPath] = {}
        if entry.contract == "prompt":
            from tokenizers import Tokenizer

            folder = next((files / "artifacts").iterdir())
            metadata = read_metadata(entry.uri)
            ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(paths.render_prompt(metadata)).ids
            threads = find_best_threads(lambda count: paths.open_raw_engine(folder, ids, count))
            answers["raw"] = stack.enter_context(paths.open_raw_engine(folder, ids, threads))
            answers["pyfunc"] = stack.enter_context(paths.open_pyfunc_stream(spec))
        else:
            folder = merge_checkpoint(files, temporary)
            threads = find_best_threads(lambda count: paths.open_raw_generate(folder, count))
            answers["raw"] = stack.enter_context(paths.open_raw_generate(folder, threads))
            answers["pyfunc"] = stack.enter_context(paths.open_pyfunc_hooked(spec))
        answers["process"] = stack.enter_context(paths.open_process(spec, temporary))
        server = stack.enter_context(serve(home, temporary / "app.log"))
        answers["api"] = stack.enter_context(paths.open_api(server.url, entry.model_id))
        answers["gradio_client"] = stack.enter_context(paths.open_gradio_client(server.url, entry.model_id))
        playwright = stack.enter_context(sync_playwright())
        launched = playwright.chromium.launch(executable_path=chromium.ensure(), args=chromium.FLAGS)
        page = launched.new_page(viewport={"width": 1400, "height": 900})
        page.goto(server.url)
        answers["browser"] = stack.enter_context(paths.open_browser(page, entry.name))
        for name, answer in answers.items():
            answer(16)  # warm-up
            speeds[name] = []
        for _ in range(rounds):
            for name, answer in answers.items():
                speeds[name].append(answer(TOKENS[entry.contract]))
        launched.close()
    return speeds


def find_best_threads(raw: Callable[[int], AbstractContextManager[paths.AnswerPath]]) -> int:
    """Return the thread count with which the raw loop is fastest on this machine."""
    with ExitStack() as stack:
        counts = range(1, len(os.sched_getaffinity(0)) + 1)
        answers = {count: stack.enter_context(raw(count)) for count in counts}
        for answer in answers.values():
            answer(16)
        speeds = [{count: answer(40).rate for count, answer in answers.items()} for _ in range(5)]
    rates = {count: statistics.median(round_rates[count] for round_rates in speeds) for count in counts}
    return max(rates, key=lambda count: rates[count])


def merge_checkpoint(files: Path, temporary: Path) -> Path:
    """Link the checkpoint of a logged pipeline into one folder; MLflow stores weights and tokenizer separately."""
    folder = temporary / "checkpoint"
    folder.mkdir()
    for part in ("model", "components/tokenizer"):
        for file in (files / part).iterdir():
            if not (folder / file.name).exists():
                (folder / file.name).symlink_to(file)
    return folder


def print_table(contract: str, raw: str, speeds: dict[str, list[paths.Speed]]) -> None:
    """Print medians over the rounds; a ratio is the median of the per-round ratios to the raw engine."""
    print(f"| {raw}, {TOKENS[contract]} tokens | tokens/s | ÷ raw | target | first token, s |")
    print("|---|---|---|---|---|")
    for name, path_speeds in speeds.items():
        rate = statistics.median(speed.rate for speed in path_speeds)
        ratio = statistics.median(one.rate / base.rate for one, base in zip(path_speeds, speeds["raw"], strict=True))
        first = statistics.median(speed.first for speed in path_speeds)
        target = f"≥ {TARGETS[name]}" if name in TARGETS else ""
        print(f"| {name} | {rate:.1f} | {ratio:.3f} | {target} | {first:.3f} |", flush=True)
    print(flush=True)


if __name__ == "__main__":
    main()
