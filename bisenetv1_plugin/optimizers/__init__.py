import paddleseg  # noqa: F401 - first: at its end the plugin imports the components, which must not be half imported then
