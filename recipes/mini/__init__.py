"""How the embedded model was made: pictures, latents, training, export."""
