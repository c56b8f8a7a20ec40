from .main import clean, worker
