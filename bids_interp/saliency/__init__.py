"""Saliency maps of a classifier by Captum, as baselines for simulations."""
