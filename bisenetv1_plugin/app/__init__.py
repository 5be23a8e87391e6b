"""The page of `bisenetv1 app`: what is on it, its words, and the server that shows it. Gradio is in the extra `app`."""
