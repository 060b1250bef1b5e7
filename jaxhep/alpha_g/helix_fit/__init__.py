"""The standard vertex reconstruction of the ALPHA-g radial TPC ("Helix Fit"): spacepoints -> tracks -> vertex.

1. Tracks are found by a conformal map and a Hough transform (`track_finding`).
2. A helix is fitted to each, minimising the summed squared distance of closest approach (`helix`).
3. Tracks that are long enough and pass near the beam line are grouped by the z at which they pass it; the point
   nearest to the helices of the largest group is the vertex (`vertex_fit`). With fewer than two there is none.

The method is that of the ALPHA collaboration's public reconstruction (arXiv 2412.00961 compares a network with it),
written anew with other minimisers. NumPy only, in double precision.
"""

from jaxhep.alpha_g.helix_fit.reconstruction import MAX_TRACKS, FitSettings, Reconstruction, reconstruct

__all__ = ["MAX_TRACKS", "FitSettings", "Reconstruction", "reconstruct"]
