"""The page of `bisenetv1 app`: its controls and texts, and the limits of its visitors. The extra `app` has Gradio."""
