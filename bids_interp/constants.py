"""Constants that several rooms share, each defined once."""

#: Meaning of the sign of a log-Jacobian map.
SIGN = (
    'positive = local expansion from the observed to the simulated image; '
    'negative = contraction; volume change % = 100*(exp(logJ)-1)'
)

#: Voxel size in mm of the local volume maps of observed brains.
ANATOMY_MM = 4
#: Meaning of the sign of a local volume map of an observed brain.
ANATOMY_SIGN = (
    'positive = larger in the subject than in the template; negative = smaller; '
    'difference of volumes % = 100*(exp(logJ)-1)'
)

#: Directions of a simulation, in the order used in files and tables.
DIRECTIONS = ('inject', 'remove')
#: Sign of the dose in each direction.
DIRECTION_SIGNS = {'inject': 1.0, 'remove': -1.0}

#: Smallest part of the effect of a simulation that its volume changes should explain.
VOLUME_SHARE_FLOOR = 0.95

#: Personal share below which a map is the common pattern of the model, drawn on one person.
COMMON_SHARE = 0.05

#: Names of the sets of training settings.
PRESET_NAMES = ('default', 'fast', 'ipmi2021')
#: What a simulator with a free velocity can express.
FREE_CAPACITIES = ('template', 'residual', 'condconv')
#: What a simulator can express.
CAPACITIES = ('pattern', *FREE_CAPACITIES)

#: Template whose brain is part of nilearn.
EMBEDDED_TEMPLATE = 'MNI152NLin2009aSym'
#: Segmentations of each scan by other tools that --atlas chooses, by the label in file names.
SEGMENTATIONS = {'aparc+aseg': 'aparcaseg', 'aseg': 'aseg', 'synthseg': 'synthseg'}
#: Saliency methods, as spelled in file names.
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
