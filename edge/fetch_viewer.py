"""Install OpenSeadragon, the live page's picture viewer, into this package.

It is no part of the repository: `make` calls this once, with npm, and checks that the
archive is exactly the one that was tested. Without npm: download the archive with
anything, and name it: `python -m bifocus.edge.fetch_viewer FILE.tgz`.
"""

import base64
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from bifocus.errors import BifocusError, ConfigError, SlideFileError
from bifocus.whole_file import write_whole

VERSION = "6.1.1"
# The npm registry's own figure for this version (`npm view openseadragon dist`).
INTEGRITY = (
    "sha512-g4iKe2q8B642SaBT3+x4ZF3/8b1TxPPydyjmtrOLgDrlYWMKd9ZXM+1Cb/xa9DVySkvs/"
    "7l6HR1nHKfD5F3Tsw=="
)
FOLDER = Path(__file__).parent / "static" / "vendor"
SCRIPT = "openseadragon.min.js"
_WANTED = {
    f"package/build/openseadragon/{SCRIPT}": SCRIPT,
    "package/LICENSE.txt": "openseadragon-LICENSE.txt",
}
_NPM_S = 120.0


def is_installed(folder: Path = FOLDER) -> bool:
    """Tell whether the viewer of this version is there."""
    mark = folder / "openseadragon-VERSION.txt"
    return mark.exists() and mark.read_text("utf-8").strip() == VERSION


def install_viewer(archive: bytes, folder: Path = FOLDER) -> None:
    """Check the npm archive and write what the page needs of it.

    Parameters
    ----------
    archive
        The bytes of `openseadragon-VERSION.tgz`.
    folder
        Where its files go.

    Raises
    ------
    ConfigError
        If it is not the archive that was tested.
    SlideFileError
        If the folder cannot be written.
    """
    digest = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if f"sha512-{digest}" != INTEGRITY:
        msg = (
            f"this is not openseadragon {VERSION} as it was tested: sha512-{digest}, "
            f"expected {INTEGRITY}; download it again"
        )
        raise ConfigError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile() as stream:
        stream.write(archive)
        stream.seek(0)
        with tarfile.open(fileobj=stream, mode="r:gz") as files:
            for name, target in _WANTED.items():
                member = files.extractfile(name)
                if member is None:
                    msg = f"openseadragon {VERSION}: the archive holds no {name}"
                    raise SlideFileError(msg)
                write_whole(folder / target, member.read())
    write_whole(folder / "openseadragon-VERSION.txt", VERSION + "\n")


def fetch_with_npm() -> bytes:
    """Return the archive from the registry that npm is set up for.

    Raises
    ------
    ConfigError
        If there is no npm, or it cannot reach its registry.
    """
    npm = shutil.which("npm")
    if npm is None:
        msg = (
            "there is no npm to fetch the viewer with (Debian: apt-get install npm); "
            f"or download openseadragon-{VERSION}.tgz and run "
            "python -m bifocus.edge.fetch_viewer FILE.tgz"
        )
        raise ConfigError(msg)
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"openseadragon@{VERSION}", "--ignore-scripts"]
        try:
            subprocess.run(
                [*command, "--silent", "--pack-destination", folder],
                cwd=folder,
                check=True,
                capture_output=True,
                text=True,
                timeout=_NPM_S,
            )
        except subprocess.CalledProcessError as error:
            msg = f"npm cannot fetch openseadragon {VERSION}: {error.stderr.strip()}"
            raise ConfigError(msg) from error
        except subprocess.TimeoutExpired as error:
            msg = f"npm did not fetch openseadragon {VERSION} within {_NPM_S:.0f} s"
            raise ConfigError(msg) from error
        return (Path(folder) / f"openseadragon-{VERSION}.tgz").read_bytes()


def main(arguments: list[str]) -> int:
    """Install the viewer unless it is there; return the exit code."""
    if is_installed() and not arguments:
        return 0
    try:
        archive = Path(arguments[0]).read_bytes() if arguments else fetch_with_npm()
        install_viewer(archive)
    except (BifocusError, OSError) as error:
        sys.stderr.write(f"live page: {error}\n")
        return 1
    sys.stderr.write(f"installed openseadragon {VERSION} for the live page\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
