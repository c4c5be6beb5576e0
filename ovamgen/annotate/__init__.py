"""People paint the masks that tokens are learnt from and methods are scored on."""
