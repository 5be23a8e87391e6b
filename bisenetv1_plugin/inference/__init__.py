"""Run an exported model on pictures. Paddle is needed only if it is the runtime."""
