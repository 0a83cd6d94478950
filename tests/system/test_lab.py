"""A lab as it is: SSH servers, an emulated board, hosts that vanish, a disk that is full, and a thousand devices."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from edgeprune.bundle import open_bundle
from edgeprune.interleaved.settings import Settings
from edgeprune.lab.collect import Collector, CollectSettings, planned
from edgeprune.lab.inventory import read_lab
from edgeprune.lab.journal import DONE, FAILED, FILE, Journal
from edgeprune.results import read_measured
from tests.sshd import Server, free_port, serving

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
DEVICES = int(os.environ.get("EDGEPRUNE_DEVICES", "1000"))
KINDS = {"fails": 0.10, "hangs": 0.05, "garbage": 0.01}
MOST_OVERHEAD_S = 0.005
MOST_APART = 1e-5
"""Of the largest answer, where floats are added in another order."""


def lab(*words: object, folder: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeprune", "lab", *map(str, words)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900, check=False)
    assert not check or done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done


def inventory(folder: Path, *devices: dict[str, Any]) -> None:
    (folder / "lab.yaml").write_text(yaml.safe_dump({"devices": [{"target": "cpu", **one} for one in devices]}))


def reached(server: Server, name: str, folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "name": name, "host": server.address, "port": server.port, "key": str(server.folder / "user"),
        "ssh_config": str(server.config), "python": sys.executable,
        "folder": str(folder / f"of-{name}"), **more,
    }  # fmt: skip


def table(folder: Path, *words: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(lab("table", "--json", *words, folder=folder).stdout)
    return found


def left_on(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name != "lease"]


def test_a_device_behind_ssh_measures_what_this_machine_does(bundles, tmp_path):
    """The same machine, once over SSH and once directly: equal within their intervals, and equal accuracy."""
    bundle = open_bundle(bundles["cpu"])
    with serving(tmp_path / "sshd") as server:
        inventory(tmp_path, reached(server, "far", tmp_path), {"name": "here", "transport": "local"})
        assert "far: ready" in lab("check", folder=tmp_path).stdout
        for device in ("far", "here"):  # one after the other: they are one machine
            lab("collect", bundle.root, "--devices", device, "--eval", 10_000, folder=tmp_path)
    rows = {(row["device"], row["variant"]): row for row in table(tmp_path)}
    for (device, variant), row in rows.items():
        assert row["judged_on"] == "device"
        assert (row["fallbacks"], row["emulated"], row["run"]) == (0, False, 1 if device == "far" else 2)
        assert row["accuracy"] == rows["here", variant]["accuracy"]
        assert row["environment"]
    host = read_measured(bundle.measured_path)
    decided = {one.variant: one.accuracy for one in (host.baseline, *host.measurements)}
    for (_, variant), row in rows.items():
        (report,) = (one for one in decided[variant] if one.split == "report")
        assert row["accuracy"] == report.value.estimate
    for variant in {variant for _, variant in rows}:
        far, here = rows["far", variant], rows["here", variant]
        assert (
            far["p50_low_ms"] <= here["p50_high_ms"] * 1.25
        )  # other programs run beside, of which intervals know nothing
        assert here["p50_low_ms"] <= far["p50_high_ms"] * 1.25
        print(f"{variant}: over SSH {far['p50_ms']:.4f} ms, directly {here['p50_ms']:.4f} ms")
    assert left_on(tmp_path / "of-far") == []


def test_two_collectors_at_once_take_turns_on_a_device(bundles, tmp_path):
    with serving(tmp_path / "sshd") as server:
        inventory(tmp_path, reached(server, "one", tmp_path))
        command = [sys.executable, "-m", "edgeprune", "lab", "collect", str(bundles["cpu"]), "--restarts", "2"]
        both = [
            subprocess.Popen([*command, "--out", name], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
            for name in ("first", "second")
        ]
        said = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("in use by" in text for text in said) == 1
    spans = []
    for name in ("first", "second"):
        with Journal(tmp_path / name) as journal:
            (record,) = journal.records()
            assert (record.state, record.attempts) == (DONE, 1)
            spans.append(record)
    assert left_on(tmp_path / "of-one") == []


def test_a_disk_that_is_full_is_told_and_the_next_device_goes_on(bundles, tmp_path):
    small = tmp_path / "of-small"
    small.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(small)], capture_output=True)
    if made.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        with serving(tmp_path / "sshd") as server:
            inventory(tmp_path, reached(server, "small", tmp_path), reached(server, "large", tmp_path))
            done = lab("collect", bundles["cpu"], "--restarts", 2, folder=tmp_path, check=False)
            assert done.returncode == 5
            assert "MB free on its disk" in lab("check", "--devices", "small", folder=tmp_path, check=False).stdout
        assert left_on(small) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)
    states = {row["device"]: row["state"] for row in table(tmp_path)}
    assert "its disk is full: make room" in states["small"]
    assert states["large"] == "measured"


@contextmanager
def host(number: int) -> Iterator[tuple[str, list[str], str]]:
    """A host of its own in a network namespace: its address, the words to run something there, our end of its cable."""
    name, ours, theirs = f"ep{os.getpid() % 10000}-{number}", f"ep{number}a", f"ep{number}b"
    address = f"10.231.{number}.2"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here: {error}")
    try:
        ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
        ip("addr", "add", f"10.231.{number}.1/24", "dev", ours)
        ip("link", "set", ours, "up")
        ip("-n", name, "addr", "add", f"{address}/24", "dev", theirs)
        ip("-n", name, "link", "set", theirs, "up")
        ip("-n", name, "link", "set", "lo", "up")
        yield address, ["ip", "netns", "exec", name], ours
    finally:
        subprocess.run(["ip", "link", "del", ours], check=False, capture_output=True)
        ip("netns", "del", name)


def test_a_host_that_is_cut_off_midway_is_a_row_and_the_others_are_measured(bundles, tmp_path):
    with ExitStack() as stack:
        devices, cables = [], []
        for number in range(3):
            address, words, cable = stack.enter_context(host(number))
            server = stack.enter_context(serving(tmp_path / f"sshd-{number}", address=address, before=words))
            devices.append(reached(server, f"host-{number}", tmp_path))
            cables.append(cable)
        inventory(tmp_path, *devices)
        words = ["collect", str(bundles["cpu"]), "--restarts", "4", "--attempts", "2", "--limit", "300"]
        collector = subprocess.Popen(
            [sys.executable, "-m", "edgeprune", "lab", *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True
        )
        working = tmp_path / "of-host-1" / "work" / "inputs-.npz"
        deadline = time.monotonic() + 120
        while not working.exists():  # it has begun to measure
            assert time.monotonic() < deadline
            time.sleep(0.05)
        subprocess.run(["ip", "link", "set", cables[1], "down"], check=True)
        _, said = collector.communicate(timeout=600)
        assert collector.returncode == 5, said
        states = {row["device"]: row["state"] for row in table(tmp_path)}
        assert states["host-0"] == states["host-2"] == "measured"
        assert "lost" in states["host-1"] or "connection failed" in states["host-1"], states
        assert "host-1: " in said
        for number in (0, 2):
            assert left_on(tmp_path / f"of-host-{number}") == []
        # the keeper there has heard nothing for 30 s: what ran is ended, and the rest goes after another minute
        deadline = time.monotonic() + 150
        while left_on(tmp_path / "of-host-1"):
            assert time.monotonic() < deadline, left_on(tmp_path / "of-host-1")
            time.sleep(1)
        subprocess.run(["ip", "link", "set", cables[1], "up"], check=True)
        lab(*words, "--retry", folder=tmp_path)
    states = {(row["device"], row["variant"]): row["state"] for row in table(tmp_path)}
    assert set(states.values()) == {"measured"}


def test_an_emulated_board_answers_as_this_machine_does_and_no_time_of_it_is_reported(emulated_root, tmp_path):
    folder = emulated_root / "lab"
    shutil.rmtree(folder, ignore_errors=True)
    mounted = emulated_root / "proc"
    subprocess.run(["mount", "-t", "proc", "proc", str(mounted)], check=True)
    try:
        bundle, recipe = tmp_path / "cnn-rpi5", tmp_path / "narrow.yaml"
        recipe.write_text("quantize: {precision: int4, corrections: []}")
        subprocess.run(
            [sys.executable, "-m", "edgeprune", "compile", "--target", "rpi5", "--epochs", "1", "--max-drop", "100",
             "--recipe", str(recipe), "--out", str(bundle), "-q"],
            env=os.environ | {"EDGEPRUNE_CACHE": str(tmp_path / "cache")}, check=True, capture_output=True,
        )  # fmt: skip
        with serving(folder, before=["chroot", str(emulated_root)], root=emulated_root) as server:
            declared = reached(server, "board", tmp_path, target="rpi5", python="python3") | {"folder": "/lab/device"}
            inventory(tmp_path, declared)  # not said to be emulated: it is found out
            health = json.loads(lab("check", "--json", folder=tmp_path).stdout)[0]
            assert (health["state"], health["emulated"]) == ("ready", True)
            assert any("it is emulated, which lab.yaml does not say" in warning for warning in health["warnings"])
            lab("collect", bundle, "--eval", 100, folder=tmp_path)
            refused = lab("operators", "--device", "board", "--for", bundle, folder=tmp_path, check=False)
            assert (refused.returncode, "it is emulated" in refused.stderr) == (4, True)
        assert left_on(folder / "device") == []
    finally:
        subprocess.run(["umount", "-l", str(mounted)], check=True)
    rows = table(tmp_path)
    assert {row["variant"] for row in rows} == {"baseline", "ort-fp32", "ort-int8", "ort-int4"}
    assert {layer.weight_bits for layer in open_bundle(bundle).variant("ort-int4").layers} == {4}
    assert all(row["emulated"] and row["p50_ms"] is None and row["memory_mb"] is None for row in rows)
    assert {row["judged_on"] for row in rows} == {"device"}
    assert {row["fallbacks"] for row in rows} == {0}
    assert "| not reported: emulated |" in lab("table", folder=tmp_path).stdout
    _answers_as_here(bundle, tmp_path / "lab_results" / "evidence" / "board" / "cnn-rpi5")


def _answers_as_here(bundle: Path, evidence: Path) -> None:
    """INT8 is the same arithmetic on ARM as on x86, and so it is with weights that are stored in 4 bits."""
    from edgeprune.api import load

    opened = open_bundle(bundle)
    with np.load(bundle / "samples.npz") as file:
        feeds = {spec.name: file[spec.name] for spec in opened.core.inputs}
    for variant in opened.core.variants:
        with (
            load(opened, variant.name, batch=len(next(iter(feeds.values())))) as runner,
            np.load(evidence / f"{variant.name}.npz") as found,
        ):
            for name, array in runner.infer(feeds).items():
                worst = float(np.abs(found[name] - array).max())
                print(f"{variant.name}: {name}: {worst:.2g} apart at most, of {np.abs(array).max():.2g}")
                assert worst <= (MOST_APART * np.abs(array).max() if variant.precision == "fp32" else 0)


def simulated(folder: Path, count: int) -> dict[str, str]:
    """An inventory of so many devices; what each of them does."""
    kinds: list[str] = [kind for kind, share in KINDS.items() for _ in range(round(share * count))]
    kinds += ["healthy"] * (count - len(kinds))
    random.Random(3).shuffle(kinds)
    named = {f"d{number:04}": kind for number, kind in enumerate(kinds)}
    inventory(
        folder, *({"name": name, "transport": "simulated", "simulated": {"kind": kind}} for name, kind in named.items())
    )
    return named


def finished(folder: Path) -> dict[str, tuple[str, str]]:
    """By device how and when it ended."""
    if not (folder / "lab_results" / FILE).is_file():
        return {}
    with Journal(folder / "lab_results") as journal:
        return {one.job.device: (one.state, one.at) for one in journal.records() if one.state in (DONE, FAILED)}


def test_a_thousand_devices_each_finish_once_though_the_collector_is_killed_three_times(bundles, tmp_path):
    named, instants = simulated(tmp_path, DEVICES), random.Random(4)
    words = ["--restarts", "1", "--seconds", "0.01", "--limit", "20", "--attempts", "1", "--at-once", "40", "-q"]
    command = [sys.executable, "-m", "edgeprune", "lab", "collect", str(bundles["cpu"]), *words]
    before: dict[str, tuple[str, str]] = {}
    for _ in range(3):
        collector = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = len(before) + instants.randrange(DEVICES // 4)
        while len(finished(tmp_path)) <= until and collector.poll() is None:
            time.sleep(0.2)
        time.sleep(instants.uniform(0.0, 0.5))
        assert collector.poll() is None, "it was done before it could be killed"
        os.kill(collector.pid, signal.SIGKILL)
        collector.wait()
        after = finished(tmp_path)
        assert before.items() <= after.items(), "something that was finished was lost, or done again"
        print(f"killed with {len(after)} of {DEVICES} finished")
        before = after
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 5, done.stderr[-2000:]
    after = finished(tmp_path)
    assert before.items() <= after.items()
    assert {name: state for name, (state, _) in after.items()} == {
        name: DONE if kind == "healthy" else FAILED for name, kind in named.items()
    }
    with Journal(tmp_path / "lab_results") as journal:
        assert [one.id for one in journal.runs()] == [1]
        reasons = {one.job.device: one.reason for one in journal.records()}
    said = {"fails": "simulated failure", "hangs": "not done in 20 s", "garbage": "which is no answer"}
    assert all(said[kind] in reasons[name] for name, kind in named.items() if kind != "healthy")


def test_the_collector_takes_less_than_5_ms_for_a_job_and_its_memory_stays_flat(bundles, tmp_path):
    """All but the measuring itself: connecting, lease, queue, journal; with a real measurement's samples to keep."""
    simulated_count = DEVICES
    inventory(tmp_path, *({"name": f"d{number}", "transport": "simulated"} for number in range(simulated_count)))
    bundle, opened = open_bundle(bundles["cpu"]), read_lab(tmp_path / "lab.yaml")
    measured = read_measured(bundle.measured_path)
    resident: list[int] = []
    lock = threading.Lock()

    def measure(*_: Any, **__: Any) -> Any:
        with lock:
            resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize())
        return measured

    with Journal(tmp_path / "out") as journal:
        run = journal.begin(planned(opened.instances, [bundle]), "")
        collector = Collector(
            journal,
            tmp_path / "out",
            replace(CollectSettings(), measure=Settings()),
            {bundle.sha256: bundle},
            measure=measure,
        )
        began, began_cpu = time.monotonic(), time.process_time()
        collector.collect(run, opened.instances)
        wall, cpu = time.monotonic() - began, time.process_time() - began_cpu
        assert {one.state for one in journal.records(run=run)} == {DONE}
    tenth = simulated_count // 10
    early, late = max(resident[:tenth]), max(resident[-tenth:])
    print(
        f"{simulated_count} jobs: {1e3 * wall / simulated_count:.2f} ms each, {1e3 * cpu / simulated_count:.2f} ms of"
        f" processor time; resident {early / 1e6:.0f} MB in the first tenth, {late / 1e6:.0f} MB in the last"
    )
    assert cpu / simulated_count < MOST_OVERHEAD_S
    assert late < early * 1.1 + 5e6


