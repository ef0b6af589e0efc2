"""Training loop on Lightning that resumes killed runs from checkpoints, with the same draws."""
