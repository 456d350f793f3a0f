from pathlib import Path

import pytest

from loadtests.records.errors import CorruptRecord, NewerVersion
from loadtests.records.histogram import (
    HistogramWriter,
    max_ms,
    merged,
    new_histogram,
    percentile_ms,
    percentiles_ms,
    read_intervals,
    record_ns,
)


def histogram_of(*values_ms: float):
    histogram = new_histogram()
    for value_ms in values_ms:
        record_ns(histogram, int(value_ms * 1e6))
    return histogram


def test_what_is_written_is_read(tmp_path: Path):
    """Intervals come back with their time, name and values; empty ones are not written."""
    writer = HistogramWriter(tmp_path, "locust-0", "run")
    writer.write(10, "corrected", histogram_of(1, 2, 3))
    writer.write(20, "service", new_histogram())
    writer.write(20, "corrected", histogram_of(1720))
    writer.close()

    intervals = list(read_intervals(tmp_path))

    assert [(interval.t_ns, interval.name) for interval in intervals] == [(10, "corrected"), (20, "corrected")]
    assert max_ms(intervals[1].histogram) == pytest.approx(1720, rel=0.002)


def test_seconds_and_processes_merge_without_loss(tmp_path: Path):
    """The merged histogram holds every value of every process."""
    for process in ("locust-0", "locust-1"):
        writer = HistogramWriter(tmp_path, process, "run")
        for second in range(1, 4):
            writer.write(second, "service", histogram_of(second, 100 * second))
        writer.close()

    assert merged(tmp_path, "service").get_total_count() == 12
    assert merged(tmp_path, "service", from_ns=1, until_ns=2).get_total_count() == 4
    assert percentile_ms(merged(tmp_path, "service"), 100) == pytest.approx(300, rel=0.002)


def test_precision_is_three_digits_up_to_an_hour():
    """A value is found again within a thousandth; below a microsecond and above an hour it is clamped."""
    assert percentiles_ms(histogram_of(1234.5), (99, 50)) == pytest.approx([1234.5, 1234.5], rel=0.001)
    assert max_ms(histogram_of(0)) == 0.001
    assert max_ms(histogram_of(5e6)) == pytest.approx(3.6e6, rel=0.001)
    assert percentiles_ms(new_histogram(), (50, 99)) == [0.0, 0.0]


def test_a_torn_last_line_is_left_out(tmp_path: Path):
    """What a killed process had half written hides nothing before it."""
    writer = HistogramWriter(tmp_path, "locust-0", "run")
    writer.write(1, "lag", histogram_of(1))
    writer.close()
    path = tmp_path / "locust-0.hdr.jsonl"
    path.write_bytes(path.read_bytes() + b'{"t_ns":2,"name":"lag","hdr":"HIST')

    assert len(list(read_intervals(tmp_path))) == 1


def test_foreign_content_is_refused(tmp_path: Path):
    """A newer format and a histogram that is none are told apart."""
    path = tmp_path / "locust-0.hdr.jsonl"
    path.write_text('{"schema":"icequake.hist/2.0"}\n')
    with pytest.raises(NewerVersion):
        list(read_intervals(tmp_path))
    path.write_text('{"schema":"icequake.hist/1.0"}\n{"t_ns":1,"name":"lag","hdr":"nonsense"}\n')
    with pytest.raises(CorruptRecord):
        list(read_intervals(tmp_path))
