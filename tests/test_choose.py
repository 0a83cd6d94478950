from edgeprune.choose import choose_default, shortfalls, verdict
from edgeprune.errors import BudgetError, DeviceError, FallbackError, MissingError
from edgeprune.metrics import Interval
from edgeprune.recipe import Budgets
from edgeprune.results import Accuracy, Foretold, Layer, Measurement, Parity


def measured(variant: str, *, ms: float | None = 1.0, lost: float = 0.0, size: int = 1000, **more) -> Measurement:
    """A variant that takes `ms` and loses `lost` points on the select split."""
    backend, _, precision = variant.partition("-")
    drop = Interval(lost / 100, lost / 100, lost / 100)
    accuracy = Accuracy("top-1", "select", 100, Interval(0.9, 0.8, 1.0), drop, "measured")
    samples = () if ms is None else ((ms,) * 100,)
    return Measurement("hash", "cnn", "cpu", variant, backend, precision, size, (accuracy,), samples_ms=samples, **more)


BASELINE = measured("baseline", ms=2.0)
BASELINE_UNTIMED = measured("baseline", ms=None)


def test_the_fastest_within_the_accuracy_budget_is_the_default():
    chosen = choose_default(
        BASELINE,
        [measured("ort-fp32"), measured("ort-int8", ms=0.5), measured("openvino-int8", ms=0.1, lost=3)],
        Budgets(),
    )
    assert chosen.default == "ort-int8"


def test_of_those_that_may_be_as_fast_the_smallest_is_the_default():
    fast = measured("ort-int8", ms=0.50, size=900, speedup=Interval(4.0, 3.9, 4.1))
    small = measured("ort-mixed", ms=0.51, size=500, speedup=Interval(3.9, 3.8, 4.05))
    smaller = measured("ort-int4", ms=0.52, size=300, speedup=Interval(3.8, 3.7, 3.9))
    chosen = choose_default(BASELINE, [fast, small, smaller], Budgets())
    assert chosen.default == "ort-mixed"
    assert "as fast as ort-int8" in chosen.default_reason
    equal = measured("openvino-int8", ms=0.51, size=900, speedup=Interval(3.9, 3.8, 4.05))
    assert choose_default(BASELINE, [equal, fast], Budgets()).default == "ort-int8"


def test_an_int8_that_is_slower_than_the_unpruned_baseline_is_not_the_default():
    chosen = choose_default(measured("ort-fp32", ms=1.0), [measured("ort-int8", ms=1.5)], Budgets())
    assert chosen.default == "ort-fp32"


def test_the_baseline_of_a_pruned_model_is_no_candidate():
    assert choose_default(measured("baseline", ms=0.1), [measured("ort-int8")], Budgets()).default == "ort-int8"


def test_where_nothing_was_timed_the_smallest_is_the_default_and_says_so():
    chosen = choose_default(
        BASELINE,
        [measured("tensorrt-fp32", ms=None, size=9), measured("tensorrt-int8", ms=None, size=3)],
        Budgets(),
    )
    assert chosen.default == "tensorrt-int8"
    assert chosen.default_reason.startswith("unmeasured")


def test_where_nothing_was_timed_the_fastest_that_is_foretold_is_the_default():
    one = measured("tensorrt-fp32", ms=None, size=3, foretold=Foretold(2.0, "a table"))
    other = measured("tensorrt-int8", ms=None, size=9, foretold=Foretold(1.0, "a table"))
    chosen = choose_default(BASELINE_UNTIMED, [one, other], Budgets(max_latency_ms=1.5))
    assert chosen.default == "tensorrt-int8"
    assert "foretold" in chosen.default_reason
    assert [shortfall.text for shortfall in shortfalls(one, Budgets(max_latency_ms=1.5))] == [
        "is foretold to take 2.000 ms, 1.5 allowed"
    ]


