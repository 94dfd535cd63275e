"""The live page's server as clients meet it: Python's own, over real sockets."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.growing_scan import GrowingScan
from bifocus.edge.live_page import LiveAddress
from bifocus.edge.live_server import MAX_BODY_BYTES, MAX_STREAMS
from bifocus.edge.scan_events import Fault
from bifocus.edge.slide_reader import SlideReader
from bifocus.errors import ConfigError
from tests.edge.live_client import Client, Stream
from tests.edge.live_setup import growing_page

TOKEN = "a-token-of-enough-letters"
OWN = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def page(tmp_path: Path) -> Iterator[tuple[GrowingScan, Client]]:
    address = LiveAddress(token=TOKEN)
    with growing_page(tmp_path, address=address) as (scan, server):
        yield scan, Client(server)


@pytest.fixture
def done(page: tuple[GrowingScan, Client]) -> tuple[GrowingScan, Client]:
    """A page whose scan has ended, after the page knows so."""
    scan, client = page
    stream = Stream(client)
    scan.run()
    while stream.next()[1]["progress"]["state"] != "done":
        pass
    stream.close()
    return page


def test_state_tiles_and_overview_of_a_scan(done: tuple[GrowingScan, Client]) -> None:
    scan, client = done
    state = client.ask("/state.json").document
    n_tiles = len(scan.plan.visits)
    assert state["progress"]["captured"] == state["progress"]["fused"] == n_tiles
    assert state["header"]["simulated"] is True
    assert len(state["cells"]) == n_tiles
    with SlideReader(scan.folder.slide) as slide:
        shape = state["progress"]["slide"]
        assert shape["levels"] == [list(size) for size in slide.levels]
        tile = client.ask("/tile/0/2/1")
        assert tile.headers["content-type"] == "image/jpeg"
        assert tile.body == slide.read_tile_jpeg(0, 2, 1)
    assert client.ask("/overview.jpg").body.startswith(b"\xff\xd8")


def test_the_surface_is_what_was_measured(done: tuple[GrowingScan, Client]) -> None:
    _scan, client = done
    surface = client.ask("/surface.json").document
    cell = client.ask("/state.json").document["cells"][13]
    row, column = cell["row"], cell["column"]
    best_um = surface["best_focus_um"][row][column]
    assert best_um == pytest.approx(cell["focus_um"] + cell["offset_um"])
    assert surface["quality"][row][column] == pytest.approx(cell["quality"])
    assert surface["best_focus_um"][0][0] is None, "a blank tile has no focus"
    assert (len(surface["quality"]), len(surface["quality"][0])) == (4, 6)


def test_a_kept_tile_is_kept_for_good_under_its_version_only(
    done: tuple[GrowingScan, Client],
) -> None:
    _, client = done
    first = client.ask("/tile/0/0/0?v=unknown")
    assert first.headers["cache-control"] == "no-cache"
    version = first.headers["etag"].strip('"')
    again = client.ask(f"/tile/0/0/0?v={version}")
    assert "immutable" in again.headers["cache-control"]
    same = client.ask("/tile/0/0/0", {"If-None-Match": first.headers["etag"]})
    assert (same.status, same.body) == (304, b"")


def test_the_close_up_shows_files_of_the_scan(done: tuple[GrowingScan, Client]) -> None:
    scan, client = done
    minus = client.ask("/shots/1/2/minus")
    assert minus.headers["content-type"] == "image/png"
    assert minus.body == (scan.folder.raw / "r001_c002_minus.png").read_bytes()
    for kind in ("plus", "fused", "difference"):
        assert client.ask(f"/shots/1/2/{kind}").status == 200
    assert client.ask("/shots/99/0/minus").status == 404
    assert client.ask("/shots/1/2/instrument.yaml").status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/static/../live_server.py",
        "/static/%2e%2e/live_server.py",
        "/static/..%2flive_server.py",
        "/static//etc/passwd",
        "/static/vendor/openseadragon.min.js",
        "/static/",
        "/tile/0/../../scan.sqlite",
        "/tile/0/0/-1",
        "/tile/0/0/1e3",
        "/tile/0/0/99999999999999999999",
        "/tile/0/0",
        "/tile/0/0/²",
        "/shots/0/0/../../instrument.yaml",
        "/shots/../../scan.sqlite",
        "/scan.sqlite",
        "/events/../state.json",
        "//etc/passwd",
        "http://evil.example/",
    ],
)
def test_no_path_leads_out(page: tuple[GrowingScan, Client], path: str) -> None:
    _, client = page
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = client.raw(request.encode())
    status = answer.split(b" ", 2)[1]
    assert status in (b"400", b"404")
    for secret in (b"root:", b"import ", b"SQLite", b"OpenSeadragon"):
        assert secret not in answer


def test_a_journal_that_points_elsewhere_is_refused(
    done: tuple[GrowingScan, Client], tmp_path: Path
) -> None:
    import sqlite3

    scan, client = done
    (tmp_path / "secret.png").write_bytes(b"not yours")
    with sqlite3.connect(scan.folder.journal) as database:
        database.execute("UPDATE tile SET raw_a='../secret.png' WHERE row=1")
    database.close()
    answer = client.ask("/shots/1/2/minus")
    assert answer.status == 404
    assert "outside the scan" in answer.document["problem"]


def test_every_answer_forbids_frames_scripts_and_guessing(
    page: tuple[GrowingScan, Client],
) -> None:
    _, client = page
    for path in ("/", "/state.json", "/static/live.js", "/nothing"):
        headers = client.ask(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers


def test_foreign_names_and_sites_are_refused(page: tuple[GrowingScan, Client]) -> None:
    scan, client = page
    assert client.ask("/state.json", {"Host": "evil.example"}).status == 421
    foreign = {**OWN, "Origin": "http://evil.example"}
    assert client.ask("/control/stop", foreign, "POST").status == 403
    assert client.ask("/control/stop", {}, "POST").status == 401
    assert not scan.control.is_stopping


def test_buttons(page: tuple[GrowingScan, Client]) -> None:
    scan, client = page
    assert client.ask("/control/pause", OWN, "POST").status == 202
    assert scan.control.is_paused
    assert client.ask("/control/resume", OWN, "POST").status == 202
    assert not scan.control.is_paused
    assert client.ask("/control/explode", OWN, "POST").status == 404
    assert client.ask("/control/stop", OWN, "POST").status == 202
    assert scan.control.is_stopping


def test_a_page_that_only_looks_on_has_no_buttons(tmp_path: Path) -> None:
    address = LiveAddress(token=TOKEN)
    with growing_page(tmp_path, address=address, steered=False) as (_, server):
        client = Client(server)
        assert client.ask("/control/stop", OWN, "POST").status == 409
        assert client.ask("/state.json").document["can_act"] is False


def test_the_printed_address_gives_a_cookie_and_hides_the_token(
    page: tuple[GrowingScan, Client],
) -> None:
    _, client = page
    assert client.server.url.endswith(f"/?token={TOKEN}")
    answer = client.ask(f"/?token={TOKEN}")
    assert (answer.status, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].partition(";")[0]
    assert client.ask("/state.json", {"Cookie": cookie}).document["may_act"] is True
    assert client.ask("/state.json").document["may_act"] is False
    wrong = client.ask("/?token=wrong")
    assert wrong.status == 401
    assert "set-cookie" not in wrong.headers


def test_by_default_one_address_of_this_machine_listens(tmp_path: Path) -> None:
    """127.0.0.2 stands for any other address: nobody answers there."""
    for address, answers in (
        (LiveAddress(), False),
        (LiveAddress(host="0.0.0.0"), True),
    ):
        with growing_page(tmp_path / address.host, address=address) as (_, server):
            other = ("127.0.0.2", server.server_port)
            if answers:
                socket.create_connection(other, timeout=10).close()
                continue
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(other, timeout=10)


def test_elsewhere_nothing_is_shown_without_the_token(tmp_path: Path) -> None:
    address = LiveAddress(host="0.0.0.0", token=TOKEN)
    with growing_page(tmp_path, address=address) as (_, server):
        client = Client(server)
        for path in ("/", "/state.json", "/events", "/tile/0/0/0", "/static/live.js"):
            assert client.ask(path).status == 401, path
        assert client.ask("/state.json", OWN).status == 200
        assert client.ask(f"/?token={TOKEN}").status == 303


@pytest.mark.parametrize(
    ("first", "headers", "status"),
    [
        ("POST /control/stop", f"Content-Length: {1 << 40}\r\n", b"413"),
        ("POST /control/stop", "Transfer-Encoding: chunked\r\n", b"411"),
        ("POST /control/stop", "Content-Length: -1\r\n", b"411"),
        ("GET /" + "a" * 70000, "", b"414"),
        ("GET /", "X: y\r\n" * 200, b"431"),
        ("DELETE /", "", b"501"),
        ("GET /?" + "a=b&" * 50, "", b"400"),
        ("GET / HTTP/9.9 and", "", b"400"),
    ],
)
def test_too_much_is_refused(
    page: tuple[GrowingScan, Client], first: str, headers: str, status: bytes
) -> None:
    _, client = page
    request = f"{first} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"
    answer = client.raw(request.encode())
    assert status in answer.split(b"\r\n", 1)[0]


def test_a_wrong_session_body_is_refused(page: tuple[GrowingScan, Client]) -> None:
    _, client = page
    assert client.ask("/session", {}, "POST").status == 401
    assert MAX_BODY_BYTES >= 256


def test_a_reader_goes_on_where_it_was_cut(page: tuple[GrowingScan, Client]) -> None:
    """Last-Event-ID: exactly what changed meanwhile, nothing twice, nothing lost."""
    scan, client = page
    stream = Stream(client)
    seen, first = stream.next()
    assert first["begins"] is True
    stream.close()
    scan.run()
    later = Stream(client, {"Last-Event-ID": seen})
    cells: dict[tuple[int, int], Any] = {}
    tiles = set()
    while True:
        _, news = later.next()
        assert news["begins"] is False
        cells.update({(cell["row"], cell["column"]): cell for cell in news["cells"]})
        tiles |= {tuple(tile[:3]) for tile in news["tiles"]}
        if news["progress"]["state"] == "done":
            break
    later.close()
    assert len(cells) == len(scan.plan.visits)
    assert all(cell["quality"] is not None for cell in cells.values())
    assert {(0, *cell) for cell in scan.published_s} <= tiles


def test_another_servers_event_id_begins_anew(
    done: tuple[GrowingScan, Client],
) -> None:
    _, client = done
    stream = Stream(client, {"Last-Event-ID": "deadbeef-5"})
    _, news = stream.next()
    stream.close()
    assert news["begins"] is True
    assert len(news["cells"]) == 24


def test_streams_are_bounded_and_free_their_places(
    page: tuple[GrowingScan, Client],
) -> None:
    scan, client = page
    streams = [Stream(client) for _ in range(MAX_STREAMS)]
    assert {stream.response.status for stream in streams} == {200}
    refused = client.ask("/events")
    assert refused.status == 503
    assert "retry-after" in refused.headers
    for stream in streams:
        stream.close()
    free = threading.Event()
    for number in range(200):  # each news finds out one more reader that has gone
        scan.events.publish(Fault(text=f"news {number}"))
        if client.server.streams.acquire(blocking=False):
            client.server.streams.release()
            free.set()
            break
        threading.Event().wait(0.05)
    assert free.is_set()


def test_the_close_ends_every_stream_at_once(tmp_path: Path) -> None:
    with growing_page(tmp_path) as (_, server):
        stream = Stream(Client(server))
        stream.next()
    assert stream.response.read() == b""
    stream.close()


def test_a_taken_port_is_named(
    page: tuple[GrowingScan, Client], tmp_path: Path
) -> None:
    _, client = page
    port = client.server.server_port
    address = LiveAddress(port=port)
    with (
        pytest.raises(ConfigError, match=rf"port {port} of 127\.0\.0\.1.*in use"),
        growing_page(tmp_path / "second", address=address),
    ):
        pass
