"""Plugins of nipype that run the nodes: on this machine, or as jobs through dask."""
