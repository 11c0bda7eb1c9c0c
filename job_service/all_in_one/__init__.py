"""Everything on one machine: job_service with its database, a worker and a ComfyUI.

``python -m job_service.all_in_one up`` runs it, ``… demo`` makes one picture with it. The parts
are processes of their own, started as their console scripts; nothing of the worker is imported.
"""
