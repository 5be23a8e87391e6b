"""Draw palettes, overlays, legends and plots."""
