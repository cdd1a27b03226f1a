"""Input data: NIfTI images, templates, manifests of image pairs, pools of worker processes."""
