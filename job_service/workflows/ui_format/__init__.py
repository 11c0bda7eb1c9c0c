"""The format in which ComfyUI's user interface saves workflows, and its conversion to API format.

Facts of the format: the JSON schemas of versions 0.4 and 1.0 in ComfyUI's front end documentation,
and the workflows in the package ``comfyui-workflow-templates-json`` that the tests convert.
"""

from job_service.workflows.ui_format.conversion import convert
from job_service.workflows.ui_format.document import is_ui_format

__all__ = ["convert", "is_ui_format"]
