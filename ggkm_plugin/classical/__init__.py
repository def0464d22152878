"""Classical deblurring methods: estimate a blur map, then deconvolve by it."""
