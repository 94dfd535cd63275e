"""Serve one scan's live page: the parts put together, for a scan here or elsewhere."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

from bifocus.config import Instrument
from bifocus.edge.canvas import plan_canvas
from bifocus.edge.live_answers import LivePage
from bifocus.edge.live_feed import feed_from_events, feed_from_folder
from bifocus.edge.live_pictures import TilePictures
from bifocus.edge.live_server import LiveServer, serve
from bifocus.edge.live_state import LiveState, ScanHeader
from bifocus.edge.live_tiles import LiveSlide
from bifocus.edge.metrics import has_prometheus, measure_scan, serve_metrics
from bifocus.edge.plan import ScanPlan
from bifocus.edge.scan_events import ScanControl, ScanEvents
from bifocus.edge.scan_folder import ScanFolder
from bifocus.errors import ConfigError
from bifocus.illumination import FlatFieldCorrection
from bifocus.records import InstrumentProfile

TOKEN_VARIABLE = "BIFOCUS_LIVE_TOKEN"
_LEAST_TOKEN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveAddress:
    """Where a page is served; `token` None means a new random one."""

    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = None

    @classmethod
    def parse(cls, text: str) -> "LiveAddress":
        """Read PORT or HOST:PORT; the token comes from BIFOCUS_LIVE_TOKEN, if set.

        A token on the command line could be read by every user of the machine.

        Raises
        ------
        ConfigError
            If the port is none, or the token is easily guessed.

        Examples
        --------
        >>> address = LiveAddress.parse("[::1]:8765")
        >>> address.host, address.port, LiveAddress.parse("80").host
        ('::1', 8765, '127.0.0.1')
        """
        host, port = parse_address(text)
        token = os.environ.get(TOKEN_VARIABLE)
        if token is not None and len(token) < _LEAST_TOKEN:
            msg = f"{TOKEN_VARIABLE}: expected at least {_LEAST_TOKEN} characters"
            raise ConfigError(msg)
        return cls(host=host, port=port, token=token)


def parse_address(text: str) -> tuple[str, int]:
    """Read PORT, which is one of loopback, or HOST:PORT.

    Raises
    ------
    ConfigError
        If the port is none.
    """
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        msg = f"'{text}': expected PORT or HOST:PORT, such as 8765"
        raise ConfigError(msg)
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Onlookers:
    """Who may look on while a scan runs in this process.

    `live` is where its page is served, `metrics` (host, port) where its counters are,
    None for neither; `say` is told the addresses, one line each. They are sent away at
    the end of the scan, or with `until`, which may end later.
    """

    live: LiveAddress | None = None
    metrics: tuple[str, int] | None = None
    say: Callable[[str], None] = lambda line: None
    until: ExitStack | None = None


@contextmanager
def let_look_on(
    onlookers: Onlookers,
    folder: ScanFolder,
    plan: ScanPlan,
    *,
    config: Instrument,
    profile: InstrumentProfile,
    strategy: str,
    events: ScanEvents,
    control: ScanControl,
) -> Iterator[None]:
    """Serve the page and the counters of a scan, as wished, while the block runs it.

    The page answers `/metrics` as well where prometheus_client is installed.

    Raises
    ------
    ConfigError
        If a port is taken, or metrics are wished for without prometheus_client.
    """
    with ExitStack() as own:
        stack = onlookers.until or own
        metrics = None
        if onlookers.metrics or (onlookers.live and has_prometheus()):
            metrics = stack.enter_context(
                measure_scan(events, folder.root, simulated=config.is_simulated)
            )
        if onlookers.metrics and metrics is not None:
            host, port = onlookers.metrics
            port = stack.enter_context(serve_metrics(metrics, host, port))
            onlookers.say(f"metrics: http://{host}:{port}/metrics")
        if onlookers.live:
            server = stack.enter_context(
                serve_live(
                    folder,
                    plan,
                    config=config,
                    profile=profile,
                    strategy=strategy,
                    address=onlookers.live,
                    events=events,
                    control=control,
                    metrics=metrics.to_text if metrics else None,
                )
            )
            onlookers.say(f"live page: {server.url}")
        yield


@contextmanager
def serve_live(
    folder: ScanFolder,
    plan: ScanPlan,
    *,
    config: Instrument,
    profile: InstrumentProfile,
    strategy: str,
    address: LiveAddress,
    events: ScanEvents | None = None,
    control: ScanControl | None = None,
    metrics: Callable[[], bytes] | None = None,
) -> Iterator[LiveServer]:
    """Serve the page of a scan while the block runs.

    Parameters
    ----------
    folder, plan, config, profile, strategy
        Of the scan; the folder's files may not exist yet if there are `events`.
    address
        Where to listen.
    events
        Of the scan in this process; without them the page follows the journal.
    control
        What the buttons steer; without it there are none.
    metrics
        Gives the answer to `/metrics`.

    Yields
    ------
    LiveServer
        Already answering; `url` is what a person opens.

    Raises
    ------
    ConfigError
        If the port is taken.
    SlideFileError
        If there are no events and the folder holds no journal.
    """
    step_px = (plan.step_um[0] / plan.pixel_um, plan.step_um[1] / plan.pixel_um)
    canvas = plan_canvas(plan)
    state = LiveState(
        ScanHeader(
            title=f"{folder.root.name}: {config.name}",
            strategy=strategy,
            simulated=config.is_simulated,
            grid=(plan.rows, plan.columns),
            total=len(plan.visits),
            origin_px=canvas.nominal[0, 0],
            step_px=step_px,
            field_px=plan.field_px,
            pixel_um=plan.pixel_um,
        )
    )
    shape = (plan.field_px[1], plan.field_px[0])
    tone_curve = config.optics.tone_curve
    correction = FlatFieldCorrection.of_profile(profile, shape, tone_curve)
    pictures = TilePictures(folder, canvas.nominal, correction.apply)
    with ExitStack() as stack:
        slide = stack.enter_context(closing(LiveSlide(folder.slide, state)))
        if events is not None:
            stack.enter_context(
                feed_from_events(state, slide, events, folder, canvas.nominal)
            )
        else:
            stack.enter_context(feed_from_folder(state, slide, folder))
        page = LivePage(
            state=state,
            slide=slide,
            pictures=pictures,
            control=control,
            metrics=metrics,
        )
        yield stack.enter_context(
            serve(page, host=address.host, port=address.port, token=address.token)
        )
