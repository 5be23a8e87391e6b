"""Training, evaluation and prediction with a PaddleSeg configuration."""
