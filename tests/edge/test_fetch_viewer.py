"""Only the viewer that was tested is installed; everything else is refused."""

import io
import shutil
import tarfile
from pathlib import Path

import pytest

from bifocus.edge import fetch_viewer
from bifocus.edge.fetch_viewer import FOLDER, VERSION, install_viewer, is_installed
from bifocus.errors import ConfigError


def test_a_changed_archive_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as files:
        script = tarfile.TarInfo("package/build/openseadragon/openseadragon.min.js")
        files.addfile(script, io.BytesIO(b""))
    with pytest.raises(ConfigError, match="not openseadragon"):
        install_viewer(stream.getvalue(), tmp_path)
    assert not is_installed(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_npm_it_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match="apt-get install npm"):
        fetch_viewer.fetch_with_npm()


def test_npms_own_words_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error code ENOTFOUND' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(npm))
    with pytest.raises(ConfigError, match="ENOTFOUND"):
        fetch_viewer.fetch_with_npm()


def test_a_file_that_is_not_there_is_an_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch_viewer.main([str(tmp_path / "none.tgz")]) == 1
    assert "none.tgz" in capsys.readouterr().err


@pytest.mark.skipif(not is_installed(), reason="needs OpenSeadragon: make viewer")
def test_what_is_installed_is_the_viewer_and_its_licence() -> None:
    script = (FOLDER / fetch_viewer.SCRIPT).read_text("utf-8")
    assert f"//! openseadragon {VERSION}" in script[:400]
    licence = (FOLDER / "openseadragon-LICENSE.txt").read_text("utf-8")
    assert "Redistributions in binary form must reproduce" in licence
