from .main import worker

__all__ = ["worker"]
