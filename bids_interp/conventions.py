"""Conventions that are written beside every output, each stated once."""

#: What the sign of a log-Jacobian map means.
SIGN = (
    'positive = local expansion from the observed to the simulated image; '
    'negative = contraction; volume change % = 100*(exp(logJ)-1)'
)

#: Voxel size in mm of the maps of local volumes of observed brains.
ANATOMY_MM = 4
#: What the sign of a map of local volumes of an observed brain means.
ANATOMY_SIGN = (
    'positive = larger in the subject than in the template; negative = smaller; '
    'difference of volumes % = 100*(exp(logJ)-1)'
)

#: Saliency methods, as in file names; ``all`` stands for every one.
SALIENCY_METHODS = (
    'gradient',
    'inputxgradient',
    'integratedgradients',
    'smoothgrad',
    'guidedbackprop',
    'deconvolution',
    'gradcam',
    'guidedgradcam',
    'deeplift',
    'gradientshap',
    'occlusion',
)
