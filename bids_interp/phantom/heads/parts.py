"""Parts of a head around the MNI152 brain, with contrasts of a T1w image (white matter = 1).

Contrasts were taken from whole-head T1w scans. Shapes are ellipsoids in MNI152 RAS+ mm; of two
sides, the right one is listed first.
"""

from __future__ import annotations

from dataclasses import dataclass

from bids_interp.phantom.regions.coarse import Ellipsoid

AIR, SKIN, FAT, MUSCLE = 0.02, 0.6, 0.95, 0.46
BONE, MARROW, CSF, CORD = 0.11, 0.42, 0.27, 0.8
VITREOUS, LENS, CARTILAGE = 0.2, 0.55, 0.4

#: Outer borders in mm from the smoothed surface of the brain.
CSF_END, INNER_TABLE_END, MARROW_END, SKULL_END, SCALP_END = 1.5, 3.2, 5.6, 7.2, 13.5
#: Depths in mm below the skin at which fat and muscle begin.
SKIN_DEPTH, FAT_DEPTH = 1.6, 7.0

#: Ellipsoids that form the outline of the head together with the scalp.
OUTLINE: tuple[Ellipsoid, ...] = (
    Ellipsoid((0, 26, -58), (60, 68, 58)),  # face
    Ellipsoid((0, 58, -104), (30, 30, 22)),  # chin
    Ellipsoid((0, 93, -52), (13, 18, 17), (-15, 0, 0)),  # nose
    Ellipsoid((0, 72, -14), (50, 16, 16)),  # brow
    Ellipsoid((34, 36, -96), (20, 42, 20), (15, 0, 20)),  # jaw
    Ellipsoid((-34, 36, -96), (20, 42, 20), (15, 0, -20)),
    Ellipsoid((0, -30, -130), (56, 58, 95), (-8, 0, 0)),  # neck
    Ellipsoid((79, -28, -34), (7, 13, 22), (15, 0, 0)),  # ears
    Ellipsoid((-79, -28, -34), (7, 13, 22), (15, 0, 0)),
)
#: Radius in mm of the rounded joints between the parts of the outline.
JOINT_MM = 5.0


@dataclass(frozen=True)
class Part:
    """Inner structure: a shape, its contrast and its minimum depth below the skin."""

    shape: Ellipsoid
    contrast: float
    depth_mm: float = 3.0
    both: bool = True


#: Parts outside the skull, in the order of painting.
PARTS: tuple[Part, ...] = (
    Part(Ellipsoid((60, 12, -28), (9, 30, 32)), MUSCLE),  # temporal muscle
    Part(Ellipsoid((46, 38, -66), (10, 26, 24)), FAT, 7.0),  # cheek fat
    Part(Ellipsoid((26, -78, -100), (17, 14, 40), (10, 0, 0)), MUSCLE, 5.0),  # neck muscles
    Part(Ellipsoid((0, 46, -96), (28, 32, 10)), MUSCLE, both=False),  # tongue
    Part(Ellipsoid((0, 60, -71), (26, 22, 5)), BONE, 6.0, both=False),  # palate
    Part(Ellipsoid((0, 68, -86), (24, 17, 10)), BONE, 6.0, both=False),  # teeth
    Part(Ellipsoid((0, 66, -86), (18, 13, 7)), MUSCLE, 6.0, both=False),
    Part(Ellipsoid((33, 36, -102), (6, 34, 11), (15, 0, 20)), BONE, 6.0),  # mandible
    Part(Ellipsoid((33, 36, -102), (3, 29, 7), (15, 0, 20)), MARROW, 6.0),
    Part(Ellipsoid((48, -26, -38), (13, 18, 12)), BONE),  # petrous bone and mastoid
    Part(Ellipsoid((55, -30, -46), (8, 9, 12)), AIR, 6.0),
    Part(Ellipsoid((70, -20, -36), (14, 4, 4)), AIR, 0.0),  # ear canal
    Part(Ellipsoid((32, 52, -36), (19, 24, 18)), FAT, 2.0),  # orbit
    Part(Ellipsoid((24, 38, -34), (5, 17, 3), (0, 0, -25)), MUSCLE, 2.0),  # optic nerve, muscles
    Part(Ellipsoid((32, 59, -36), (13.2, 13.2, 13.2)), MUSCLE, 1.5),  # eye wall
    Part(Ellipsoid((32, 59, -36), (11.8, 11.8, 11.8)), VITREOUS, 1.5),
    Part(Ellipsoid((32, 68, -36), (4.5, 2.5, 4.5)), LENS, 1.5),
    Part(Ellipsoid((10, 52, -40), (5, 24, 12)), AIR, 4.0),  # ethmoid cells
    Part(Ellipsoid((7, 20, -35), (9, 10, 8)), AIR, 4.0),  # sphenoid sinus
    Part(Ellipsoid((27, 50, -60), (12, 15, 14)), AIR, 6.0),  # maxillary sinus
    Part(Ellipsoid((5, 62, -56), (4, 26, 13)), AIR, 4.0),  # nasal cavity
    Part(Ellipsoid((0, 88, -52), (1.5, 10, 12)), CARTILAGE, 1.0, both=False),  # septum
    Part(Ellipsoid((0, 10, -92), (10, 7, 34), (8, 0, 0)), AIR, both=False),  # pharynx
    Part(Ellipsoid((0, 4, -145), (9, 8, 30)), AIR, both=False),  # trachea
)
