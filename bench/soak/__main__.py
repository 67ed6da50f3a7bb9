"""`make soak`, see the package. Prints a table; exits with 1 if a target is missed."""

import argparse
import itertools
import platform
import random
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import psutil

from bench.rows import Row, available_cores, print_header, print_row
from bench.soak.checks import Snapshot, check_disk, check_logs, check_turns, compare, take_snapshot
from bench.soak.simulated_user import SimulatedUser
from phi3_ui.cli.console import SetupPrinter
from phi3_ui.provision.first_run import FirstRun
from phi3_ui.settings import Settings
from phi3_ui.store.registry.catalogue import Catalogue
from phi3_ui.ui.asset_urls import ICONS_URL
from tests.support.app_server import Server, find_free_port, serve, wait_until

_EXCUSED_SECONDS = 60.0  # after a kill: the app starts, the model is loaded, the page reconnects
_GRACE_SECONDS = 5
_IDLE_SECONDS = 10  # after which AnyIO ends an idle thread; see anyio._backends._asyncio.WorkerThread
_KILLING, _WARMING = 0.5, 0.2  # shares of the time: kills, then a warm-up; the rest is between the two snapshots


class Soak:
    """One run: an app that is killed and restarted, and its simulated users."""

    def __init__(self, home: Path, users: int, seed: int) -> None:
        self._home, self._port = home, find_free_port()
        self._random = random.Random(seed)
        self._stack = ExitStack()
        self._starts = itertools.count()
        self._kills: list[float] = []
        self.killed = Counter[str]()
        self.server = self._start()
        names = ["Anna", "Ben", "Chloe", "David", "Elena", "Farid", "Grace", "Hugo"][:users]
        url = f"http://127.0.0.1:{self._port}"
        self.users = [SimulatedUser(name, url, seed + number, self._is_excused) for number, name in enumerate(names, 1)]

    def _start(self) -> Server:
        temporary = self._home / "tmp"
        temporary.mkdir(exist_ok=True)
        variables = {
            "TMPDIR": str(temporary),
            "PHI3_SOAK_SNAPSHOT": str(self._home / "snapshot.json"),
            "PHI3_UI_GRACE_SECONDS": str(_GRACE_SECONDS),
        }
        log = self._home / f"app-{next(self._starts)}.log"
        return self._stack.enter_context(
            serve(self._home, log, "bench/soak/app.py", port=self._port, variables=variables)
        )

    def _is_excused(self, began: float) -> bool:
        """Return whether a process was killed after `began`, or so shortly before that it affects users."""
        return any(kill > began - _EXCUSED_SECONDS for kill in self._kills)

    def kill(self, count: int, seconds: float) -> None:
        """Kill the app or a model's process `count` times within `seconds`."""
        started = time.monotonic()
        for number in range(1, count + 1):
            _wait_until(started + seconds * number / (count + 1))
            models = self.server.model_processes()
            self._kills.append(time.monotonic())
            if models and number % 2:
                self._random.choice(models).kill()
                self.killed["model"] += 1
            else:
                self.server.process.kill()
                self.server.process.wait()
                self.killed["app"] += 1
                self.server = self._start()
                self._kills.append(time.monotonic())
        _wait_until(started + seconds)

    def take_quiet_snapshot(self) -> Snapshot:
        """Make all users leave, wait until the app has noticed, and take a snapshot."""
        for user in self.users:
            user.leave()
        for user in self.users:
            user.is_away.wait()
        file = self._home / "snapshot.json"

        def is_quiet() -> bool:
            now = take_snapshot(self.server, file)
            return not (now.answers or now.claims or now.streams)

        wait_until(is_quiet, 60)
        time.sleep(_GRACE_SECONDS + _IDLE_SECONDS)
        self._end_idle_threads()
        return take_snapshot(self.server, file)

    def _end_idle_threads(self) -> None:
        """End all idle threads but one in AnyIO's pool.

        The pool grows with concurrent calls, and ends threads that have been idle for 10 s only when it is used again. A
        thread leaked by a call stays, and is counted.
        """
        with urllib.request.urlopen(f"{self.server.url}/{ICONS_URL}", timeout=60) as response:
            response.read()  # a file, which the app reads in the pool
        time.sleep(1)

    def return_all(self) -> None:
        for user in self.users:
            user.come_back()

    def end(self) -> None:
        """Shut down the app and the users' threads gracefully, after `take_quiet_snapshot`."""
        self._stack.close()
        for user in self.users:
            user.come_back(for_good=False)
            user.join()


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Use the app at random, with kills; then check for leaks and lost data."
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--users", type=int, default=4)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    seconds = arguments.minutes * 60
    with tempfile.TemporaryDirectory(prefix="soak-") as temporary:
        home = Path(temporary)
        settings = _set_up(home)
        soak = Soak(home, arguments.users, arguments.seed)
        for user in soak.users:
            user.start()
        soak.kill(arguments.kills, seconds * _KILLING)
        time.sleep(seconds * _WARMING)
        before = soak.take_quiet_snapshot()
        soak.return_all()
        time.sleep(seconds * (1 - _KILLING - _WARMING))
        after = soak.take_quiet_snapshot()
        processes = soak.server.process.children(recursive=True)
        soak.end()
        rows = list(_rows(soak, settings, before, after, processes))
        _print(arguments, soak, rows)
    sys.exit(any(row.met is False for row in rows))


def _set_up(home: Path) -> Settings:
    """Set up a separate store with the demo models."""
    settings = Settings.read({"PHI3_UI_HOME": str(home)})
    setup = FirstRun(settings, Catalogue(settings.tracking_uri), SetupPrinter())
    setup.start()
    if error := setup.wait().error:
        sys.exit(str(error))
    return settings


def _rows(
    soak: Soak, settings: Settings, before: Snapshot, after: Snapshot, processes: list[psutil.Process]
) -> Iterator[Row]:
    faults = [fault for user in soak.users for fault in user.faults]
    yield Row("errors seen by users, without a kill in the preceding minute", str(len(faults)), "0", not faults)
    asked = sum((user.asked for user in soak.users), Counter[str]())
    finished = sum((user.finished for user in soak.users), Counter[str]())
    yield from check_turns(settings.tracking_uri, asked, finished)
    yield from compare(before, after)
    left = [process for process in processes if process.is_running()]
    yield Row("leftover processes", f"{len(left)} of {len(processes)}", "0", not left)
    yield from check_disk(settings.home)
    yield from check_logs(settings.home)


def _print(arguments: argparse.Namespace, soak: Soak, rows: list[Row]) -> None:
    for user in soak.users:
        for fault in user.faults:
            print(f"{user.name}: {fault}", file=sys.stderr)
    done = sum((user.done for user in soak.users), Counter[str]())
    machine = f"{platform.machine()}, {available_cores()} cores, Python {platform.python_version()}"
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {machine}; {arguments.users} users, {arguments.minutes:g} minutes, seed {arguments.seed}\n"
    )
    print(f"Done: {', '.join(f'{count} × {what}' for what, count in done.most_common())}.")
    print(f"Killed (-9): {', '.join(f'{count} × {what}' for what, count in soak.killed.items())}.\n")
    print_header()
    for row in rows:
        print_row(row)


def _wait_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


if __name__ == "__main__":
    main()
