"""Saliency maps of a classifier by Captum: the baselines that a simulation has to beat.

Imports models, spatial, errors and constants; neither nipype, pybids nor click.
"""
