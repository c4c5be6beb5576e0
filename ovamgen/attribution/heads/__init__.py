"""Networks that read masks out of a UNet's block features: Grounded Diffusion and DatasetDM."""
