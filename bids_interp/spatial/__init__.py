"""Spatial methods: grids, velocity fields, warps and Jacobians, with torch and nibabel only."""

from bids_interp.spatial.fields import (
    compose,
    count_squarings,
    exponential,
    resample,
    sample,
    smooth,
    smooth_voxels,
    to_mm,
    to_voxels,
    transform_vectors,
    voxel_coordinates,
    warp,
)
from bids_interp.spatial.flows import FIELD_KINDS, flow, forward_map, invert, pull_back
from bids_interp.spatial.grid import Grid, along_axes
from bids_interp.spatial.jacobian import (
    count_folded,
    digital_folding_volume,
    divergence,
    flow_log_jacobian,
    jacobian_determinant,
    log_jacobian,
    percent_change,
    voxel_determinant,
)
from bids_interp.spatial.poisson import curl_free_part, gradient_velocity
from bids_interp.spatial.splines import SplineEvaluator, refine_velocity, spline_coefficients
from bids_interp.spatial.volume_flow import VolumeFlow

__all__ = [
    'FIELD_KINDS',
    'Grid',
    'SplineEvaluator',
    'VolumeFlow',
    'along_axes',
    'compose',
    'count_folded',
    'count_squarings',
    'curl_free_part',
    'digital_folding_volume',
    'divergence',
    'exponential',
    'flow',
    'flow_log_jacobian',
    'forward_map',
    'gradient_velocity',
    'invert',
    'jacobian_determinant',
    'log_jacobian',
    'percent_change',
    'pull_back',
    'refine_velocity',
    'resample',
    'sample',
    'smooth',
    'smooth_voxels',
    'spline_coefficients',
    'to_mm',
    'to_voxels',
    'transform_vectors',
    'voxel_coordinates',
    'voxel_determinant',
    'warp',
]
