"""Files: NIfTI images, templates, manifests of pairs, a pool of workers."""
