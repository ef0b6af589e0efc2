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

#: Directions of a simulation, in the order of files and tables.
DIRECTIONS = ('inject', 'remove')
#: Sign of the dose in each direction.
DIRECTION_SIGNS = {'inject': 1.0, 'remove': -1.0}

#: Name of the template whose brain ships inside nilearn.
EMBEDDED_TEMPLATE = 'MNI152NLin2009aSym'
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
