"""Deblurring without learned networks: a map of the blur, then deconvolution by it; numpy, scipy and scikit-image."""
