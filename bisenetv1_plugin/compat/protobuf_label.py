"""`paddle.distributed.fleet` before Paddle 3.3 reads `FieldDescriptor.label`, which protobuf 7 removed."""

from __future__ import annotations

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FieldDescriptor

DEFECT = (
    "paddle.distributed.fleet before Paddle 3.3 reads FieldDescriptor.label, which protobuf 7 no longer has: "
    "no training on several devices."
)

# The class of protobuf's C or Python implementation, whichever is in use.
_FieldDescriptor = type(descriptor_pb2.FileDescriptorProto.DESCRIPTOR.fields[0])


def needed() -> bool:
    if hasattr(_FieldDescriptor, "label"):
        return False
    from paddle.distributed.fleet.base.distributed_strategy import get_msg_dict

    try:
        get_msg_dict(descriptor_pb2.FileDescriptorProto())
    except AttributeError:
        return True
    return False


def apply() -> None:
    # Nothing to log: only code that reads the attribute is affected.
    _FieldDescriptor.label = property(_label)


def _label(field: FieldDescriptor) -> int:
    if field.is_repeated:
        return FieldDescriptor.LABEL_REPEATED
    return FieldDescriptor.LABEL_REQUIRED if field.is_required else FieldDescriptor.LABEL_OPTIONAL
