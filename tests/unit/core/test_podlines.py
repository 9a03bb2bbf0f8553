"""A container's log to lines: each once however often it is read, whatever the blocks, and what is missing is noticed."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from gitops_mk.core.podlines import CUT, LONGEST, MEMORY, PodLines, normal_time


def at(moment: int) -> bytes:
    """A time: so many milliseconds after noon."""
    return b"2026-01-01T12:%02d:%02d.%03d000000Z" % (moment // 60_000, moment // 1000 % 60, moment % 1000)


def log(*moments: int) -> bytes:
    return b"".join(at(moment) + b" line %d\n" % number for number, moment in enumerate(moments))


def read(lines: PodLines, data: bytes) -> list[bytes]:
    return [line.data for line in lines.feed(data)]


def test_times_and_lines_are_told_apart() -> None:
    lines = PodLines()
    assert lines.begin() is None
    before = lines.newest
    assert before is None
    (one, two) = lines.feed(at(1) + b" a b\n" + at(2) + b" \n" + at(3) + b" rest")
    assert one == (at(1), b"a b\n")
    assert two == (at(2), b"\n")
    assert lines.newest == at(2).decode()
    assert lines.finish() == [(at(3), b"rest\n")]
    assert lines.finish() == []
    assert lines.reached
    assert not lines.known


@given(st.binary(max_size=40).map(lambda x: x.replace(b"\n", b"")), st.lists(st.integers(1, 30), max_size=30))
def test_blocks_may_be_cut_anywhere(text: bytes, cuts: list[int]) -> None:
    data = b"".join(at(moment) + b" " + text + b"\n" for moment in range(5))
    lines, got, start = PodLines(), [], 0
    lines.begin()
    for cut in [*cuts, len(data)]:
        got += read(lines, data[start : start + cut])
        start += cut
    assert got == [text + b"\n"] * 5


@example(moments=[1, 2], swap=0, stops=[1])
@given(
    st.lists(st.integers(0, 3000), min_size=1, max_size=60),
    st.integers(0, 59),
    st.lists(st.integers(0, 60), max_size=9),
)
def test_what_is_read_again_is_left_out(moments: list[int], swap: int, stops: list[int]) -> None:
    """The server gives all lines from a whole second on; the order is that of the file."""
    moments = sorted(moments)
    # A pair may be out of step, as two streams of a container are.
    if len({moment // 1000 for moment in moments[swap : swap + 2]}) == 1:
        moments[swap : swap + 2] = moments[swap : swap + 2][::-1]
    whole = log(*moments).splitlines(keepends=True)
    lines, got = PodLines(), []
    for upto in [*sorted(stops), len(whole)]:
        since = lines.begin()
        served = [line for line in whole[:upto] if since is None or line[:30] >= since[:19].encode() + b".000000000Z"]
        got += read(lines, b"".join(served) + b"2026-01-01T12:00:0")
        assert lines.missing is None
    assert got == [line.partition(b" ")[2] for line in whole]


def test_only_so_many_times_are_remembered() -> None:
    lines = PodLines()
    lines.begin()
    moments = range(0, 10 * MEMORY, 10)
    read(lines, log(*moments, *range(10 * MEMORY, 10 * MEMORY + 50)))
    assert lines.begin() == "2026-01-01T12:00:00Z"
    assert read(lines, log(*moments, *range(10 * MEMORY, 10 * MEMORY + 51))) == [b"line %d\n" % (MEMORY + 50)]
    assert lines.known
    assert lines.reached
    assert lines.missing is None


def test_a_log_without_the_last_line_was_rotated() -> None:
    lines = PodLines()
    lines.begin()
    read(lines, log(1, 2))
    lines.begin()
    assert read(lines, b"") == []
    assert read(lines, log(1)) == []
    early = lines.known, lines.missing, lines.reached
    assert early == (True, None, False)
    assert read(lines, at(5) + b" new\n") == [b"new\n"]
    late = lines.missing, lines.reached
    assert late == ((at(2).decode(), at(5).decode()), True)
    lines.begin()
    assert lines.missing is None


def test_the_same_time_again_is_a_new_line() -> None:
    lines = PodLines()
    lines.begin()
    read(lines, log(1, 2))
    lines.begin()
    assert read(lines, log(1, 2, 2, 1)) == [b"line 2\n", b"line 3\n"]


def test_long_lines_are_cut_once() -> None:
    for blocks in ([LONGEST * 3], [1000, LONGEST, LONGEST * 2], [LONGEST + 100, 7]):
        lines = PodLines()
        lines.begin()
        got = read(lines, at(1) + b" ")
        for size in blocks:
            got += read(lines, b"x" * size)
        got += read(lines, b"\n" + at(2) + b" ok\n")
        assert got == [b"x" * LONGEST + CUT + b"\n", b"ok\n"]
    lines = PodLines()
    lines.begin()
    assert read(lines, at(1) + b" " + b"y" * LONGEST + b"\n") == [b"y" * LONGEST + b"\n"]
    read(lines, at(2) + b" " + b"z" * LONGEST * 2)
    assert [line.data for line in lines.finish()] == [b"z" * LONGEST + CUT + b"\n"]


def test_lines_without_a_time_are_not_the_containers() -> None:
    lines = PodLines()
    lines.begin()
    assert read(lines, b"unable to retrieve container logs\n" + at(1) + b" x\n") == [b"x\n"]
    assert lines.untimed == 1
    assert lines.last_words == b"unable to retrieve container logs"


def test_times_are_made_alike() -> None:
    for given_, made in {
        b"2026-01-01T12:00:00.123456789Z": b"2026-01-01T12:00:00.123456789Z",
        b"2026-01-01T12:00:00Z": b"2026-01-01T12:00:00.000000000Z",
        b"2026-01-01T12:00:00.5Z": b"2026-01-01T12:00:00.500000000Z",
        b"2026-01-01T14:00:00.5+02:00": b"2026-01-01T12:00:00.500000000Z",
        b"2025-12-31T23:30:00.25-01:00": b"2026-01-01T00:30:00.250000000Z",
        b"2026-13-01T12:00:00+00:00": None,
        b"0001-01-01T00:00:00+14:00": None,
        b"yesterday": None,
        b"": None,
    }.items():
        assert normal_time(given_) == made
