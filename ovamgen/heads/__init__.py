"""Training of the networks of Grounded Diffusion and DatasetDM on pictures with masks."""
