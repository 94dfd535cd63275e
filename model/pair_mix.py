"""From which ranges training and validation pairs are drawn: the mixes by name.

Ranges: network.md of the project, section 6 (recipe, item 3); the offsets follow the
paper (arXiv 2003.06630, n ~ N(0, 1) um) plus a flat mix over defocus.
"""

import dataclasses
from dataclasses import dataclass

Range = tuple[float, float]

# The instrument that the quality goals are stated for.
REFERENCE_NA = 0.75
REFERENCE_PIXEL_UM = 0.25
REFERENCE_HALF_SPACING_UM = 0.75
NOMINAL_WAVELENGTHS_UM = (0.62, 0.53, 0.46)
# lambda / NA^2 of that instrument: spacings and offsets of others scale with theirs.
REFERENCE_UNIT_UM = NOMINAL_WAVELENGTHS_UM[1] / REFERENCE_NA**2
# Edges in um, at the reference NA, of the smaller |defocus| of the two shots.
DEFOCUS_BINS_UM = (0.0, 0.25, 0.5, 1.0, 1.5, 2.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairMix:
    """From which ranges pairs are drawn; `a_share` is a probability.

    Spacings and offsets are stated at the reference NA 0.75 and scale with
    lambda / NA^2; `pixel_share` is the pixel in units of lambda / (2 NA).
    """

    reference_share: float = 0.5
    na: Range = (0.4, 0.95)
    pixel_share: Range = (0.45, 0.85)
    half_spacing_um: Range = (0.4, 1.2)
    reference_half_spacing_um: Range = (0.6, 0.9)
    offset_sigma_um: float = 1.0
    largest_offset_um: float = 2.75
    flat_share: float = 0.3
    identity_share: float = 0.12
    coherent_share: float = 0.5
    exact_pupil_share: float = 0.4
    condenser_sigma: Range = (0.35, 0.75)
    phase_rad: Range = (0.0, 0.25)
    n_sources: int = 14
    spherical_waves: float = 0.06
    coma_waves: float = 0.05
    relief_share: float = 0.6
    relief_um: Range = (0.1, 0.5)
    na_deviation: float = 0.02
    wavelength_deviation: float = 0.05
    spacing_deviation: float = 0.03
    shift_px: float = 0.5
    gain_deviation: float = 0.03
    tilt: float = 0.01
    full_well_e: Range = (8e3, 40e3)
    jpeg_share: float = 1 / 3
    jpeg_quality: tuple[int, int] = (80, 100)
    texture_scale: Range = (0.6, 1.0)
    stain_deviation: float = 0.2
    stain_turn_rad: float = 0.3
    srgb_share: float = 0.35
    blend_share: float = 0.0
    blend: Range = (0.3, 0.9)
    sharpen_share: float = 0.0
    sharpen: Range = (0.2, 1.0)
    texture_jpeg_share: float = 0.0
    texture_jpeg_quality: tuple[int, int] = (60, 95)
    faint_share: float = 0.0
    strength: Range = (0.2, 1.0)
    grain_share: float = 0.0
    grain: Range = (0.05, 0.5)
    grain_px: Range = (0.4, 1.2)
    noise_share: float = 0.0
    noise_levels: Range = (1.0, 8.0)
    noise_px: Range = (0.3, 1.0)
    noise_colour: Range = (0.0, 1.0)


# The default: half of the instruments lie near the reference.
TRAINING_MIX = PairMix()
# The reference alone, mostly as the product stores it: a second store of these makes
# the network best where its goals are stated, and keeps it safe elsewhere.
REFERENCE_MIX = dataclasses.replace(
    TRAINING_MIX, reference_share=1.0, srgb_share=0.15, jpeg_share=0.2
)
# The reference instrument on textures that no slide has shown: two tissues over each
# other, any stain, finer structures, sharpened and JPEG sources. What a network learns
# of textures alone then does not pay. The shots are linear and stored without loss.
DIVERSE_MIX = dataclasses.replace(
    REFERENCE_MIX,
    srgb_share=0.0,
    jpeg_share=0.0,
    texture_scale=(0.4, 1.0),
    stain_deviation=0.5,
    stain_turn_rad=1.0,
    blend_share=0.5,
    sharpen_share=0.3,
    texture_jpeg_share=0.2,
)
# The same tissue under a reference instrument that somebody looks after: files without
# loss, little drift, numbers that are nearly right; its light may be anything.
MAINTAINED_MIX = dataclasses.replace(
    DIVERSE_MIX,
    reference_half_spacing_um=(0.65, 0.85),
    flat_share=0.2,
    identity_share=0.06,
    coherent_share=0.6,
    condenser_sigma=(0.4, 0.8),
    phase_rad=(0.05, 0.3),
    n_sources=10,
    spherical_waves=0.08,
    relief_share=0.4,
    na_deviation=0.01,
    wavelength_deviation=0.02,
    spacing_deviation=0.02,
    shift_px=0.25,
    gain_deviation=0.015,
    tilt=0.005,
    full_well_e=(12e3, 32e3),
    jpeg_share=0.05,
    srgb_share=0.05,
)
# Tissue that is hard to tell from noise: faint, and with a grain as fine as the optics
# pass. Without it a network smooths such tissue away, and harms it near focus.
GRAINY_MIX = dataclasses.replace(
    MAINTAINED_MIX,
    texture_jpeg_share=0.1,
    relief_share=0.25,
    coherent_share=0.5,
    flat_share=0.1,
    faint_share=0.6,
    grain_share=0.75,
)
# Tissue as scanners store it: with the noise of their cameras in it, often sharpened.
# To the two shots such noise is tissue: both show it, which tells it from their own.
SCANNED_MIX = dataclasses.replace(
    MAINTAINED_MIX,
    texture_scale=(0.5, 1.0),
    sharpen_share=0.4,
    faint_share=0.4,
    grain_share=0.1,
    noise_share=0.75,
    flat_share=0.1,
)
# What a good instrument does to a level slide: spherical wavefronts from a condenser
# that is filled evenly. The other mixes hold mostly what is harder than that: paraxial
# pupils, relief, light from a few points.
GLASS_MIX = dataclasses.replace(
    SCANNED_MIX,
    coherent_share=1.0,
    exact_pupil_share=1.0,
    relief_share=0.15,
    n_sources=32,
)
# Never trained on: higher condenser, more phase, larger aberrations, other relief.
# Offsets are the paper's, the spacing is the product's.
EVALUATION_COHERENT = PairMix(
    reference_share=1.0,
    reference_half_spacing_um=(0.75, 0.75),
    largest_offset_um=2.5,
    flat_share=0.0,
    identity_share=0.0,
    coherent_share=1.0,
    condenser_sigma=(0.6, 0.8),
    phase_rad=(0.15, 0.3),
    n_sources=24,
    spherical_waves=0.1,
    relief_share=0.0,
    wavelength_deviation=0.0,
    na_deviation=0.0,
    spacing_deviation=0.0,
    full_well_e=(20e3, 20e3),
    jpeg_share=0.0,
    shift_px=0.0,
    gain_deviation=0.0,
    tilt=0.0,
    texture_scale=(1.0, 1.0),
    stain_deviation=0.0,
    stain_turn_rad=0.0,
    srgb_share=0.0,
)
EVALUATION_RELIEF = dataclasses.replace(
    EVALUATION_COHERENT,
    coherent_share=0.0,
    exact_pupil_share=0.0,
    spherical_waves=0.0,
    coma_waves=0.0,
    relief_share=1.0,
    relief_um=(0.4, 0.4),
)
MIXES = {
    "training": TRAINING_MIX,
    "reference": REFERENCE_MIX,
    "diverse": DIVERSE_MIX,
    "maintained": MAINTAINED_MIX,
    "grainy": GRAINY_MIX,
    "scanned": SCANNED_MIX,
    "glass": GLASS_MIX,
    "evaluation-coherent": EVALUATION_COHERENT,
    "evaluation-relief": EVALUATION_RELIEF,
}
