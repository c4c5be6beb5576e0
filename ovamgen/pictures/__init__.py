"""Pictures with masks, to learn from and to score on: sample folders, VOC folders."""
