"""What a graph with physics inside must know of the optics: four small tables.

They are an input, so that one engine serves every instrument, and what calibration has
measured of it: NA, light, colours' focus, scale of z. The graph itself is
`bifocus.export.physics_graph`.
"""

import numpy as np
import numpy.typing as npt

from bifocus.block_fusion import focus_table, trust_in_optics
from bifocus.focal_offset import PairOptics, offset_grid_um, transfer_tables
from bifocus.pair_spectra import layout_for, radial_bins

Float32 = npt.NDArray[np.float32]


def transfer_inputs(optics: PairOptics, block_px: int) -> dict[str, Float32]:
    """Return what the graph must know of the optics, by input name.

    ``transfer``: h- and h+ over colour, shot, offset and ring; ``in_focus``: h(0) over
    colour and ring; ``scale_um``: step of the offsets, dD, and the unit of defocus;
    ``trust``: the largest share of the Wiener image, 1 where the optics were measured.
    """
    grid_um = offset_grid_um(optics)
    scale_um = [grid_um[1] - grid_um[0], optics.half_spacing_um, optics.focus_unit_um]
    return {
        "transfer": transfer_tables(optics, block_px),
        "in_focus": focus_table(optics, block_px),
        "scale_um": np.array(scale_um, dtype=np.float32),
        "trust": np.array([trust_in_optics(optics)], dtype=np.float32),
    }


def table_shapes(
    optics: PairOptics, size_px: tuple[int, int]
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of `transfer_inputs` for shots of a size, without the work.

    Parameters
    ----------
    optics
        Of the pairs.
    size_px
        Rows and columns of the shots.
    """
    bins = radial_bins(layout_for(size_px).block_px).count.size
    return {
        "transfer": (3, 2, offset_grid_um(optics).size, bins),
        "in_focus": (3, bins),
        "scale_um": (3,),
        "trust": (1,),
    }
