"""What the model does, seen and measured: PSFs, the study of PSF models, figures, studies of trained networks."""
