"""HTTP routes of a ComfyUI, each also under /api (recording routes)."""
