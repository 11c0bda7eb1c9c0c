"""Empty: ComfyUI takes names from here only when it runs models these tests do not have."""
