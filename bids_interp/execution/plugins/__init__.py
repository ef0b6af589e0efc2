"""Plugins of nipype that run the nodes, on this machine or with dask."""
