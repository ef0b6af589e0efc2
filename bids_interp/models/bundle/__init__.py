"""The model bundle: a folder with a configuration, weights as safetensors and a model card."""
