"""How the adaptive runner fares: every trace with fixed FP32, fixed INT8, the policy, and an oracle, on real samples.

    python benchmarks/serving.py build/resnet56-given-cpu build/bilstm-imdb-kept-cpu --out bench_results/serving

For each bundle one JSON file, written anew after each trace, and a table. The samples are those of the report split, in
turn, and what was served is scored by the bundle's own metric; for untrained weights and for questions, by whether the
answer is that of FP32. Phases last 5 s, or longer where that is less than PHASE inferences of FP32.

- `more missed`: points of requests that missed their deadline beyond those of fixed INT8 (1 is allowed)
- `of oracle`: the share served in FP32, over that of an oracle that misses no more (0.6 is wanted)
- `switch`: what the request after a decision waits for it, and what the first inference after it takes longer
- `overhead`: microseconds of `infer` of a session beyond those of the runner inside it, by turns: where that takes 1 ms
  and leaves the cache alone, and with the bundle's own
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from edgeprune.api import load
from edgeprune.backends.backend import Feeds, Runner
from edgeprune.bundle import Bundle, open_bundle
from edgeprune.cli.program import Program
from edgeprune.judge import QUESTIONS, Judge
from edgeprune.measure.latency import time_runs
from edgeprune.pipeline.measure import evaluation, same_splits
from edgeprune.pipeline.places import located_data
from edgeprune.pipeline.serving import added_bytes, capacity, compare, open_session, sampler_of
from edgeprune.serving.contention import Contention
from edgeprune.serving.policy import MS, most_accurate
from edgeprune.serving.replay import Outputs, Replayed
from edgeprune.serving.session import AdaptiveRunner, Variant
from edgeprune.serving.trace import GENERATED, generate
from edgeprune.tensor import TensorSpec
from edgeprune.worker.probe import probe

PHASE = 400
"""Inferences of the most precise variant in a phase, at least."""
MORE_MISSED, OF_ORACLE = 1.0, 0.6
TURNS = 1000
"""Of an inference with and one without the session."""


@dataclass(frozen=True)
class Pool:
    """Samples that requests are made of, in turn, and what scores their answers."""

    feeds: list[Feeds]
    judge: Judge | None
    """None: only agreement with FP32 can be told."""
    reference: list[Outputs]
    """What FP32 answers to each."""

    def score(self, run: Replayed) -> float:
        """Of all that was answered in a run."""
        rows = np.arange(len(run.answers)) % len(self.feeds)
        if self.judge is None:
            same = [
                _choices(answer) == _choices(self.reference[row]) for answer, row in zip(run.answers, rows, strict=True)
            ]
            return float(np.mean(same))
        joined = {name: np.concatenate([answer[name] for answer in run.answers]) for name in run.answers[0]}
        judge = replace(self.judge, truth=self.judge.truth[rows])
        return judge.value(judge.metrics[0], judge.answers(joined)).estimate


def _choices(outputs: Outputs) -> list[int]:
    """The best of each output: a class; of questions where the span begins and where it ends."""
    return [int(array.argmax()) for array in outputs.values()]


def pool(bundle: Bundle, session: AdaptiveRunner, samples: int) -> Pool:
    """The first samples of the report split."""
    split = evaluation(bundle, same_splits(bundle, located_data(bundle, None)), "report")
    feeds = list(itertools.islice(_singles(split.batches()), samples))
    judged = split.judge is not None and bundle.core.task.name != QUESTIONS
    judge = replace(split.judge, truth=split.judge.truth[: len(feeds)]) if judged else None
    if judge is not None:
        return Pool(feeds, judge, [])
    with load(bundle, session.rungs[0].name) as runner:
        return Pool(feeds, None, [runner.infer(one) for one in feeds])


def _singles(batches: Iterator[Feeds]) -> Iterator[Feeds]:
    for batch in batches:
        for row in range(len(next(iter(batch.values())))):
            yield {name: array[row : row + 1] for name, array in batch.items()}


def overhead_us(precise: Runner, fast: Runner, feeds: Feeds) -> float:
    """Of one `infer` of a session with its policy, beyond that of the very runner in it: by turns, the median."""
    variants = [Variant("precise", "fp32", None, lambda: precise), Variant("fast", "int8", None, lambda: fast)]
    plain = {0: precise, 1: fast}
    with AdaptiveRunner(variants, most_accurate(), feeds=feeds) as held:
        differences = []
        for _ in range(TURNS):
            with_us = _us(lambda: held.infer(feeds))
            differences.append(with_us - _us(lambda: plain[held.last.rung].infer(feeds)))
    return float(np.median(differences))


class Spinner:
    """A runner that takes its time and leaves the cache alone."""

    inputs = (TensorSpec("x", "float32", (1,)),)
    input_names = output_names = ("x",)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def infer(self, feeds: Feeds) -> dict[str, Any]:
        """Give the input back after that time."""
        end = perf_counter() + self._seconds
        while perf_counter() < end:
            pass
        return dict(feeds)

    def close(self) -> None:
        """Nothing is held."""


def overheads_us(bundle: Bundle, session: AdaptiveRunner, feeds: Feeds) -> dict[str, float]:
    """Over an inference of 1 ms that leaves the cache alone, and over the bundle's own."""
    own = (load(bundle, rung.name) for rung in (session.rungs[0], session.rungs[-1]))
    return {
        "of 1 ms": overhead_us(Spinner(1e-3), Spinner(5e-4), {"x": np.zeros(1, np.float32)}),
        "of its own": overhead_us(*own, feeds),
    }