@contextmanager
def cluster(folder: Path, *words: str) -> Iterator[int]:
    """A Dask scheduler and two workers on this machine; its port."""
    port = free_port()
    log = (folder / "cluster.log").open("w")
    address = f"{'tls' if words else 'tcp'}://127.0.0.1:{port}"
    dask = [sys.executable, "-m", "dask"]
    environment = os.environ | {"EDGEPRUNE_CACHE": str(folder / "cache")}
    commands = [
        [*dask, "scheduler", "--protocol", address[:3], "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"],
        [*dask, "worker", address, "--nworkers", "2", "--nthreads", "1", "--no-dashboard"],
    ]
    started = [
        subprocess.Popen([*command, *words], stdout=log, stderr=log, cwd=folder, env=environment)
        for command in commands
    ]
    try:
        yield port
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(30)
        log.close()


@pytest.mark.parametrize("encrypted", [False, True])
def test_many_models_are_compiled_for_many_targets_on_a_cluster(tmp_path, encrypted):
    pytest.importorskip("distributed")
    files: list[str] = []
    if encrypted:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=lab",
             "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"],
            cwd=tmp_path, check=True, capture_output=True,
        )  # fmt: skip
        cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
        files = ["--tls-ca-file", cert, "--tls-cert", cert, "--tls-key", key]
    with cluster(tmp_path, *files) as port:
        address = f"{'tls' if encrypted else 'tcp'}://127.0.0.1:{port}"
        options = ["--scheduler", address, *[word.replace("-ca-file", "-ca") for word in files]]
        done = lab(
            "compile", "lenet5", "cnn", "nosuch", "--targets", "rpi5,jetson", "--epochs", 1, "--max-drop", 100,
            *options, folder=tmp_path, check=False,
        )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "nosuch for rpi5: no bundle: unknown model 'nosuch'" in " ".join(done.stdout.split())
    made = {path.name: open_bundle(path) for path in (tmp_path / "build").iterdir()}
    assert set(made) == {f"{model}-{target}" for model in ("lenet5", "cnn") for target in ("rpi5", "jetson-orin-nano")}
    assert all(bundle.core.target in name for name, bundle in made.items())
