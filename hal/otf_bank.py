"""Transfer functions on one frequency grid, for any defocus, quickly.

The OTF is symmetric about the axis and smooth in z: it is kept as radial tables at
nodes in z, interpolated between four nodes (Catmull-Rom), and looked up on the grid.
"""

from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from bifocus.optics import Objective, frequency_grid_per_um, otf_radial
from bifocus.transfer import Light, compute_rim_waves, integrate_transfer

Float32 = npt.NDArray[np.float32]

_NODE_UM = 0.1  # cubic interpolation at NA 0.75: error under 1e-3, tested
_RADII = 8193  # nearest neighbour: error half a step x slope, under 1e-3
_TRANSFER_RADII = 513  # with aberration or a condenser; then linearly to _RADII
_NODES = (20, 12)  # of the quadrature in focus; more with each wave of defocus
_MAX_TABLES = 1024  # 32 kB each: 32 MB


class OtfBank:
    """OTF grids for one picture size; not safe for two threads at a time.

    With a `light` they hold the transfer of weak tissue in that light, and the
    objective's own aberration is not looked at; without, the incoherent OTF.
    """

    def __init__(
        self, shape: tuple[int, int], pixel_um: float, light: Light | None = None
    ) -> None:
        self._light = light
        frequency = frequency_grid_per_um(shape, pixel_um)
        highest = float(frequency.max())
        self._radii_per_um = np.asarray(np.linspace(0, highest, _RADII), np.float64)
        scale = (_RADII - 1) / highest
        self._index = np.round(frequency * scale).astype(np.intp)
        self._tables: OrderedDict[tuple[Objective, int], Float32] = OrderedDict()

    def grid(self, objective: Objective, z_um: float) -> Float32:
        """Return the OTF on the `rfft2` half plane at this defocus, float32."""
        position = z_um / _NODE_UM
        node = round(position)
        if abs(position - node) < 1e-6:
            table = self._table(objective, node)
        else:
            node = int(np.floor(position))
            t = position - node
            weights = np.array(_catmull_rom(t), np.float32)
            nodes = [self._table(objective, node + k) for k in (-1, 0, 1, 2)]
            table = weights @ np.stack(nodes)
        result: Float32 = table.take(self._index)
        return result

    def _table(self, objective: Objective, node: int) -> Float32:
        # Without aberrations +z and -z are alike: half the tables do.
        if self._light is None and objective.spherical_waves == 0:
            node = abs(node)
        key = (objective, node)
        table = self._tables.get(key)
        if table is None:
            table = self._compute(objective, node * _NODE_UM)
            self._tables[key] = table
            if len(self._tables) > _MAX_TABLES:
                self._tables.popitem(last=False)
        else:
            self._tables.move_to_end(key)
        return table

    def _compute(self, objective: Objective, z_um: float) -> Float32:
        radii = self._radii_per_um
        if self._light is None and objective.spherical_waves == 0:
            values: Float32 = otf_radial(objective, radii, z_um).astype(np.float32)
            return values
        light = self._light or Light(
            spherical_waves=objective.spherical_waves, pupil=objective.pupil
        )
        waves = float(compute_rim_waves(objective, light.pupil, np.array(z_um)))
        more = round(abs(waves))
        s = np.asarray(np.linspace(0, 2, _TRANSFER_RADII), dtype=np.float64)
        transfer = integrate_transfer(
            light,
            objective.na / objective.refractive_index,
            s,
            (waves, 0.0, 1),
            nodes=(_NODES[0] + 2 * more, _NODES[1] + more),
        )[0]
        whole = transfer.real + np.float32(light.phase_ratio) * transfer.imag
        rim_per_um = objective.na / objective.wavelength_um
        found: Float32 = np.interp(radii / rim_per_um, s, whole).astype(np.float32)
        return found


def _catmull_rom(t: float) -> tuple[float, float, float, float]:
    """Weights of four neighbours for a place 0 <= t < 1 between the middle two."""
    return (
        t * (-0.5 + t * (1 - 0.5 * t)),
        1 + t * t * (-2.5 + 1.5 * t),
        t * (0.5 + t * (2 - 1.5 * t)),
        t * t * (-0.5 + 0.5 * t),
    )