def test_what_computes_something_else_than_the_float_graph_is_no_default_and_fails_before_a_fallback():
    departs = Parity(64, fault="ort computes something else than its file says: layer 'fc' departs first")
    fell_back = (Layer("fc", "Gemm", "int8", "fp32", "not fused"),)
    wrong = measured("ort-int8", ms=0.1, parity=departs, layers=fell_back)
    chosen = choose_default(BASELINE, [measured("ort-fp32", parity=Parity(64)), wrong], Budgets())
    assert chosen.default == "ort-fp32"
    error = verdict(chosen, Budgets(), "int8", allow_fallback=False)
    assert isinstance(error, BudgetError)
    assert str(error) == f"ort-int8: {departs.fault}"


def test_every_budget_that_is_missed_is_named():
    budgets = Budgets(max_drop=0.5, max_latency_ms=0.1, max_size_mb=0.0001)
    missed = " ".join(shortfall.text for shortfall in shortfalls(measured("ort-int8", lost=2), budgets))
    assert "2.00 points" in missed
    assert "1.000 ms" in missed
    assert "0.001 MB" in missed


def test_a_loss_of_just_the_budget_is_within_it():
    assert not shortfalls(measured("ort-int8", lost=1.0), Budgets(max_drop=1.0))


def test_a_missed_budget_ends_with_the_closest_variant():
    found = choose_default(BASELINE, [measured("ort-int8", lost=2)], Budgets())
    error = verdict(found, Budgets(), "int8", allow_fallback=False)
    assert isinstance(error, BudgetError)
    assert "closest: ort-int8 loses 2.00 points" in str(error)


def test_the_closest_of_several_is_the_one_that_misses_by_least():
    budgets = Budgets(max_size_mb=0.0001)
    found = choose_default(BASELINE, [measured("ort-fp32", size=900), measured("ort-int8", size=300)], budgets)
    assert "closest: ort-int8 is 0.000 MB" in str(verdict(found, budgets, "int8", allow_fallback=False))


def test_a_fallback_ends_the_command_unless_it_is_allowed():
    layer = Layer("conv", "Conv", "int8", "fp32", "no kernel")
    found = choose_default(BASELINE, [measured("ort-int8", layers=(layer,))], Budgets())
    assert isinstance(verdict(found, Budgets(), "int8", allow_fallback=False), FallbackError)
    assert verdict(found, Budgets(), "int8", allow_fallback=True) is None


def test_a_fallback_of_a_variant_nobody_asked_for_is_only_shown():
    layer = Layer("conv", "Conv", "bf16", "fp32", "this CPU has no BF16")
    found = choose_default(BASELINE, [measured("openvino-bf16", layers=(layer,)), measured("ort-int8")], Budgets())
    assert verdict(found, Budgets(), "int8", allow_fallback=False) is None


def test_a_device_that_failed_ends_the_command_though_others_went_on():
    dead = Measurement(
        "hash", "cnn", "cpu", "openvino-int8", "openvino", "int8", 9, (), unmeasured="killed", failed=True
    )
    found = choose_default(BASELINE, [dead, measured("ort-int8")], Budgets())
    assert found.default == "ort-int8"
    assert isinstance(verdict(found, Budgets(), "int8", allow_fallback=False), DeviceError)


def test_where_every_runtime_is_missing_that_is_the_reason_and_not_a_budget():
    absent = Measurement(
        "hash", "cnn", "cpu", "openvino-int8", "openvino", "int8", 9, (), unmeasured="OpenVINO is not installed"
    )
    found = choose_default(BASELINE, [absent], Budgets())
    error = verdict(found, Budgets(), "int8", allow_fallback=False)
    assert isinstance(error, MissingError)
    assert "not installed" in str(error)


def test_an_unpruned_baseline_alone_can_miss_a_budget_too():
    found = choose_default(measured("ort-fp32", size=900), [], Budgets(max_size_mb=0.0001))
    assert "closest: ort-fp32" in str(verdict(found, Budgets(max_size_mb=0.0001), "fp32", allow_fallback=False))
