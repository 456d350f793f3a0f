"""What the report says of the generator itself."""

from pathlib import Path

from loadtests.records.histogram import HistogramWriter, new_histogram, record_ns
from loadtests.records.ledger import Kind
from reports.runrecords import read_run
from reports.sections.generator import generator_numbers
from reports.verdict import Verdict
from tests.histories import A, B, C, D, HandMadeRun, mono_ns


def dispatched(run: HandMadeRun, late_ms: float) -> None:
    """The generator noticed a thousand requests so late."""
    histogram = new_histogram()
    for _ in range(1000):
        record_ns(histogram, int(late_ms * 1e6))
    writer = HistogramWriter(run.run.hist, "locust-0", run.run.info.run_id)
    writer.write(mono_ns(20), "dispatch", histogram)
    writer.close()


def on_schedule(run: HandMadeRun) -> Verdict:
    run.acked(A)
    run.table(A)
    return next(check.verdict for check in run.judge().checks if check.id == "run.on_schedule")


def test_a_generator_that_notices_its_requests_late_taints_the_verdict(tmp_path: Path) -> None:
    """Even during a fault: no target can hold up the schedule."""
    run = HandMadeRun(tmp_path)
    run.fault("slow-r2", 11, 59)
    dispatched(run, 1500)

    assert on_schedule(run) is Verdict.INCONCLUSIVE


def test_a_generator_that_notices_in_time_is_on_schedule(tmp_path: Path) -> None:
    """Whatever the target did to the sending."""
    run = HandMadeRun(tmp_path)
    dispatched(run, 5)

    assert on_schedule(run) is Verdict.PASS


def test_what_was_not_sent_is_counted_by_fault(tmp_path: Path) -> None:
    """Overlapping faults count it each; the rest is nobody's."""
    run = HandMadeRun(tmp_path)
    run.acked(A)
    run.table(A)
    run.fault("slow-r2", 15, 25)
    run.fault("kill-collector", 24, 30, step=1)
    run.not_sent(B, C, at=20)
    run.not_sent(D, at=24.5)
    run.not_sent(9, at=40)

    numbers = generator_numbers(read_run(run.written()))

    assert numbers["not_sent_by_fault"] == {"slow-r2": 3, "kill-collector": 1, "no fault": 1}
    assert numbers["not_sent"] == 4


def test_retry_amplification_is_requests_per_event(tmp_path: Path) -> None:
    """Retries and repetitions count; what was sent to be refused does not."""
    run = HandMadeRun(tmp_path)
    run.acked(A, B, C)
    run.refused(D)
    run.acked(D, attempt=2)
    run.acked(C, attempt=1, kind=Kind.DUPLICATE)
    run.refused(9, kind=Kind.POISON)
    run.table(A, B, C, D)

    assert generator_numbers(read_run(run.written()))["retry_amplification"] == 1.5
