from .main import callback
