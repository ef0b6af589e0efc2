"""The training loop, which a killed run resumes: Lightning with checkpoints and fixed draws."""
