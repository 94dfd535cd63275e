"""Checks of a camera: whole frames, new each time, fresh after a move, honest waits."""

import math

import numpy as np

from bifocus.errors import ConfigError, DeviceError, DeviceTimeoutError
from bifocus.hal.conformance import Finding, judge, skip
from bifocus.hal.conformance_bench import Bench
from bifocus.hal.devices import Camera
from bifocus.records import Frame, MoveReceipt

NO_CAMERA = "no camera on the bench"
_FAR_S = 1e7  # a receipt that settles then will never see its frame
_STILL_FRAMES = 4  # after so many grabs a stale queue has run dry
_LEAST_CHANGE = 1.0  # grey levels by which a move must change the picture to be seen
_LARGEST_STALE_SHARE = 0.25  # of that change may remain in a fresh frame (noise)


def check_frames(bench: Bench) -> Finding:
    """Check that frames are whole, new every time, and never of the future."""
    camera = bench.devices.camera
    if camera is None:
        return skip(NO_CAMERA)
    facts = camera.capabilities
    frames = [camera.grab() for _ in range(3)]
    now_s = bench.clock.monotonic_s()
    wanted = (facts.height_px, facts.width_px)
    wrong = [
        f"{frame.pixels.shape} {frame.pixels.dtype}"
        for frame in frames
        if frame.pixels.shape[:2] != wanted or frame.pixels.dtype != np.uint8
    ]
    numbers = [frame.sequence_number for frame in frames]
    starts = [frame.exposure_start_s for frame in frames]
    if numbers != sorted(set(numbers)) or starts != sorted(set(starts)):
        wrong.append(f"numbers {numbers} or exposure starts do not grow")
    if any(frame.exposure_end_s > now_s + 1e-9 for frame in frames):
        wrong.append("an exposure ends in the future")
    if any(frame.exposure_end_s <= frame.exposure_start_s for frame in frames):
        wrong.append("an exposure ends before it begins")
    return judge(
        not wrong,
        measured="; ".join(wrong) or f"3 new frames of {wanted[1]}x{wanted[0]} px",
        expected=f"{wanted[1]}x{wanted[0]} px uint8, numbers and times that grow",
        next_step="number the frames yourself; map the camera's clock to the one "
        "handed in; give uint8 RGB",
    )


def check_fresh_frame(bench: Bench) -> Finding:
    """Check that a frame after a move shows the new place: by times and by picture."""
    camera = bench.devices.camera
    if camera is None:
        return skip(NO_CAMERA)
    early_s, shares = -math.inf, []
    share_x, share_y = _quarter_field(bench, camera)
    for x, y in ((share_x, 0.0), (-share_x, 0.0), (0.0, share_y)):
        before = camera.grab(after=bench.stage.move_to(bench.at(-x, -y)))
        receipt = bench.stage.move_to(bench.at(x, y))
        first = camera.grab(after=receipt)
        early_s = max(early_s, receipt.settled_s - first.exposure_start_s)
        share = _stale_share(camera, before, first)
        if share is not None:
            shares.append(share)
    seen = (
        f"{100 * max(shares):.0f} % of the old picture left in it"
        if shares
        else "the picture shows too little to judge (no tissue in the field)"
    )
    return judge(
        early_s <= 1e-9 and max(shares, default=0.0) <= _LARGEST_STALE_SHARE,
        measured=f"exposure began {-early_s:.4f} s after settling; {seen}",
        expected="after settling; at most "
        f"{100 * _LARGEST_STALE_SHARE:.0f} % left, by noise",
        next_step="throw away every frame whose exposure began before `settled_s`; if "
        "the times are right and the picture moves, raise `settle_s` or mend the "
        "camera's time stamps",
        figures={"early_s": early_s, "stale_share": max(shares, default=math.nan)},
    )


