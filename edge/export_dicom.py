"""A slide as DICOM whole slide images by wsidicomizer; tiles are copied as they are.

JPEG tiles pass without being decoded. Those of a lossless slide become lossless JPEG
2000, without macro and label, which are JPEG and would be misnamed. What a reader of
the files should know is given explicitly, the colour profile above all, for which
wsidicomizer would put a standard one. Patient and study stay empty: nobody has told
them.

Needs the extra `dicom` and the system's libturbojpeg.
"""

import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

from bifocus.edge.ome_xml import SIMULATED_TEXT, SlideDescription, parse_utc
from bifocus.edge.slide_reader import SlideReader
from bifocus.errors import SlideFileError

MANUFACTURER = "bifocus"
NEEDS = (
    "DICOM needs wsidicomizer and libturbojpeg: pip install 'bifocus[dicom]' and "
    "apt-get install libturbojpeg0"
)


def export_dicom(slide: Path, out: Path) -> list[Path]:
    """Write a slide as a folder of DICOM files, one for each level and picture.

    Parameters
    ----------
    slide
        A slide by `SlideWriter`, finished.
    out
        The folder to make; it must not exist, or be empty.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    SlideFileError
        If the slide cannot be read, the folder is not empty, or the extra is missing.
    """
    with SlideReader(slide) as reader:
        description, icc_profile = reader.read_description(), reader.read_icc_profile()
        is_lossless, tile_px = reader.is_lossless, reader.tile_px
        has_one_level = not reader.has_subifds
    if out.exists() and any(out.iterdir()):
        msg = f"{out}: the folder is not empty; choose another one"
        raise SlideFileError(msg)
    dicomizer, settings = _import_dicomizer()
    encoding = settings.Jpeg2kSettings(levels=0) if is_lossless else None
    metadata = _describe(description, icc_profile)
    try:
        with warnings.catch_warnings():
            # pydicom tells wsidicom, not us, what it will remove.
            warnings.simplefilter("ignore", DeprecationWarning)
            dicomizer.WsiDicomizer.convert(
                slide,
                out,
                metadata=metadata,
                tile_size=tile_px,
                workers=1,
                encoding=encoding,
                include_label=not is_lossless,
                include_overview=not is_lossless,
                add_missing_levels=has_one_level,
            )
    except RuntimeError as error:  # of the binding; NotImplementedError is one too
        hint = NEEDS if "turbojpeg" in str(error) else ""
        msg = f"{slide}: cannot be written as DICOM: {error}. {hint}"
        raise SlideFileError(msg) from error
    except (OSError, ValueError) as error:
        msg = f"{slide}: cannot be written as DICOM into {out}: {error}"
        raise SlideFileError(msg) from error
    return sorted(out.glob("*.dcm"))


def _import_dicomizer() -> tuple[Any, Any]:
    # Any: the package is optional.
    try:
        return import_module("wsidicomizer"), import_module("wsidicom.codec.settings")
    except (ImportError, OSError, RuntimeError) as error:
        msg = f"{NEEDS} ({error})"
        raise SlideFileError(msg) from error


def _describe(description: SlideDescription, icc_profile: bytes) -> Any:
    """Return the metadata in wsidicom's records."""
    dicom = import_module("wsidicom.metadata")
    acquired = parse_utc(description.acquired_utc).replace(tzinfo=None)
    path = dicom.OpticalPath(
        identifier="0",
        description="brightfield",
        icc_profile=icc_profile,
        objective=dicom.Objectives(
            objective_power=description.magnification,
            objective_numerical_aperture=description.na,
        ),
    )
    image = dicom.Image(
        acquisition_datetime=acquired, focus_method=dicom.FocusMethod.AUTO
    )
    summary = SIMULATED_TEXT if description.simulated else None
    return dicom.WsiMetadata(
        study=dicom.Study(date=acquired.date(), time=acquired.time()),
        series=dicom.Series(number=1, description=summary),
        patient=dicom.Patient(),
        equipment=dicom.Equipment(
            manufacturer=MANUFACTURER,
            model_name=description.instrument,
            device_serial_number="unknown",
            software_versions=[description.software],
        ),
        slide=dicom.Slide(),
        pyramid=dicom.Pyramid(image=image, optical_paths=[path], comments=summary),
        label=dicom.Label(optical_paths=[path], image=image),
        overview=dicom.Overview(image=image, optical_paths=[path]),
    )
