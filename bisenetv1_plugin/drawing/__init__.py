"""Pictures that people look at: palettes, overlays, legends and plots."""
