"""Local web page for deblurring photographs (`basicsr app`), with Gradio."""
