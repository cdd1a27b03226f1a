"""How it is minimized: from two images to a `Registration`."""
