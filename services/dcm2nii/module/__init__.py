from .main import worker