def _us(run: Callable[[], object]) -> float:
    return 1e3 * time_runs(run, seconds=0, least=1, most=1)[0]


def measure(
    bundle: Bundle,
    *,
    traces: Sequence[str],
    holds: Sequence[int],
    phase_s: float,
    seed: int,
    samples: int,
    contended: bool,
    save: Callable[[dict[str, Any]], None],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """All traces of one bundle; `save` gets what is known after each."""
    sampler, power = sampler_of(bundle)
    with open_session(bundle, most_accurate(), precisions=("fp32", "int8"), sampler=sampler) as session:
        one = pool(bundle, session, samples)
        phase_s = max(phase_s, PHASE * session.rungs[0].service_ms / MS)
        found: dict[str, Any] = {
            "bundle": bundle.root.name,
            "model": bundle.core.model,
            "untrained": bundle.core.untrained,
            "scored_by": "agreement with FP32" if one.judge is None else one.judge.metrics[0].name,
            "environment": probe(),
            "power": power,
            "phase_s": phase_s,
            "seed": seed,
            "added_bytes": added_bytes(bundle, session),
            "overhead_us": overheads_us(bundle, session, one.feeds[0]),
            "traces": {},
        }
        able = capacity(session, one.feeds)
        jobs: list[tuple[str, str, Contention | None]] = [(name, name, None) for name in traces]
        if contended:
            busy = Contention(phase_s, 2 * phase_s, 2 * found["environment"]["cores"])
            jobs.append(("step, contended", "step", busy))
        for name, kind, contention in jobs:
            begin = perf_counter()
            trace = generate(kind, able, phase_s=phase_s, seed=seed)
            policies = {f"adaptive {hold}": (most_accurate(), hold) for hold in holds}
            done = compare(
                session, trace, policies, one.feeds, contention=contention, sampler=sampler, keep=lambda got: got
            )
            scores = {arm: one.score(run) for arm, run in done.runs.items()}
            found["traces"][name] = {**done.summary(), "scores": scores}
            save(found)
            say(f"{bundle.root.name} {name}: {perf_counter() - begin:.0f} s")
    return found


def table(results: Sequence[dict[str, Any]], holds: Sequence[int]) -> Table:
    shown = Table(title="served in FP32 and INT8 by load, beside what is fixed")
    for name in ("bundle", "trace", "hold", "missed %", "more missed", "of oracle", "FP32 %", "score", "of INT8"):
        shown.add_column(name, justify="left" if name in ("bundle", "trace") else "right", no_wrap=True)
    for name in ("FP32 missed %", "switch ms", "+ first ms"):
        shown.add_column(name, justify="right")
    for found in results:
        for trace, one in found["traces"].items():
            for hold in holds:
                name = f"adaptive {hold}"
                run, verdict = one["runs"][name], one["verdicts"][name]
                of_oracle, switch, after = verdict["share_of_oracle"], run["switch_ms"], run["after_switch_ms"]
                shown.add_row(
                    found["bundle"],
                    trace,
                    str(hold),
                    f"{run['missed_percent']:.2f}",
                    f"{verdict['missed_more_than_fastest_percent']:+.2f}",
                    "-" if of_oracle is None else f"{of_oracle:.2f}",
                    f"{100 * run['shares']['fp32']:.1f}",
                    f"{100 * one['scores'][name]:.2f}",
                    f"{100 * one['scores']['fixed int8']:.2f}",
                    f"{one['runs']['fixed fp32']['missed_percent']:.1f}",
                    "-" if switch is None else f"{switch['max']:.3f}",
                    "-" if after is None else f"{after:+.3f}",
                )
    return shown


def unmet(results: Sequence[dict[str, Any]], hold: int) -> list[str]:
    """What falls short of the two numbers that are asked for."""
    texts = []
    for found in results:
        for trace, one in found["traces"].items():
            verdict = one["verdicts"][f"adaptive {hold}"]
            if (more := verdict["missed_more_than_fastest_percent"]) > MORE_MISSED:
                texts.append(f"{found['bundle']} {trace}: {more:.2f} points more missed, {MORE_MISSED:g} allowed")
            if (share := verdict["share_of_oracle"]) is not None and share < OF_ORACLE:
                texts.append(f"{found['bundle']} {trace}: {share:.2f} of the oracle's share, {OF_ORACLE:g} wanted")
    return texts


@click.command(cls=Program)
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=Path("bench_results/serving"), show_default=True)
@click.option("--trace", "traces", multiple=True, type=click.Choice(list(GENERATED)), help="Repeat for more.  [all]")
@click.option("--hold", "holds", multiple=True, type=int, help="Repeat for more; the first is judged.  [50, 1000]")
@click.option("--phase-seconds", default=5.0, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--samples", default=500, show_default=True, help="Of the report split.")
@click.option("--contended", is_flag=True, help="Also `step` with two busy processes per core while it is overloaded.")
def main(
    bundles: tuple[Path, ...],
    out: Path,
    traces: tuple[str, ...],
    holds: tuple[int, ...],
    phase_seconds: float,
    seed: int,
    samples: int,
    contended: bool,
) -> None:
    """Serve the traces with each of BUNDLES; end with 3 where a number falls short."""
    console, results, judged = Console(width=150), [], holds or (50, 1000)
    out.mkdir(parents=True, exist_ok=True)
    for path in bundles:
        bundle = open_bundle(path)
        file = out / f"{bundle.root.name}.json"
        found = measure(
            bundle,
            traces=traces or list(GENERATED),
            holds=judged,
            phase_s=phase_seconds,
            seed=seed,
            samples=samples,
            contended=contended,
            save=lambda one, file=file: file.write_text(json.dumps(one, indent=1) + "\n", encoding="utf-8"),
            say=lambda text: click.echo(text, err=True),
        )
        results.append(found)
        added = ", ".join(f"{name} {100 * share:.0f} %" for name, share in found["added_bytes"].items())
        click.echo(
            f"{found['bundle']}: scored by {found['scored_by']}; overhead {found['overhead_us']['of 1 ms']:.1f} us"
            f" ({found['overhead_us']['of 1 ms'] / 10:.2f} %) of 1 ms, {found['overhead_us']['of its own']:.1f} us of"
            f" its own inferences; beside FP32 on disk: {added}",
            err=True,
        )
    console.print(table(results, judged))
    if short := unmet(results, judged[0]):
        click.echo("\n".join(short), err=True)
        raise SystemExit(3)


if __name__ == "__main__":
    main()
