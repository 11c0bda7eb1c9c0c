"""Graphs and templates: all that can be decided about them without a database. Pure.

What a client sends is read (``reading``), checked (``structure``, ``safety``), given its inputs
(``inputs``), its parameters (``template``) and its LoRAs (``loras``), and asked what it needs of a
worker (``needs``). Whatever is wrong is a ``Problem`` that names node and input.
"""
