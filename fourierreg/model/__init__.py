"""What is minimized: the posterior of the initial velocity and of α for a pair of images."""
