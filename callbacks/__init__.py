"""What happens besides training, each concern a thin Lightning callback."""

from callbacks.chatcore_eval import ChatCoreEval
from callbacks.checkpoint_writer import CheckpointWriter
from callbacks.core_eval import CoreEval
from callbacks.metrics import TrainingMetrics
from callbacks.preemption import Preemption
from callbacks.progress import Progress
from callbacks.run_record import RunRecord
from callbacks.samples import Samples
from callbacks.stop_guard import StopGuard

__all__ = [
    "ChatCoreEval",
    "CheckpointWriter",
    "CoreEval",
    "Preemption",
    "Progress",
    "RunRecord",
    "Samples",
    "StopGuard",
    "TrainingMetrics",
]
