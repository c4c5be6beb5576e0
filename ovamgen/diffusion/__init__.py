"""Images and recordings of attention; the only package that imports diffusers and transformers."""
