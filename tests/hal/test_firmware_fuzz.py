"""Arbitrary bytes at arbitrary times: boards neither fail nor talk for ever."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bifocus.hal.firmware_kinds import KINDS, FirmwareKind, make_firmware

# Bytes alone seldom make a word; words that boards know make it past their parsers.
KNOWN = (
    b"mr mrx mrz p? dt zero release version stop moving? blocking_moves notify_on_stop "
    b"$H $X $J= $$ $# $I $SLP $C $100= $20= $22= G0 G1 G4 G28 G90 G91 G92 M400 M114 "
    b"M112 M410 M110 M999 M211 N1 N2 *12 X Y Z X1 Y-2 Z3.5 F600 F1e9 P0 P1 S1 L20 "
    b"M R W / RS RB \\ H ! S B AC SU SL VB ~ MC BU X= X? Z=5 X+ - 99999999999999999999 "
    b"-1 0 . ? ! ~ ; ( )"
).split()
WORDS = [*KNOWN, b"9" * 400]
chunks = st.one_of(
    st.binary(max_size=80),
    st.lists(
        st.one_of(
            st.sampled_from(WORDS), st.sampled_from([b" ", b"\n", b"\r", b"\r\n"])
        ),
        max_size=12,
    ).map(b"".join),
)
sessions = st.lists(
    st.tuples(chunks, st.floats(0, 3, allow_subnormal=False)), max_size=8
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=80, deadline=None)
@given(session=sessions)
def test_any_bytes_are_survived(
    kind: FirmwareKind, session: list[tuple[bytes, float]]
) -> None:
    board = make_firmware(kind, now_s=0.0, seed=3)
    now_s = 0.0
    for data, pause_s in session:
        board.receive(data, now_s)
        now_s += pause_s
        board.output(now_s)
        assert board.next_event_s() > now_s
    board.output(now_s + 60.0)
    # A reset brings any board back to its first answer.
    now_s += 60.0
    board.reset(now_s)
    now_s += 10.0
    board.output(now_s)
    hello = {"sangaboard": b"version\n", "grbl": b"?", "marlin": b"M115\n"}
    board.receive(hello.get(kind.partition("-")[0], b"/\r"), now_s)
    assert board.output(now_s + 1.0).endswith(b"\n")
    pose = board.true_pose_at(now_s)
    assert all(map(math.isfinite, (pose.x_um, pose.y_um, pose.z_um)))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(data=st.binary(min_size=1, max_size=300), cuts=st.lists(st.integers(0, 300)))
def test_how_bytes_are_cut_into_pieces_does_not_matter(
    kind: FirmwareKind, data: bytes, cuts: list[int]
) -> None:
    whole = make_firmware(kind, now_s=0.0, seed=3)
    pieces = make_firmware(kind, now_s=0.0, seed=3)
    whole.receive(data, 0.0)
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for begin, end in itertools.pairwise(edges):
        pieces.receive(data[begin:end], 0.0)
    assert pieces.output(30.0) == whole.output(30.0)
    assert pieces.axes.steps_at(30.0) == whole.axes.steps_at(30.0)
