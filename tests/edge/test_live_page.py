"""The live page of scans elsewhere, finished and gone on with; its addresses."""

import json
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest

from bifocus.edge.journal import Journal
from bifocus.edge.live_page import (
    LiveAddress,
    Onlookers,
    let_look_on,
    serve_live,
)
from bifocus.edge.scan_events import ScanEvents
from bifocus.errors import ConfigError, SlideFileError
from tests.edge.live_client import Client, Stream
from tests.edge.live_setup import config_and_profile, small_scan

TOKEN = "a-token-of-enough-letters"


@pytest.mark.slow
def test_a_scan_of_another_process_is_followed_from_its_files(tmp_path: Path) -> None:
    scan = small_scan(tmp_path / "scan")
    scan.run()
    config, profile = config_and_profile(scan)
    with serve_live(
        scan.folder,
        scan.plan,
        config=config,
        profile=profile,
        strategy="two-shot",
        address=LiveAddress(),
    ) as server:
        client = Client(server)
        state = client.ask("/state.json").document
        assert state["can_act"] is False
        assert state["progress"]["state"] == "running"
        assert "another program" in state["progress"]["reason"]
        assert state["progress"]["fused"] == 24
        assert client.ask("/tile/0/0/0").status == 200
        stream = Stream(client)
        scan.folder.report.write_text("{}")
        while stream.next()[1]["progress"]["state"] != "done":
            pass
        stream.close()


def test_a_folder_without_a_scan_is_refused(tmp_path: Path) -> None:
    scan = small_scan(tmp_path / "scan")
    config, profile = config_and_profile(scan)
    with (
        pytest.raises(SlideFileError, match="journal"),
        serve_live(
            scan.folder,
            scan.plan,
            config=config,
            profile=profile,
            strategy="two-shot",
            address=LiveAddress(),
        ),
    ):
        pass


@pytest.mark.parametrize("text", ["", "http", "70000", "1.2.3.4", "::1:x", "²"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="PORT"):
        LiveAddress.parse(text)


def test_a_short_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIFOCUS_LIVE_TOKEN", "1234")
    with pytest.raises(ConfigError, match="at least 16"):
        LiveAddress.parse("8765")
    monkeypatch.setenv("BIFOCUS_LIVE_TOKEN", TOKEN)
    assert LiveAddress.parse("8765").token == TOKEN


def test_a_finished_scan_tells_its_own_time_and_faults(tmp_path: Path) -> None:
    scan = small_scan(tmp_path / "scan")
    scan.run()
    report = {"tiles": 24, "elapsed_s": 754.0, "waits_s": {"fuse_s": 3.0}}
    scan.folder.report.write_text(json.dumps(report))
    with Journal(scan.folder.journal) as journal:
        journal.add_fault("a cable")
    config, profile = config_and_profile(scan)
    with serve_live(
        scan.folder,
        scan.plan,
        config=config,
        profile=profile,
        strategy="two-shot",
        address=LiveAddress(),
    ) as server:
        progress = Client(server).ask("/state.json").document["progress"]
    assert progress["state"] == "done"
    assert progress["elapsed_s"] == 754.0
    assert progress["tiles_per_minute"] is None
    assert progress["waits_s"] == {"fuse_s": 3.0}
    assert progress["faults"] == ["a cable"]
    assert progress["timings_ms"]["capture"]["n"] == 24


def test_onlookers_of_a_resumed_scan_know_its_earlier_tiles(tmp_path: Path) -> None:
    scan = small_scan(tmp_path / "scan")
    scan.run()
    config, profile = config_and_profile(scan)
    said: list[str] = []
    with (
        ExitStack() as until,
        let_look_on(
            Onlookers(
                live=LiveAddress(),
                metrics=("127.0.0.1", 0),
                say=said.append,
                until=until,
            ),
            scan.folder,
            scan.plan,
            config=config,
            profile=profile,
            strategy="two-shot",
            events=ScanEvents(),
            control=scan.control,
        ),
    ):
        metrics, page = (line.partition(": ")[2] for line in said)
        with urllib.request.urlopen(metrics, timeout=10) as answer:
            assert b"bifocus_disk_free_bytes" in answer.read()
        base = page.partition("?")[0]
        with urllib.request.urlopen(f"{base}state.json", timeout=10) as answer:
            state = json.loads(answer.read())
        assert state["progress"]["captured"] == state["progress"]["fused"] == 24
        assert state["progress"]["tiles_per_minute"] is None
        assert state["can_act"] is True
        with urllib.request.urlopen(f"{base}metrics", timeout=10) as answer:
            assert b"bifocus_tiles_captured" in answer.read()
    with pytest.raises(OSError):
        urllib.request.urlopen(base, timeout=10)
