"""bifocus: two-shot virtual autofocus for low-cost slide scanners."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("bifocus")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