def check_exposure(bench: Bench) -> Finding:
    """Check that the exposure is what was asked, and impossible ones are refused."""
    camera = bench.devices.camera
    if camera is None:
        return skip(NO_CAMERA)
    usual_s = _length_s(camera.grab())
    wanted_s = 0.5 * usual_s
    camera.configure(exposure_s=wanted_s)
    got_s = _length_s(camera.grab())
    camera.configure(exposure_s=usual_s)
    accepted = []
    for impossible_s in (0.0, -1.0, math.nan, 1e9):
        try:
            camera.configure(exposure_s=impossible_s)
            accepted.append(f"{impossible_s:g}")
        except ConfigError:
            continue
    if accepted:
        camera.configure(exposure_s=usual_s)
    measured = f"{1e3 * got_s:.2f} ms for {1e3 * wanted_s:.2f} ms"
    if accepted:
        measured += f"; accepted {', '.join(accepted)} s"
    return judge(
        abs(got_s - wanted_s) <= max(0.1 * wanted_s, 1e-4) and not accepted,
        measured=measured,
        expected="within a tenth; 0, -1, nan and 1e9 s refused as ConfigError",
        next_step="read the exposure back after setting it, and check its range",
        figures={"wanted_s": wanted_s, "exposure_s": got_s},
    )


def check_frame_deadline(bench: Bench) -> Finding:
    """Check that waiting for a frame that never comes ends with a timeout error."""
    camera = bench.devices.camera
    if camera is None:
        return skip(NO_CAMERA)
    here, never_s = bench.stage.position(), bench.clock.monotonic_s() + _FAR_S
    receipt = MoveReceipt(
        commanded=here, reported=here, start_s=0.0, end_s=never_s, settled_s=never_s
    )
    ended = bench.within(lambda: camera.grab(after=receipt))
    if ended.is_hung:
        measured = f"still waiting after {bench.patience_s:g} s"
        bench.reopen()
    elif ended.error is None:
        measured = "a frame came, which cannot be"
    else:
        measured = f"{type(ended.error).__name__} after {ended.seconds:.2f} s"
    return judge(
        isinstance(ended.error, DeviceTimeoutError),
        measured=measured,
        expected="DeviceTimeoutError",
        next_step="give every wait for a frame a deadline",
    )


def check_camera_closing(bench: Bench) -> Finding:
    """Check that a camera can be closed twice, and then refuses to grab."""
    camera = bench.devices.camera
    if camera is None:
        return skip(NO_CAMERA)
    camera.close()
    camera.close()
    try:
        camera.grab()
        said = "a closed camera gave a frame"
    except DeviceError:
        said = ""
    bench.reopen()
    return judge(
        not said,
        measured=said or "closed twice in peace; a grab was refused",
        expected="DeviceError for a grab after `close`",
        next_step="let `close` be callable twice, and check for it in `grab`",
    )


def _quarter_field(bench: Bench, camera: Camera) -> tuple[float, float]:
    """Return the shares of the room that make a move of a quarter of the field.

    Enough to change the picture, little enough to stay on the tissue.
    """
    pixel_um, facts = bench.devices.pixel_um, camera.capabilities
    if pixel_um is None:
        return 0.5, 0.5
    return (
        min(0.5, facts.width_px * pixel_um / 8 / bench.room.x_um),
        min(0.5, facts.height_px * pixel_um / 8 / bench.room.y_um),
    )


def _stale_share(camera: Camera, before: Frame, first: Frame) -> float | None:
    """Return how much of the old picture is in `first`; None where nothing shows.

    0 is a picture of the new place, 1 one of the old; frames taken later, when all
    has come to rest, show the new place for certain.
    """
    still = [camera.grab() for _ in range(_STILL_FRAMES)]
    last = still[-1]
    noise = _difference(still[-2], last)
    change = _difference(before, last) - noise
    if change < max(_LEAST_CHANGE, noise):
        return None
    return max(0.0, (_difference(first, last) - noise) / change)


def _difference(one: Frame, other: Frame) -> float:
    """Return the root mean square of the difference of two pictures, grey levels."""
    delta = one.pixels.astype(np.float32) - other.pixels
    return float(np.sqrt(np.mean(delta**2)))


def _length_s(frame: Frame) -> float:
    return frame.exposure_end_s - frame.exposure_start_s
