"""What answers with a file, on a PC that has neither torch nor the rest of the learning half: numpy, OpenCV and the runtime."""

from dao.runtime.predictor import Predictor

__all__ = ["Predictor"]
