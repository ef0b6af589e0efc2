"""Model bundles: folders with a configuration, weights as safetensors and a model card."""
