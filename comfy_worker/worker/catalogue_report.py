"""What a ComfyUI offers, in the words of the contract. Pure."""

import hashlib
from collections.abc import Mapping
from typing import Final

from generation_jobs.v1 import worker_service_pb2 as pb

from comfy_worker.comfyui import (
    Catalogue,
    InputSignature,
    NodeSignature,
    NodeSignatures,
    ServerInfo,
)
from comfy_worker.worker.reports import readable_name

LARGEST_SIGNATURES: Final = 2 * 1024 * 1024 - 64 * 1024
"""Bytes that signatures and choice lists may take together, so that the call stays under 4 MiB."""
# Tags and lengths around a list or a signature, at most.
_FRAME: Final = 12


def backend_catalogue(name: str, catalogue: Catalogue, info: ServerInfo) -> pb.BackendCatalogue:
    """Report what a ComfyUI offers, under a digest of exactly that."""
    message = pb.BackendCatalogue(
        backend=name,
        checkpoints=catalogue.checkpoints,
        loras=catalogue.loras,
        vaes=catalogue.vaes,
        samplers=catalogue.samplers,
        schedulers=catalogue.schedulers,
        node_classes=catalogue.node_classes,
        comfyui_version=readable_name(info.version),
        max_dimension=catalogue.max_dimension or 0,
        max_batch_size=catalogue.max_batch_size or 0,
        device=readable_name(info.device),
        device_memory=info.device_memory,
    )
    _add_signatures(message, catalogue.signatures)
    message.digest = hashlib.sha256(message.SerializeToString(deterministic=True)).hexdigest()
    return message


def _add_signatures(message: pb.BackendCatalogue, signatures: NodeSignatures) -> None:
    """Add what fits: the longest choice lists are left out first, then the last classes.

    A class that is left out still stands in ``node_classes``.
    """
    kept = _lists_that_fit(signatures)
    positions = {position: place for place, position in enumerate(kept)}
    message.choice_lists.extend(
        pb.ChoiceList(values=signatures.choice_lists[position]) for position in kept
    )
    room = LARGEST_SIGNATURES - sum(each.ByteSize() + _FRAME for each in message.choice_lists)
    for node in signatures.nodes:
        signature = _node_signature(node, positions)
        room -= signature.ByteSize() + _FRAME
        if room < 0:
            break
        message.node_signatures.append(signature)


def _lists_that_fit(signatures: NodeSignatures) -> list[int]:
    """Positions of the choice lists that leave room for all signatures, in their order."""
    room = LARGEST_SIGNATURES - sum(
        _node_signature(node, {}).ByteSize() + _FRAME + _FRAME * len(node.inputs)
        for node in signatures.nodes
    )
    sizes = [pb.ChoiceList(values=values).ByteSize() + _FRAME for values in signatures.choice_lists]
    kept: list[int] = []
    for position in sorted(range(len(sizes)), key=sizes.__getitem__):
        room -= sizes[position]
        if room < 0:
            break
        kept.append(position)
    return sorted(kept)


def _node_signature(node: NodeSignature, positions: Mapping[int, int]) -> pb.NodeSignature:
    return pb.NodeSignature(
        class_type=node.class_type,
        inputs=[_input_signature(each, positions) for each in node.inputs],
        output_types=node.output_types,
        is_output_node=node.is_output_node,
    )


def _input_signature(each: InputSignature, positions: Mapping[int, int]) -> pb.NodeInputSignature:
    place = None if each.choice_list is None else positions.get(each.choice_list)
    return pb.NodeInputSignature(
        name=each.name,
        type=each.type,
        required=each.required,
        minimum=each.minimum,
        maximum=each.maximum,
        choice_list=place,
        is_widget=each.is_widget,
        has_control_widget=each.has_control_widget,
        is_upload=each.is_upload,
    )
