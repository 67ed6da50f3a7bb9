"""`make bench`: tables of what each step from the raw engine to the browser costs, and what logging costs."""

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
    "streaming": streaming.rows,
    "api": api.rows,
    "ray": ray.rows,
    "long-chats": long_chats.onnx,
    "long-chats-pipeline": long_chats.pipeline,
    "llama": llama.rows,
    "concurrency": concurrency.eight_users,
    "arrival": concurrency.long_prompt_arrival,
    "batching": batching.rows,
    "batching-memory": batching.memory,
    "capacity": capacity.rows,
    "stopping": stopping.rows,
    "startup": startup.rows,
    "page-load": page_load.rows,
    "store": store.rows,
    "switching": switching.rows,
    "history": history.rows,
    "imports": imports.rows,
    "chat-list": chat_list.rows,
    "evaluation": evaluation.rows,
    "ratings": evaluation.ratings,
}
AIMS = {"pyfunc": 0.98, "process": 0.98, "api": 0.97, "gradio_client": 0.97, "browser": 0.93}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what each step from the raw engine to the browser costs.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contract", choices=list(TOKENS), action="append", help="only this contract; may be repeated")
    parser.add_argument("--gigabytes", type=float, default=3, help="size of the folder whose logging is measured")
    parser.add_argument("--tuning", action="store_true", help="only the tables behind the chosen precision and threads")
    parser.add_argument("--only", choices=list(ROWS), action="append", help="only these rows; may be repeated")
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
    """`rounds` measurements of each path. The paths take turns within a round, so that noise affects all of them."""
    import mlflow

    mlflow.set_tracking_uri(entry.tracking_uri)
    spec = ModelSpec(entry.model_id, entry.name, entry.uri, entry.contract, entry.tracking_uri, folder=entry.folder)
    files = Path(mlflow.artifacts.download_artifacts(entry.uri))
    figures: dict[str, list[paths.Speed]] = {}
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        taken: dict[str, paths.AnswerPath] = {}
        if entry.contract == "prompt":
            from tokenizers import Tokenizer

            folder = next((files / "artifacts").iterdir())
            metadata = read_metadata(entry.uri)
            ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(paths.prompt_for(metadata)).ids
            threads = best_threads(lambda count: paths.raw_engine(folder, ids, count))
            taken["raw"] = stack.enter_context(paths.raw_engine(folder, ids, threads))
            taken["pyfunc"] = stack.enter_context(paths.pyfunc_stream(spec))
        else:
            folder = merge_checkpoint(files, temporary)
            threads = best_threads(lambda count: paths.raw_generate(folder, count))
            taken["raw"] = stack.enter_context(paths.raw_generate(folder, threads))
            taken["pyfunc"] = stack.enter_context(paths.pyfunc_hooked(spec))
        taken["process"] = stack.enter_context(paths.process(spec, temporary))
        server = stack.enter_context(serve(home, temporary / "app.log"))
        taken["api"] = stack.enter_context(paths.api(server.url, entry.model_id))
        taken["gradio_client"] = stack.enter_context(paths.gradio_client(server.url, entry.model_id))
        playwright = stack.enter_context(sync_playwright())
        launched = playwright.chromium.launch(executable_path=chromium.ensure(), args=chromium.FLAGS)
        page = launched.new_page(viewport={"width": 1400, "height": 900})
        page.goto(server.url)
        taken["browser"] = stack.enter_context(paths.browser(page, entry.name))
        for name, answer in taken.items():
            answer(16)  # warm
            figures[name] = []
        for _ in range(rounds):
            for name, answer in taken.items():
                figures[name].append(answer(TOKENS[entry.contract]))
        launched.close()
    return figures


def best_threads(raw: Callable[[int], AbstractContextManager[paths.AnswerPath]]) -> int:
    """The thread count with which the raw loop is fastest on this machine."""
    with ExitStack() as stack:
        counts = range(1, len(os.sched_getaffinity(0)) + 1)
        taken = {count: stack.enter_context(raw(count)) for count in counts}
        for answer in taken.values():
            answer(16)
        figures = [{count: answer(40).rate for count, answer in taken.items()} for _ in range(5)]
    rates = {count: statistics.median(of_round[count] for of_round in figures) for count in counts}
    return max(rates, key=lambda count: rates[count])


def merge_checkpoint(files: Path, temporary: Path) -> Path:
    """The checkpoint of a logged pipeline as one folder; MLflow stores weights and tokenizer separately."""
    folder = temporary / "checkpoint"
    folder.mkdir()
    for part in ("model", "components/tokenizer"):
        for file in (files / part).iterdir():
            if not (folder / file.name).exists():
                (folder / file.name).symlink_to(file)
    return folder


def print_table(contract: str, raw: str, figures: dict[str, list[paths.Speed]]) -> None:
    """Print medians over the rounds; a ratio is the median of the per-round ratios to the raw engine."""
    print(f"| {raw}, {TOKENS[contract]} tokens | tokens/s | ÷ raw | aim | first token, s |")
    print("|---|---|---|---|---|")
    for name, of_path in figures.items():
        rate = statistics.median(figure.rate for figure in of_path)
        ratio = statistics.median(one.rate / base.rate for one, base in zip(of_path, figures["raw"], strict=True))
        first = statistics.median(figure.first for figure in of_path)
        aim = f"≥ {AIMS[name]}" if name in AIMS else ""
        print(f"| {name} | {rate:.1f} | {ratio:.3f} | {aim} | {first:.3f} |", flush=True)
    print(flush=True)


if __name__ == "__main__":
    main()
