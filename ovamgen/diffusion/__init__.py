"""Images and recordings of attention; the only package that imports diffusers and transformers."""

import os

# both libraries greet on stderr while they are imported (missing torchvision, processors renamed),
# which is where our own log goes; what the user has set stays
for _name in ("DIFFUSERS_VERBOSITY", "TRANSFORMERS_VERBOSITY"):
    os.environ.setdefault(_name, "error")
